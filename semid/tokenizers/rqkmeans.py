"""RQ-KMeans: residual k-means on the embeddings themselves; nothing to train by gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semid.tokenizers.base import SemanticIdTokenizer
from semid.tokenizers.kmeans import CHUNK, mean_of
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
        seed: Of the random starts.
    """

    codebook_sizes: tuple[int, ...] = (256, 256, 256)
    iterations: int = 25
    balanced: bool = False
    beam: int = 1
    seed: int = 0

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        if self.beam < 1 or (self.balanced and self.beam > 1):
            raise ValueError(
                f"expected a beam of at least 1, and of 1 if balanced, got beam={self.beam}, "
                f"balanced={self.balanced}. Choose one of the two."
            )
        mean = mean_of(embeddings)
        settings = {"iterations": self.iterations, "seed": self.seed}
        learned = {"mean": mean}
        if self.balanced:
            codebooks, prices = balanced_residual_kmeans(
                embeddings, self.codebook_sizes, **settings, origin=mean
            )
            learned |= {f"prices.{level}": price for level, price in enumerate(prices)}
        else:
            codebooks = residual_kmeans(embeddings, self.codebook_sizes, **settings, origin=mean)
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
