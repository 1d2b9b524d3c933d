"""K-means with clusters of near-equal size, whose rule assigns any vector by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semid.tokenizers.content import distinct_rows
from semid.tokenizers.kmeans import CHUNK, argmin, cluster_means, kmeans, squared_distances

__all__ = ["balanced_kmeans"]

_SLACK = 1.05
"""Items a cluster may hold, over an equal share of them."""

_RAISES, _LAST_RAISES = 10, 200
"""Rounds of raising prices for each set of means, and at most for the last."""

_DECAY = 0.9
"""Part of the prices that the next means start from, so that an emptied cluster fills again."""


def balanced_kmeans(
    vectors: Tensor, size: int, *, iterations: int, seed: int, start: str = "random"
) -> tuple[Tensor, Tensor]:
    """Codewords, and a price for each under which clusters have near-equal sizes.

    The least-squares assignment to clusters of given sizes is a power diagram: every vector goes
    to ``argmin_k ||v - e_k||^2 + price_k`` (Aurenhammer, Hoffmann and Aronov, "Minkowski-type
    theorems and least-squares clustering", Algorithmica 20, 1998). So sizes can be held
    and yet every vector, also a new one, is assigned by itself. Prices are found as in an auction
    (Bertsekas, Annals of Operations Research 14, 1988): clusters over their share raise their
    prices, each by as much as makes its excess leave, or all together by as much as makes the
    excess of all leave, whichever is more. Starts from a plain `kmeans`, which is the end of it
    where each distinct vector has a codeword of its own.

    The largest cluster is meant to have 1.05 times an equal share. It comes near, though not where
    most vectors lie in one cloud far denser than the rest; nothing holds the smallest, where
    vectors lie alone. Equal vectors stay in one cluster.

    Args:
        vectors: Finite float32 ``(item, dim)``, at least as many as codewords.
        size: Number of codewords.
        iterations: Of Lloyd's algorithm, plain and then with prices.
        seed: Of the random start.
        start: As in `kmeans`.

    Returns:
        Codewords float32 ``(code, dim)`` and prices ``(code,)``, at least 0, on the device of
        ``vectors``. Deterministic.
    """
    codebook = kmeans(vectors, size, iterations=iterations, seed=seed, start=start)
    prices = codebook.new_zeros(size)
    if distinct_rows(vectors, enough=size + 1) <= size:
        return codebook, prices
    most = math.ceil(len(vectors) / size * _SLACK)
    for _ in range(iterations):
        prices, codes = _balanced(vectors, codebook, _DECAY * prices, most, _RAISES)
        codebook = cluster_means(vectors, codes, codebook)
    prices, _ = _balanced(vectors, codebook, torch.zeros_like(prices), most, _LAST_RAISES)
    return codebook, prices


def _balanced(
    vectors: Tensor, codebook: Tensor, prices: Tensor, most: int, raises: int
) -> tuple[Tensor, Tensor]:
    """Of the prices that some raises lead to, those of the smallest largest cluster; the codes."""
    best, best_codes, fewest = prices, None, len(vectors) + 1
    for raised in range(raises + 1):
        codes, margins = _bids(vectors, codebook, prices)
        counts = torch.bincount(codes, minlength=len(codebook))
        largest = int(counts.max())
        if largest < fewest:
            best, best_codes, fewest = prices, codes, largest
        if largest <= most or raised == raises:
            break
        full = counts > most
        alone = _raise(codes, margins, counts, most)
        together = _raise_together(vectors, codebook, prices, codes, full, most)
        prices = prices + torch.where(full, alone.maximum(together), 0)
    assert best_codes is not None
    return best, best_codes


def _bids(vectors: Tensor, codebook: Tensor, prices: Tensor) -> tuple[Tensor, Tensor]:
    """Each vector's cluster, and how much its price may rise before another is as good."""
    codes, margins = [], []
    for part in torch.split(vectors, CHUNK):
        costs = squared_distances(part, codebook) + prices
        codes.append(argmin(costs))
        chosen = codes[-1][:, None]
        least = costs.gather(1, chosen)[:, 0]
        margins.append(costs.scatter_(1, chosen, torch.inf).amin(dim=1) - least)
    return torch.cat(codes), torch.cat(margins)


def _raise(codes: Tensor, margins: Tensor, counts: Tensor, most: int) -> Tensor:
    """Half-way between the margins of the last vector to leave a cluster and the first to stay."""
    order = torch.argsort(margins, stable=True)
    order = order[torch.argsort(codes[order], stable=True)]
    sorted_margins = margins[order]
    full = (counts > most).nonzero()[:, 0]
    stays = (counts.cumsum(0) - most)[full]  # place of the first to stay: `most` before the end
    rises = torch.zeros(len(counts), dtype=margins.dtype, device=margins.device)
    rises[full] = (sorted_margins[stays - 1] + sorted_margins[stays]) / 2
    return rises


def _raise_together(
    vectors: Tensor, codebook: Tensor, prices: Tensor, codes: Tensor, full: Tensor, most: int
) -> Tensor:
    """The one raise of all full clusters after which others hold what is too much for them."""
    margins = []
    chunks = zip(torch.split(vectors, CHUNK), torch.split(codes, CHUNK), strict=True)
    for part, part_codes in chunks:
        inside = full[part_codes]
        costs = squared_distances(part[inside], codebook) + prices
        least = costs.gather(1, part_codes[inside][:, None])[:, 0]
        margins.append(costs[:, ~full].amin(dim=1) - least)
    sorted_margins = torch.cat(margins).sort().values
    leave = len(sorted_margins) - int(full.sum()) * most
    return (sorted_margins[leave - 1] + sorted_margins[leave]) / 2
