"""Residual quantisation: a vector as a sum of codewords, each coding what the ones before left."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["codebooks_of", "nearest", "reconstruct", "residual_codes", "residual_kmeans"]

_CHUNK = 1 << 16
"""Rows compared with a codebook at once; bounds memory, fixed so that results do not vary."""


def nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codeword, ``argmin_k ||v - e_k||^2``; the lowest index where tied.

    Args:
        vectors: float32 ``(item, dim)``.
        codebook: float32 ``(code, dim)``.

    Returns:
        int64 ``(item,)``.
    """
    half_norms = codebook.square().sum(dim=1) / 2
    chunks = [
        (half_norms - part @ codebook.T).argmin(dim=1) for part in torch.split(vectors, _CHUNK)
    ]
    return torch.cat(chunks)


def residual_codes(vectors: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Quantise level by level, each time what the levels before left over.

    ``c[l] = argmin_k ||r[l] - e[l, k]||^2`` and ``r[l + 1] = r[l] - e[l, c[l]]`` with ``r[0]`` the
    vector (TIGER, arXiv:2305.05065, section 3.1).

    Args:
        vectors: float32 ``(item, dim)``.
        codebooks: Per level, float32 ``(code, dim)``.

    Returns:
        int64 ``(item, level)``.
    """
    residual, codes = vectors, []
    for codebook in codebooks:
        codes.append(nearest(residual, codebook))
        residual = residual - codebook[codes[-1]]
    return torch.stack(codes, dim=1)


def reconstruct(codes: Tensor, codebooks: Sequence[Tensor]) -> Tensor:
    """Sum of the codewords of each item: ``(item, level)`` codes to ``(item, dim)`` vectors."""
    return torch.stack([codebook[codes[:, level]] for level, codebook in enumerate(codebooks)]).sum(
        dim=0
    )


def residual_kmeans(
    vectors: Tensor, sizes: Sequence[int], *, iterations: int, seed: int
) -> list[Tensor]:
    """K-means on the whole corpus, then on its residuals, once for each level.

    Args:
        vectors: Finite float32 ``(item, dim)``.
        sizes: Codewords of each level.
        iterations: Lloyd iterations of each level.
        seed: Of the random start; level ``l`` uses ``seed + l``.

    Returns:
        Per level, float32 ``(code, dim)`` on the device of ``vectors``. Deterministic.

    Raises:
        ValueError: If a level wants more codewords than there are distinct vectors.
    """
    import faiss

    distinct = len({row.tobytes() for row in vectors.cpu().numpy()})
    if max(sizes) > distinct:
        raise ValueError(
            f"expected at least as many distinct items as codes of a level, got {distinct} "
            f"distinct embeddings of {len(vectors)} items for codebook sizes {tuple(sizes)}. "
            f"Choose sizes of at most {distinct}."
        )
    residual, codebooks = vectors, []
    for level, size in enumerate(sizes):
        kmeans = faiss.Kmeans(
            vectors.shape[1],
            size,
            niter=iterations,
            seed=seed + level,
            min_points_per_centroid=1,
            max_points_per_centroid=len(vectors),
        )
        kmeans.train(residual.cpu().numpy())
        centroids = np.array(kmeans.centroids, dtype=np.float32)
        codebooks.append(torch.from_numpy(centroids).to(vectors.device))
        residual = residual - codebooks[-1][nearest(residual, codebooks[-1])]
    return codebooks


def codebooks_of(learned: dict[str, Tensor]) -> list[Tensor]:
    """Codebooks saved as ``codebook.<level>``, in level order."""
    count = sum(name.startswith("codebook.") for name in learned)
    return [learned[f"codebook.{level}"] for level in range(count)]
