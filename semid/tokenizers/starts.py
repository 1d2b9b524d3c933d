"""Where codebooks that are trained begin: clusters of the corpus, level by level on residuals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from semid.tokenizers import ranks
from semid.tokenizers.clustering import bounded_kmeans, kmeans_plus_plus, lloyd
from semid.tokenizers.residual import nearest, residual_kmeans

__all__ = ["STARTS", "start_codebooks"]


def start_codebooks(
    start: str, vectors: Tensor, sizes: Sequence[int], *, iterations: int, seed: int
) -> list[Tensor]:
    """Codebooks before training, the same on all processes.

    Args:
        start: A key of `STARTS`.
        vectors: Finite float32 ``(item, dim)``, of all items.
        sizes: Codewords of each level.
        iterations: Lloyd rounds of each level.
        seed: Of the random choices.

    Returns:
        Per level, float32 ``(code, dim)`` on the device of ``vectors``.

    Raises:
        ValueError: If a level wants more codewords than there are distinct vectors.
    """
    codebooks = STARTS[start](vectors, sizes, iterations, seed)
    ranks.spread(codebooks)
    return codebooks


def _kmeans(vectors: Tensor, sizes: Sequence[int], iterations: int, seed: int) -> list[Tensor]:
    return residual_kmeans(vectors, sizes, iterations=iterations, seed=seed)


def _spread_out(vectors: Tensor, sizes: Sequence[int], iterations: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def cluster(residual: Tensor, size: int) -> Tensor:
        return lloyd(residual, kmeans_plus_plus(residual, size, generator), iterations)

    return _level_by_level(vectors, sizes, cluster)


def _balanced(vectors: Tensor, sizes: Sequence[int], iterations: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def cluster(residual: Tensor, size: int) -> Tensor:
        items = len(residual)
        return bounded_kmeans(
            residual,
            size,
            smallest=items // size,
            largest=-(-items // size),
            iterations=iterations,
            generator=generator,
        )[0]

    return _level_by_level(vectors, sizes, cluster)


def _level_by_level(
    vectors: Tensor, sizes: Sequence[int], cluster: Callable[[Tensor, int], Tensor]
) -> list[Tensor]:
    distinct = len(torch.unique(vectors, dim=0))
    if max(sizes) > distinct:
        raise ValueError(
            f"expected at least as many distinct items as codes of a level, got {distinct} "
            f"distinct embeddings of {len(vectors)} items for codebook sizes {tuple(sizes)}. "
            f"Choose sizes of at most {distinct}."
        )
    residual, codebooks = vectors, []
    for size in sizes:
        codebooks.append(cluster(residual, size))
        residual = residual - codebooks[-1][nearest(residual, codebooks[-1])]
    return codebooks


STARTS: Mapping[str, Callable[[Tensor, Sequence[int], int, int], list[Tensor]]] = MappingProxyType(
    {"kmeans": _kmeans, "kmeans++": _spread_out, "balanced": _balanced}
)
"""By name: k-means from random items (faiss), from a k-means++ start, and with equal sizes."""
