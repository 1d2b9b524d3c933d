"""RQ-KMeans: residual k-means on the embeddings themselves; nothing to train by gradient."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from semid.tokenizers.base import SemanticIdTokenizer
from semid.tokenizers.residual import codebooks_of, residual_codes, residual_kmeans

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
        seed: Of the random starts.
    """

    codebook_sizes: tuple[int, ...] = (256, 256, 256)
    iterations: int = 25
    seed: int = 0

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        mean = embeddings.double().mean(dim=0).float()
        codebooks = residual_kmeans(
            embeddings - mean, self.codebook_sizes, iterations=self.iterations, seed=self.seed
        )
        named = {f"codebook.{level}": codebook for level, codebook in enumerate(codebooks)}
        return {"mean": mean, **named}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return residual_codes(embeddings - learned["mean"], codebooks_of(learned))
