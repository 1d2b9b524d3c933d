"""K-means over all items, and nearest-codeword search."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.tokenizers.content import distinct_rows, one_of_each

__all__ = [
    "CHUNK",
    "KMEANS_STARTS",
    "TILE",
    "Scores",
    "argmin",
    "cluster_means",
    "kmeans",
    "kmeans_plus_plus",
    "mean_of",
    "nearest",
    "require_distinct",
    "require_spread",
    "row_chunks",
    "squared_distances",
]

logger = logging.getLogger(__name__)

KMEANS_STARTS = ("random", "kmeans++", "greedy_kmeans++")
"""Initialisations of `kmeans`."""

CHUNK = 1 << 11
"""Rows compared with a codebook at once, so that their scores fit in the cache."""

TILE = 64
"""Minimum rows of a matrix product: with fewer, a row may be rounded differently."""

SMALLEST_SPREAD = 1e-10
"""Smallest spread of vectors in some dimension, since their residuals must be squared too."""

_SAMPLED = 1 << 12
"""Rows sampled to estimate the median."""

_OUTLIER = 100.0
"""Distance from the median, in median distances, from which a row is an outlier."""

_BURIES = 1e6
"""Distance, in median distances, at which rounding to float32 erases the other rows."""

_ONE_IN = 20
"""Outliers are at most one row in this many; otherwise they count as a second group of rows."""

_FEW = 4
"""Threads up to which numpy's single-threaded argmin is faster than torch's."""


def row_chunks(vectors: Tensor, size: int = CHUNK) -> Iterator[Tensor]:
    """Chunks of rows for matrix products, the last padded with zeros to a whole tile.

    So the products of a row are bit-identical whatever the other rows, and an item's codes do not
    depend on its batch.
    """
    for part in torch.split(vectors, size):
        missing = -len(part) % TILE
        yield F.pad(part, (0, 0, 0, missing)) if missing else part


def argmin(scores: Tensor) -> Tensor:
    """Index of the minimum of each row, int64; the first in case of ties."""
    if scores.device.type == "cpu" and torch.get_num_threads() <= _FEW:
        return torch.from_numpy(scores.numpy().argmin(axis=1))
    return scores.min(dim=1).indices


class Scores:
    """Half the squared distances up to a constant per row, in a reused buffer.

    Mapping fresh memory of that size would take longer than computing the scores.

    Args:
        like: A tensor on the device of all later vectors.
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
    """Index of the nearest codeword, ``argmin_k ||v - e_k||^2 + price_k``; the lowest if tied.

    Args:
        vectors: float32 ``(item, dim)``.
        codebook: float32 ``(code, dim)``.
        prices: float32 ``(code,)``, from `semid.tokenizers.balanced`; none by default.

    Returns:
        int64 ``(item,)``.
    """
    offsets = codebook.square().sum(dim=1)
    if prices is not None:
        offsets = offsets + prices
    room = Scores(vectors)
    found = [argmin(room.of(part, codebook, offsets / 2)) for part in row_chunks(vectors)]
    return torch.cat(found)[: len(vectors)]


def squared_distances(vectors: Tensor, codebook: Tensor, *, norms: Tensor | None = None) -> Tensor:
    """``||v - e||^2`` for every vector and codeword, float32 ``(item, code)``, at least 0.

    Args:
        vectors: float32 ``(item, dim)``.
        codebook: float32 ``(code, dim)``.
        norms: ``||v||^2``, float32 ``(item, 1)``, if already computed.
    """
    products = [part @ codebook.T for part in row_chunks(vectors)]
    products_of_items = torch.cat(products)[: len(vectors)]
    if norms is None:
        norms = vectors.square().sum(dim=1, keepdim=True)
    norms = norms + codebook.square().sum(dim=1)
    return torch.add(norms, products_of_items, alpha=-2).clamp_min(0)


