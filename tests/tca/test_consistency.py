from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tca.consistency import (
    Correlation,
    collaborative_consistency,
    hit_disagreement,
    overlap_at_k,
    rank_correlation,
)


def test_consistency_is_the_share_of_equal_first_items() -> None:
    ours, teacher = torch.tensor([3, 1, 4, 1]), torch.tensor([3, 0, 4, 2])
    assert collaborative_consistency(ours, teacher) == 0.5


def test_a_user_without_a_recommendation_agrees_with_nothing() -> None:
    assert collaborative_consistency(torch.tensor([-1, 2]), torch.tensor([-1, 2])) == 0.5


def test_other_users_are_refused() -> None:
    with pytest.raises(ValueError, match="over the same users"):
        collaborative_consistency(torch.tensor([1, 2]), torch.tensor([1]))


def test_no_user_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one user"):
        collaborative_consistency(torch.tensor([]), torch.tensor([]))


K = 5
LISTS = st.permutations(range(8)).map(lambda items: items[:K])
USERS = st.lists(st.tuples(LISTS, LISTS, st.integers(0, K)), min_size=1, max_size=6)
Users = list[tuple[list[int], list[int], int]]


def shortened(users: Users) -> tuple[list[list[int]], list[list[int]]]:
    """Both lists of each user; ours ends early and is filled up with -1."""
    return [ours[:n] + [-1] * (K - n) for ours, _, n in users], [theirs for _, theirs, _ in users]


@given(users=USERS)
def test_overlap_is_the_share_of_common_items(users: Users) -> None:
    ours, theirs = shortened(users)
    common = [len(set(a) & set(b)) for a, b in zip(ours, theirs, strict=True)]
    found = overlap_at_k(torch.tensor(ours), torch.tensor(theirs))
    assert found == pytest.approx(sum(common) / (K * len(users)))


@pytest.mark.parametrize("method", ["kendall", "spearman"])
@given(users=USERS)
def test_rank_correlation_is_that_of_scipy_over_the_common_items(
    method: Correlation, users: Users
) -> None:
    ours, theirs = shortened(users)
    correlate = stats.kendalltau if method == "kendall" else stats.spearmanr
    values = []
    for a, b in zip(ours, theirs, strict=True):
        common = [item for item in a if item in b]
        if len(common) >= 2:
            ranks = [a.index(item) for item in common], [b.index(item) for item in common]
            values.append(float(correlate(*ranks).statistic))
    found = rank_correlation(torch.tensor(ours), torch.tensor(theirs), method=method)
    if values:
        assert found == pytest.approx(math.fsum(values) / len(values))
    else:
        assert found is None


def test_lists_agree_wholly_with_themselves_and_not_at_all_backwards() -> None:
    ours = torch.tensor([[4, 2, 7], [0, 1, 2]])
    for method in ("kendall", "spearman"):
        assert rank_correlation(ours, ours, method=method) == 1.0
        assert rank_correlation(ours, ours.flip(1), method=method) == -1.0
    assert overlap_at_k(ours, ours.flip(1)) == 1.0
    assert overlap_at_k(torch.full((2, 3), -1), torch.full((2, 3), -1)) == 0.0


def test_hits_disagree_in_two_ways() -> None:
    ours, theirs = torch.tensor([1, 1, 0, 0, 0]), torch.tensor([1, 0, 1, 1, 0])
    found = hit_disagreement(ours, theirs)
    assert dataclasses.astuple(found) == pytest.approx((0.2, 0.2, 0.4, 0.2))
    assert hit_disagreement(ours.bool(), theirs.bool()) == found
    shared = hit_disagreement(torch.tensor([0.5]), torch.tensor([0.25]))
    assert dataclasses.astuple(shared) == (0.125, 0.375, 0.125, 0.375)


def test_bad_lists_and_hits_are_refused() -> None:
    lists, wider = torch.zeros(2, 3), torch.zeros(2, 4)
    for measure in (overlap_at_k, rank_correlation):
        with pytest.raises(ValueError, match=r"must be \(user, k\) over the same users"):
            measure(lists, wider)
        with pytest.raises(ValueError, match="at least one user and place"):
            measure(lists[:0], lists[:0])
    with pytest.raises(ValueError, match="method must be one of"):
        rank_correlation(lists, lists, method="pearson")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"must be \(user,\) over the same users"):
        hit_disagreement(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match=r"hits must lie in \[0, 1\], got 0.0 to 2.0"):
        hit_disagreement(torch.tensor([0.0, 2.0]), torch.zeros(2))
