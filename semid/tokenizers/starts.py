"""Initial codebooks for training: clusters of the corpus, level by level on residuals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from semid.tokenizers.clustering import lloyd
from semid.tokenizers.kmeans import kmeans_plus_plus
from semid.tokenizers.residual import balanced_residual_kmeans, level_by_level, residual_kmeans

__all__ = ["STARTS", "start_codebooks"]


def start_codebooks(
    start: str, vectors: Tensor, sizes: Sequence[int], *, iterations: int, seed: int
) -> list[Tensor]:
    """Initial codebooks.

    Args:
        start: A key of `STARTS`.
        vectors: Finite float32 ``(item, dim)``, the vectors of all items.
        sizes: Codewords of each level.
        iterations: Lloyd iterations per level.
        seed: Seed of the random choices.

    Returns:
        Per level, float32 ``(code, dim)`` on the device of ``vectors``.

    Raises:
        ValueError: If a level needs more codewords than there are distinct vectors.
    """
    return STARTS[start](vectors, sizes, iterations, seed)


def _kmeans(vectors: Tensor, sizes: Sequence[int], iterations: int, seed: int) -> list[Tensor]:
    return residual_kmeans(vectors, sizes, iterations=iterations, seed=seed)


def _spread_out(vectors: Tensor, sizes: Sequence[int], iterations: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def cluster(residual: Tensor, level: int) -> tuple[Tensor, None]:
        centres = kmeans_plus_plus(residual, sizes[level], generator)
        return lloyd(residual, centres, iterations), None

    return [codebook for codebook, _ in level_by_level(vectors, sizes, cluster)]


def _balanced(vectors: Tensor, sizes: Sequence[int], iterations: int, seed: int) -> list[Tensor]:
    return balanced_residual_kmeans(vectors, sizes, iterations=iterations, seed=seed)[0]


STARTS: Mapping[str, Callable[[Tensor, Sequence[int], int, int], list[Tensor]]] = MappingProxyType(
    {"kmeans": _kmeans, "kmeans++": _spread_out, "balanced": _balanced}
)
"""By name: k-means from random items (faiss), from a k-means++ start, and with near-equal sizes."""
