"""Controls: schemes that ignore item content, as baselines for real ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semid.checks import require_int, require_sizes
from semid.tokenizers.base import MOST_SEED, SemanticIdTokenizer
from semid.tokenizers.content import mix, row_hashes

__all__ = ["AtomicTokenizer", "RandomTokenizer"]


@dataclass(kw_only=True, eq=False)
class RandomTokenizer(SemanticIdTokenizer):
    """Uniform random codes ("Random ID", TIGER, arXiv:2305.05065, section 4.3).

    A code is a hash of the seed, the level and the bytes of the item's embedding
    (`semid.tokenizers.content.row_hashes`): independent of item order, other items and platform,
    and unrelated for similar items. Equal embeddings have equal codes; other collisions occur by
    chance.

    Attributes:
        codebook_sizes: Number of codes of each level, below 2^31.
        seed: Seed of the hash.
    """

    codebook_sizes: tuple[int, ...] = (256, 256, 256)
    seed: int = 0

    def __post_init__(self) -> None:
        require_sizes("codebook_sizes", self.codebook_sizes)
        require_int("seed", self.seed, 0, MOST_SEED)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        items = row_hashes(embeddings, seed=self.seed)
        draws = [mix(items + level) for level in range(1, len(self.codebook_sizes) + 1)]
        uniform = torch.stack(draws, dim=1) >> 32 & (1 << 32) - 1  # 32 bits
        return uniform * torch.tensor(self.codebook_sizes, device=embeddings.device) >> 32


@dataclass(kw_only=True, eq=False)
class AtomicTokenizer(SemanticIdTokenizer):
    """One level with a separate code for every distinct embedding: plain item ids.

    Codes are numbered in the order of a hash of the embedding's bytes, so they do not depend on the
    order of the items. Equal embeddings have equal codes.

    Attributes:
        codebook_sizes: The number of distinct embeddings, once fitted.
    """

    @property
    def codebook_sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        """The number of distinct embeddings, as the only level.

        Raises:
            NotFittedError: Before `fit` or `from_pretrained`.
        """
        return (len(self.learned["hashes"]),)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {"hashes": torch.unique(row_hashes(embeddings))}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        known, items = learned["hashes"], row_hashes(embeddings)
        codes = torch.searchsorted(known, items).clamp_max(len(known) - 1)
        unseen = (known[codes] != items).nonzero()[:, 0].tolist()
        if unseen:
            raise ValueError(
                f"expected embeddings that the tokenizer was fitted on, got {len(unseen)} others, "
                f"first in row {unseen[0]}. Atomic ids know only their own items: fit again, or "
                "choose another scheme for new items."
            )
        return codes[:, None]
