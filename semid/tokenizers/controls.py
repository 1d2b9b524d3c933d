"""Controls: schemes that know nothing of the items, to show what a real one is worth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semid.tokenizers.base import SemanticIdTokenizer

__all__ = ["RandomTokenizer"]


@dataclass(kw_only=True, eq=False)
class RandomTokenizer(SemanticIdTokenizer):
    """Uniform random codes ("Random ID", TIGER, arXiv:2305.05065, section 4.3).

    A code depends on the seed and the item's row alone, never on its embedding. Collisions are as
    rare as chance makes them; an extra level separates those.

    Attributes:
        codebook_sizes: Codes of each level.
        seed: Of the draw.
    """

    codebook_sizes: tuple[int, ...] = (256, 256, 256)
    seed: int = 0

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        return {}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        uniform = torch.rand(
            len(embeddings), len(self.codebook_sizes), generator=generator, dtype=torch.float64
        )
        codes = (uniform * torch.tensor(self.codebook_sizes)).long()
        return codes.to(embeddings.device)
