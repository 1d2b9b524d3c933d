"""K-means with clusters of near-equal size that can assign any single vector."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from semid.tokenizers.content import distinct_rows
from semid.tokenizers.kmeans import CHUNK, argmin, cluster_means, kmeans, squared_distances

__all__ = ["balanced_kmeans"]

_SLACK = 1.05
"""Maximum cluster size relative to an equal share of the items."""

_RAISES, _LAST_RAISES = 10, 200
"""Price updates per set of means, and at most for the last set."""

_DECAY = 0.9
"""Share of the prices carried over to the next means, so that an emptied cluster can refill."""


def balanced_kmeans(
    vectors: Tensor, size: int, *, iterations: int, seed: int, start: str = "random"
) -> tuple[Tensor, Tensor]:
    """Codewords with prices under which clusters have near-equal sizes.

    The least-squares assignment to clusters of given sizes is a power diagram: every vector goes
    to ``argmin_k ||v - e_k||^2 + price_k`` (Aurenhammer, Hoffmann and Aronov, "Minkowski-type
    theorems and least-squares clustering", Algorithmica 20, 1998). So sizes are balanced, yet every
    vector, even a new one, is assigned independently. Prices are found as in an auction (Bertsekas,
    Annals of Operations Research 14, 1988): oversized clusters raise their prices, each by as much
    as makes its own excess leave or all by as much as makes their total excess leave, whichever is
    more. Starts from a plain `kmeans`, which is returned if every distinct vector has its own
    codeword.

    The target for the largest cluster is 1.05 times an equal share, which is nearly reached unless
    most vectors lie in one cloud far denser than the rest. The smallest size is not bounded. Equal
    vectors stay in one cluster.

    Args:
        vectors: Finite float32 ``(item, dim)``, at least as many as codewords.
        size: Number of codewords.
        iterations: Lloyd iterations, first without and then with prices.
        seed: Seed of the random start.
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
    """The best prices over some updates (smallest largest cluster), and their codes."""
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
    """Each vector's cluster, and by how much its price can rise before another is as good."""
    codes, margins = [], []
    for part in torch.split(vectors, CHUNK):
        costs = squared_distances(part, codebook) + prices
        codes.append(argmin(costs))
        chosen = codes[-1][:, None]
        least = costs.gather(1, chosen)[:, 0]
        margins.append(costs.scatter_(1, chosen, torch.inf).amin(dim=1) - least)
    return torch.cat(codes), torch.cat(margins)


def _raise(codes: Tensor, margins: Tensor, counts: Tensor, most: int) -> Tensor:
    """Price rises midway between the margins of the last vector to leave and the first to stay."""
    order = torch.argsort(margins, stable=True)
    order = order[torch.argsort(codes[order], stable=True)]
    sorted_margins = margins[order]
    full = (counts > most).nonzero()[:, 0]
    stays = (counts.cumsum(0) - most)[full]  # index of the first to stay: `most` before the end
    rises = torch.zeros(len(counts), dtype=margins.dtype, device=margins.device)
    rises[full] = (sorted_margins[stays - 1] + sorted_margins[stays]) / 2
    return rises


def _raise_together(
    vectors: Tensor, codebook: Tensor, prices: Tensor, codes: Tensor, full: Tensor, most: int
) -> Tensor:
    """A common rise of all full clusters after which the others absorb their excess."""
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
