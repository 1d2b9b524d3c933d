"""K-means of our own: distances, starts, rounds, and clusters of bounded sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semid.tokenizers.clustering import (
    bounded_assignment,
    bounded_kmeans,
    lloyd,
)
from semid.tokenizers.kmeans import kmeans_plus_plus, squared_distances
from semid.tokenizers.residual import nearest


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 2**31), st.booleans())
def test_sizes_keep_their_bounds(items: int, clusters: int, seed: int, ties: bool) -> None:
    costs = torch.rand(items, clusters, generator=generator(seed))
    costs = costs.round() if ties else costs
    smallest, largest = items // clusters, -(-items // clusters)
    for low, high in ((smallest, largest), (smallest // 2, largest * 2), (0, items)):
        cluster = bounded_assignment(costs, low, high)
        sizes = torch.bincount(cluster, minlength=clusters)
        assert sizes.sum() == items
        assert sizes.min() >= low
        assert sizes.max() <= high


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), st.integers(2, 6), st.integers(0, 2**31))
def test_no_item_would_be_taken_by_a_cluster_it_prefers(
    items: int, clusters: int, seed: int
) -> None:
    costs = torch.rand(items, clusters, generator=generator(seed))
    largest = -(-items // clusters) + 1
    cluster = bounded_assignment(costs, 0, largest)
    for item in range(items):
        for other in range(clusters):
            if costs[item, other] < costs[item, cluster[item]]:
                held = costs[cluster == other, other]
                assert len(held) == largest
                assert (held <= costs[item, other]).all()


def test_bounds_that_bind_nothing_leave_each_item_at_its_nearest() -> None:
    vectors, centres = torch.randn(50, 3, generator=generator()), torch.randn(4, 3)
    found = bounded_assignment(squared_distances(vectors, centres), 0, 50)
    assert found.equal(nearest(vectors, centres))


def test_bounds_that_no_clusters_keep_are_refused() -> None:
    with pytest.raises(ValueError, match=r"5 items in 2 clusters can keep, got 3 to 4.*around 2.5"):
        bounded_assignment(torch.rand(5, 2), 3, 4)
    with pytest.raises(ValueError, match="got 0 to 2"):
        bounded_assignment(torch.rand(5, 2), 0, 2)


def test_starts_are_items_and_distinct_while_there_are_distinct_ones() -> None:
    vectors = torch.arange(6.0).repeat(5)[:, None]
    assert sorted(kmeans_plus_plus(vectors, 6, generator())[:, 0].tolist()) == [0, 1, 2, 3, 4, 5]
    assert set(kmeans_plus_plus(vectors, 9, generator())[:, 0].tolist()) == set(range(6))


def test_a_start_is_drawn_by_its_squared_distance() -> None:
    vectors = torch.tensor([[0.0], [1.0], [3.0]])
    draws = [kmeans_plus_plus(vectors, 2, generator(seed))[:, 0].tolist() for seed in range(900)]
    second = [later for first, later in draws if first == 0]
    assert second.count(3.0) / len(second) == pytest.approx(0.9, abs=0.05)
    assert 0.0 not in second


def test_rounds_of_lloyd_leave_less_over_and_a_centre_without_items_in_place() -> None:
    vectors = torch.randn(200, 4, generator=generator())
    centres = torch.cat([vectors[:7], torch.full((1, 4), 99.0)])
    errors = []
    for rounds in range(5):
        moved = lloyd(vectors, centres, rounds)
        errors.append(float(squared_distances(vectors, moved).amin(dim=1).sum()))
        assert moved[-1].tolist() == [99.0] * 4
    assert errors == sorted(errors, reverse=True)
    one = lloyd(vectors, centres, 1)
    cluster = nearest(vectors, centres)
    torch.testing.assert_close(one[2], vectors[cluster == 2].mean(dim=0))


def test_bounded_kmeans_finds_planted_clusters_of_equal_size() -> None:
    planted = torch.arange(4).repeat_interleave(10)
    vectors = 50 * torch.eye(4)[planted] + torch.randn(40, 4, generator=generator())
    centres, cluster = bounded_kmeans(
        vectors, 4, smallest=10, largest=10, iterations=5, generator=generator()
    )
    assert centres.shape == (4, 4)
    assert len(torch.unique(torch.stack([planted, cluster]), dim=1).T) == 4