def kmeans(
    vectors: Tensor, size: int, *, iterations: int, seed: int, start: str = "random"
) -> Tensor:
    """Codewords from k-means on all vectors; deterministic.

    If there are no more distinct vectors than codewords, the distinct vectors, repeated in row
    order, are the codewords: this is optimal, and Lloyd iterations might leave one without items.

    Args:
        vectors: Finite float32 ``(item, dim)``, at least as many as codewords.
        size: Number of codewords.
        iterations: Lloyd iterations.
        seed: Of the random start.
        start: One of `KMEANS_STARTS`: items drawn uniformly, or by `kmeans_plus_plus` with one or
            ``2 + log(size)`` candidates.

    Returns:
        float32 ``(code, dim)`` on the device of ``vectors``.
    """
    if (rows := one_of_each(vectors, most=size)) is not None:
        return vectors[rows[torch.arange(size, device=rows.device) % len(rows)]]
    import faiss

    centres = None
    if start != "random":
        tries = 1 if start == "kmeans++" else 2 + int(math.log(size))
        generator = torch.Generator().manual_seed(seed)
        centres = kmeans_plus_plus(vectors, size, generator, tries=tries).cpu().numpy()
    clustering = faiss.Kmeans(
        vectors.shape[1],
        size,
        niter=iterations,
        seed=seed % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    clustering.train(vectors.cpu().numpy(), init_centroids=centres)
    return torch.from_numpy(np.array(clustering.centroids, dtype=np.float32)).to(vectors.device)


@torch.no_grad()
def kmeans_plus_plus(
    vectors: Tensor, count: int, generator: torch.Generator, *, tries: int = 1
) -> Tensor:
    """Initial centres, each an item drawn by its squared distance to the nearest previous one.

    Arthur and Vassilvitskii, "k-means++", SODA 2007, section 2.2. If every item already equals a
    centre, the rest are drawn uniformly. With several tries this is the greedy variant of their
    closing remarks: of that many candidates, the one that minimises the sum of squares.

    Args:
        vectors: float32 ``(item, dim)``.
        count: Number of centres.
        generator: On the CPU.
        tries: Candidates drawn for each centre but the first.

    Returns:
        float32 ``(code, dim)``, rows of ``vectors``.
    """
    norms = vectors.square().sum(dim=1, keepdim=True)
    chosen = torch.randint(len(vectors), (1,), generator=generator).to(vectors.device)
    centres = [vectors[chosen]]
    squared = squared_distances(vectors, centres[0], norms=norms)[:, 0]
    drawn = torch.rand(count - 1, tries, generator=generator, dtype=torch.float64)
    for draws in drawn.to(vectors.device):
        mass = squared.double().cumsum(dim=0)
        if float(mass[-1]) > 0:
            chosen = torch.searchsorted(mass, mass[-1] * draws, right=True)
        else:
            chosen = (draws * len(vectors)).long()
        candidates = vectors[chosen.clamp_max(len(vectors) - 1)]
        left = squared_distances(vectors, candidates, norms=norms).minimum(squared[:, None])
        best = int(left.sum(dim=0, dtype=torch.float64).argmin())
        centres.append(candidates[best : best + 1])
        squared = left[:, best].contiguous()
    return torch.cat(centres)


def cluster_means(vectors: Tensor, codes: Tensor, codebook: Tensor) -> Tensor:
    """Mean of each cluster, float32 ``(code, dim)``; an empty cluster keeps its codeword."""
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
    """Raise if a level needs more codewords than there are distinct vectors.

    Raises:
        ValueError: Also if a level has no codes.
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


def require_spread(vectors: Tensor, *, what: str = "embeddings") -> None:
    """Raise if float32 cannot resolve the vectors' squared distances, and warn of outliers.

    An outlier is at least 100 times as far from the median vector as half of all vectors, and
    outliers are at most one in twenty. Each takes a codeword for itself; one a million times as far
    moves the mean so far that centring erases the others.

    Args:
        vectors: Finite float32 ``(item, dim)``.
        what: Name of the vectors in the error.

    Raises:
        ValueError: If they differ, but by less than ``SMALLEST_SPREAD``, or if an outlier is too
            far out; its row is named.
    """
    low, high = vectors.aminmax(dim=0)
    spread = float((high - low).max())
    if 0 < spread < SMALLEST_SPREAD:
        raise ValueError(
            f"expected {what} that differ by at least {SMALLEST_SPREAD:g} in some dimension, got "
            f"{spread:g}, whose square float32 rounds away. Where equal texts differ by rounding "
            "alone, take other fields. Multiply all of them by one number otherwise, which changes "
            "no code."
        )
    median = vectors[:: -(-len(vectors) // _SAMPLED)].median(dim=0).values
    far = torch.cat([(part - median).norm(dim=1) for part in torch.split(vectors, CHUNK)])
    usual = float(far.median())
    outliers = (far > _OUTLIER * usual).nonzero()[:, 0]
    if not usual or not len(outliers) or len(outliers) * _ONE_IN > len(vectors):
        return
    first = outliers[0]
    outlying = (
        f"{len(outliers)} of {len(vectors)} {what} are outliers: row {int(first)} lies "
        f"{float(far[first]) / usual:.3g} times as far from the median as half of all rows do"
    )
    if float(far.max()) > _BURIES * usual:
        raise ValueError(
            f"{outlying}, and float32 leaves nothing of the others. Repair or remove it."
        )
    logger.warning("%s; each takes a code for itself", outlying)
