"""K-means: Lloyd iterations, and clusters of bounded sizes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from semid.tokenizers.kmeans import cluster_means, kmeans_plus_plus, nearest, squared_distances

__all__ = ["bounded_assignment", "bounded_kmeans", "lloyd"]


@torch.no_grad()
def lloyd(
    vectors: Tensor,
    centres: Tensor,
    iterations: int,
    assign: Callable[[Tensor, Tensor], Tensor] = nearest,
) -> Tensor:
    """Move each centre to the mean of its items, ``iterations`` times; empty ones stay.

    Args:
        vectors: float32 ``(item, dim)``.
        centres: float32 ``(code, dim)``, the initial centres.
        iterations: Number of rounds.
        assign: Maps vectors and centres to the centre of each item, int64 ``(item,)``.

    Returns:
        float32 ``(code, dim)``.
    """
    for _ in range(iterations):
        centres = cluster_means(vectors, assign(vectors, centres), centres)
    return centres


def bounded_assignment(costs: Tensor, smallest: int, largest: int) -> Tensor:
    """Assign items to clusters of ``smallest`` to ``largest`` items.

    Deferred acceptance (Gale and Shapley, 1962): items propose to clusters in order of cost, a full
    cluster keeps the nearest ones, and rejected items propose to the next. Clusters are filled to
    ``smallest`` first, then to ``largest``. The matching is stable and near, though not always at,
    the least cost.

    Args:
        costs: Finite float ``(item, cluster)``.
        smallest: Minimum cluster size; at most ``item // cluster``.
        largest: Maximum cluster size; at least ``item / cluster``.

    Returns:
        int64 ``(item,)``. Deterministic.

    Raises:
        ValueError: If no assignment satisfies the bounds.
    """
    num_items, num_clusters = costs.shape
    if not smallest * num_clusters <= num_items <= largest * num_clusters:
        raise ValueError(
            f"expected bounds that {num_items} items in {num_clusters} clusters can keep, got "
            f"{smallest} to {largest} items each. Choose bounds around {num_items / num_clusters}."
        )
    cluster = _match(costs, smallest)
    rest = (cluster < 0).nonzero()[:, 0]
    cluster[rest] = _match(costs[rest], largest - smallest)
    return cluster


def _match(costs: Tensor, room: int) -> Tensor:
    """Deferred acceptance with equal capacity per cluster; -1 if every cluster is full."""
    num_items, num_clusters = costs.shape
    cluster = torch.full((num_items,), -1, dtype=torch.int64, device=costs.device)
    if room == 0 or num_items == 0:
        return cluster
    preferred = costs.argsort(dim=1, stable=True)
    asked = torch.zeros_like(cluster)
    items = torch.arange(num_items, device=costs.device)
    while True:
        asking = ((cluster < 0) & (asked < num_clusters)).nonzero()[:, 0]
        if not len(asking):
            return cluster
        cluster[asking] = preferred[asking, asked[asking]]
        asked[asking] += 1
        held = items[cluster >= 0]
        held = held[costs[held, cluster[held]].argsort(stable=True)]
        held = held[cluster[held].argsort(stable=True)]  # by cluster, the nearest first
        sizes = torch.bincount(cluster[held], minlength=num_clusters)
        first = (sizes.cumsum(dim=0) - sizes)[cluster[held]]
        place = torch.arange(len(held), device=costs.device) - first
        cluster[held[place >= room]] = -1


def bounded_kmeans(
    vectors: Tensor,
    num_clusters: int,
    *,
    smallest: int,
    largest: int,
    iterations: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """K-means with a k-means++ start and clusters of bounded sizes.

    Args:
        vectors: float32 ``(item, dim)``.
        num_clusters: Number of clusters.
        smallest: As in `bounded_assignment`.
        largest: As in `bounded_assignment`.
        iterations: Lloyd iterations.
        generator: On the CPU.

    Returns:
        Centres float32 ``(cluster, dim)`` and the cluster of each item, int64 ``(item,)``.

    Raises:
        ValueError: If no clustering satisfies the bounds.
    """

    def assign(vectors: Tensor, centres: Tensor) -> Tensor:
        return bounded_assignment(squared_distances(vectors, centres), smallest, largest)

    start = kmeans_plus_plus(vectors, num_clusters, generator)
    centres = lloyd(vectors, start, iterations, assign)
    return centres, assign(vectors, centres)
