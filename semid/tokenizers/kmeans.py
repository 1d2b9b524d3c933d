"""K-means over all items, and the nearest codeword."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.tokenizers.content import distinct_rows

__all__ = [
    "CHUNK",
    "TILE",
    "Scores",
    "argmin",
    "cluster_means",
    "kmeans",
    "mean_of",
    "nearest",
    "require_distinct",
    "row_chunks",
    "squared_distances",
]

CHUNK = 1 << 11
"""Rows compared with a codebook at once, so that their scores stay in the cache."""

TILE = 64
"""Matrix products round a row alike in any larger number of rows, but not in a handful."""

_FEW = 4
"""Threads up to which numpy's search for the least, on one, is faster than torch's on all."""


def row_chunks(vectors: Tensor, size: int = CHUNK) -> Iterator[Tensor]:
    """Chunks of rows for matrix products, the last filled up with zeros to a whole tile.

    So the products of a row are the same bits whatever rows stand around it, and an item's codes
    do not depend on the batch that it is encoded in.
    """
    for part in torch.split(vectors, size):
        missing = -len(part) % TILE
        yield F.pad(part, (0, 0, 0, missing)) if missing else part


def argmin(scores: Tensor) -> Tensor:
    """Place of the least of each row, int64; the first where tied."""
    if scores.device.type == "cpu" and torch.get_num_threads() <= _FEW:
        return torch.from_numpy(scores.numpy().argmin(axis=1))
    return scores.min(dim=1).indices


class Scores:
    """Half the squared distances, less what is the same for all codewords, in memory used again.

    Fresh memory of that size would take longer to map than the scores take to compute.

    Args:
        like: Of the device of all vectors to come.
    """

    def __init__(self, like: Tensor) -> None:
        self._room = like.new_empty(0)

    def of(self, vectors: Tensor, codebook: Tensor, offsets: Tensor) -> Tensor:
        """``offsets - vectors @ codebook.T``, float32 ``(item, code)``, until the next call."""
        shape = (len(vectors), len(codebook))
        if self._room.numel() < shape[0] * shape[1]:
            self._room = vectors.new_empty(shape[0] * shape[1])
        scores = self._room[: shape[0] * shape[1]].view(shape)
        return torch.addmm(offsets, vectors, codebook.T, alpha=-1, out=scores)


@torch.no_grad()
def nearest(vectors: Tensor, codebook: Tensor, *, prices: Tensor | None = None) -> Tensor:
    """Index of the nearest codeword, ``argmin_k ||v - e_k||^2 + price_k``; the lowest where tied.

    Args:
        vectors: float32 ``(item, dim)``.
        codebook: float32 ``(code, dim)``.
        prices: float32 ``(code,)``, of `semid.tokenizers.balanced`; none by default.

    Returns:
        int64 ``(item,)``.
    """
    offsets = codebook.square().sum(dim=1)
    if prices is not None:
        offsets = offsets + prices
    room = Scores(vectors)
    found = [argmin(room.of(part, codebook, offsets / 2)) for part in row_chunks(vectors)]
    return torch.cat(found)[: len(vectors)]


def squared_distances(vectors: Tensor, codebook: Tensor) -> Tensor:
    """``||v - e||^2`` of every vector and codeword, float32 ``(item, code)``, never below 0."""
    products = [part @ codebook.T for part in row_chunks(vectors)]
    products_of_items = torch.cat(products)[: len(vectors)]
    norms = vectors.square().sum(dim=1, keepdim=True) + codebook.square().sum(dim=1)
    return torch.add(norms, products_of_items, alpha=-2).clamp_min(0)


def kmeans(vectors: Tensor, size: int, *, iterations: int, seed: int) -> Tensor:
    """Codewords of a k-means on all vectors; deterministic.

    Args:
        vectors: Finite float32 ``(item, dim)``, at least as many as codewords.
        size: Number of codewords.
        iterations: Of Lloyd's algorithm.
        seed: Of the random start.

    Returns:
        float32 ``(code, dim)`` on the device of ``vectors``.
    """
    import faiss

    clustering = faiss.Kmeans(
        vectors.shape[1],
        size,
        niter=iterations,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    clustering.train(vectors.cpu().numpy())
    return torch.from_numpy(np.array(clustering.centroids, dtype=np.float32)).to(vectors.device)


def cluster_means(vectors: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """Mean of each cluster, float32 ``(code, dim)``; the codeword as it was where it is empty."""
    sums = torch.zeros(codebook.shape, dtype=torch.float64, device=vectors.device)
    for part, part_codes in zip(
        torch.split(vectors, CHUNK), torch.split(codes, CHUNK), strict=True
    ):
        sums.index_add_(0, part_codes, part.double())
    counts = torch.bincount(codes, minlength=len(codebook))[:, None]
    return torch.where(counts > 0, sums / counts.clamp_min(1), codebook).float()


def mean_of(vectors: Tensor) -> Tensor:
    """Mean vector, float32 ``(dim,)``, summed in float64 without a copy of ``(item, dim)``."""
    sums = [part.double().sum(dim=0) for part in torch.split(vectors, CHUNK)]
    return (torch.stack(sums).sum(dim=0) / len(vectors)).float()


def require_distinct(vectors: Tensor, sizes: Sequence[int], *, what: str = "embeddings") -> None:
    """Refuse levels that want more codewords than there are distinct vectors.

    Raises:
        ValueError: Also where a level wants no code at all.
    """
    if not sizes or min(sizes) < 1:
        raise ValueError(
            f"expected levels of at least one code, got codebook sizes {tuple(sizes)}. "
            "Name one size for each level."
        )
    distinct = distinct_rows(vectors, enough=max(sizes))
    if max(sizes) > distinct:
        raise ValueError(
            f"expected at least as many distinct items as codes of a level, got {distinct} "
            f"distinct {what} of {len(vectors)} items for codebook sizes {tuple(sizes)}. "
            f"Choose sizes of at most {distinct}."
        )
