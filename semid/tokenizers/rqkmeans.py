"""RQ-KMeans: residual k-means on the embeddings themselves; nothing to train by gradient."""

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
    """One k-means for each level, on what the levels before left over of the whole corpus.

    Vectors are centred first. That changes no distance, and keeps float32 exact enough where all
    vectors lie close together, as those of sentence encoders do.

    Attributes:
        codebook_sizes: Codewords of each level; three of 256 as in TIGER (arXiv:2305.05065,
            section 3.1). At most the number of distinct items.
        iterations: Lloyd iterations of each level.
        balanced: Whether the clusters of each level get near-equal numbers of the items it is
            fitted on. Later items are assigned by the same rule, each by itself. The aim is that of
            the balanced k-means in OneRec (arXiv:2502.18965, algorithm 1), whose greedy filling of
            one cluster after another says nothing of later items.
        beam: Prefixes kept while encoding; 1 takes the nearest codeword level by level. With more,
            codes leave less of each vector over, see `semid.tokenizers.residual.residual_codes`.
            The codebooks are the same. Not together with ``balanced``, which it would undo.
        start: Where each k-means begins: ``random``, from items drawn evenly; ``kmeans++``, from
            items drawn far apart; or ``greedy_kmeans++``, the best of several of these. See
            `semid.tokenizers.kmeans.kmeans_plus_plus`.
        seed: Of the random starts.
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
