"""RQ-KMeans: residual k-means on the embeddings, without gradient training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from semid.checks import require_bool, require_choice, require_int, require_sizes
from semid.tokenizers.base import MOST_SEED, SemanticIdTokenizer
from semid.tokenizers.kmeans import CHUNK, KMEANS_STARTS, mean_of, require_spread
from semid.tokenizers.residual import (
    balanced_residual_kmeans,
    codebooks_of,
    residual_codes,
    residual_costs,
    residual_kmeans,
)

__all__ = ["RQKMeans"]


@dataclass(kw_only=True, eq=False)
class RQKMeans(SemanticIdTokenizer):
    """One k-means per level, on the whole corpus's residuals of the previous levels.

    Vectors are centred first. This changes no distance and preserves float32 precision if all
    vectors are close together, as those of sentence encoders are.

    Attributes:
        codebook_sizes: Number of codewords per level, at most the number of distinct items; three
            of 256 as in TIGER (arXiv:2305.05065, section 3.1).
        iterations: Lloyd iterations of each level.
        balanced: Whether clusters have near-equal sizes on the fitted items. Later items are
            assigned by the same rule, independently. The aim is that of the balanced k-means in
            OneRec (arXiv:2502.18965, algorithm 1), whose greedy filling of clusters does not define
            codes for later items.
        beam: Prefixes kept while encoding; 1 takes the nearest codeword level by level. Larger
            beams give a smaller residual, see `semid.tokenizers.residual.residual_codes`, with the
            same codebooks. Incompatible with ``balanced``, which it would undo.
        start: Initialisation of each k-means: ``random``, items drawn uniformly; ``kmeans++``,
            items drawn far apart; or ``greedy_kmeans++``, the best of several candidates. See
            `semid.tokenizers.kmeans.kmeans_plus_plus`.
        seed: Seed of the random starts.
    """

    codebook_sizes: tuple[int, ...] = (256, 256, 256)
    iterations: int = 25
    balanced: bool = False
    beam: int = 1
    start: str = field(default="greedy_kmeans++", metadata={"before": "random"})
    seed: int = 0

    def __post_init__(self) -> None:
        require_sizes("codebook_sizes", self.codebook_sizes)
        require_int("iterations", self.iterations, 1)
        require_bool("balanced", self.balanced)
        require_int("beam", self.beam, 1)
        require_choice("start", self.start, KMEANS_STARTS)
        require_int("seed", self.seed, 0, MOST_SEED)
        if self.balanced and self.beam > 1:
            raise ValueError(
                f"beam must be 1 if balanced, as a larger one undoes that, got {self.beam}"
            )

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        require_spread(embeddings)
        mean = mean_of(embeddings)
        learned = {"mean": mean}
        settings: dict[str, Any] = {
            "iterations": self.iterations,
            "seed": self.seed,
            "start": self.start,
            "origin": mean,
        }
        if self.balanced:
            codebooks, prices = balanced_residual_kmeans(
                embeddings, self.codebook_sizes, **settings
            )
            learned |= {f"prices.{level}": price for level, price in enumerate(prices)}
        else:
            codebooks = residual_kmeans(embeddings, self.codebook_sizes, **settings)
        return learned | {f"codebook.{level}": book for level, book in enumerate(codebooks)}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        levels = range(len(self.codebook_sizes))
        prices = [learned[f"prices.{level}"] for level in levels] if self.balanced else None
        codes = [
            residual_codes(
                part - learned["mean"], codebooks_of(learned), beam=self.beam, prices=prices
            )
            for part in torch.split(embeddings, 16 * CHUNK)
        ]
        return torch.cat(codes)

    def _costs(self, embeddings: Tensor, prefix: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return residual_costs(embeddings - learned["mean"], prefix, codebooks_of(learned))
