"""Metrics of ranks: golden values, the oracle over all orders of a tie, and the laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from baselines.evaluation.config import TieRule
from baselines.evaluation.metrics import MISS, auc, metric_values, ranks_from_scores, user_auc

CUTOFFS = (1, 2, 5, 10, 20)


def metrics_of_rank(rank: int) -> dict[str, float]:
    """The definition for a target at ``rank`` (0 is best) that shares it with nobody."""
    values = {f"R@{k}": float(rank < k) for k in CUTOFFS}
    values |= {f"N@{k}": float(rank < k) / math.log2(rank + 2) for k in CUTOFFS}
    values["MRR"] = 1 / (rank + 1)
    return values


def brute_force_metrics(better: int, tied: int) -> dict[str, float]:
    """Mean over all orders of the tied items; item 0 of a tie is the target."""
    orders = list(itertools.permutations(range(tied + 1)))
    found = [metrics_of_rank(better + order.index(0)) for order in orders]
    return {name: sum(values[name] for values in found) / len(orders) for name in found[0]}


def brute_force_ranks(
    scores: list[list[float]], targets: list[int], seen: list[list[bool]]
) -> tuple[list[int], list[int]]:
    better, tied = [0] * len(targets), [0] * len(targets)
    for t, (row, target) in enumerate(zip(scores, targets, strict=True)):
        for item, score in enumerate(row):
            if item != target and not seen[t][item]:
                better[t] += score > row[target]
                tied[t] += score == row[target]
    return better, tied


def single(better: int, tied: int, ties: TieRule = "expected") -> dict[str, float]:
    values = metric_values(np.array([better]), np.array([tied]), ties=ties, cutoffs=CUTOFFS)
    return {name: float(of_target[0]) for name, of_target in values.items()}


def int_array(*values: int) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("rank", "ndcg", "mrr"), [(0, 1.0, 1.0), (1, 0.6309, 0.5), (4, 0.3869, 0.2)]
)
@pytest.mark.parametrize("ties", ["strict", "expected", "optimistic"])
def test_golden_values(rank: int, ndcg: float, mrr: float, ties: TieRule) -> None:
    values = single(rank, 0, ties)
    assert values["N@5"] == pytest.approx(ndcg, abs=5e-5)
    assert values["MRR"] == mrr
    assert values["R@5"] == 1.0


def test_rank_five_is_the_first_that_misses_a_list_of_five() -> None:
    values = metric_values(int_array(4, 5), int_array(0, 0))
    np.testing.assert_array_equal(values["R@5"], [1, 0])
    np.testing.assert_array_equal(values["N@5"] > 0, [True, False])
    np.testing.assert_array_equal(values["R@10"], [1, 1])


def test_metrics_come_in_reading_order() -> None:
    names = list(metric_values(int_array(0), int_array(0)))
    assert names == ["R@5", "R@10", "R@20", "N@5", "N@10", "N@20", "MRR"]


@pytest.mark.parametrize("ties", ["strict", "expected", "optimistic"])
def test_a_miss_counts_nothing_whatever_the_cutoff_and_the_rule(ties: TieRule) -> None:
    assert set(single(MISS, 0, ties).values()) == {0.0}
    assert set(single(MISS, 3, ties).values()) == {0.0}


def test_the_number_of_candidates_is_a_miss_for_every_cutoff_within_it() -> None:
    values = metric_values(int_array(20), int_array(0), cutoffs=(5, 10, 20))
    assert {float(values[name][0]) for name in values if name != "MRR"} == {0.0}


@pytest.mark.parametrize("better", [0, 1, 4, 9, 18, 30])
@pytest.mark.parametrize("tied", [0, 1, 2, 5])
def test_expected_is_the_mean_over_all_orders_of_the_tie(better: int, tied: int) -> None:
    assert single(better, tied) == pytest.approx(brute_force_metrics(better, tied))


@given(better=st.integers(0, 60), tied=st.integers(0, 60))
def test_strict_and_optimistic_are_the_ends_of_the_tie(better: int, tied: int) -> None:
    assert single(better, tied, "strict") == pytest.approx(metrics_of_rank(better + tied))
    assert single(better, tied, "optimistic") == pytest.approx(metrics_of_rank(better))


@given(better=st.integers(0, 60), tied=st.integers(0, 60))
def test_expected_lies_between_strict_and_optimistic_in_the_unit_interval(
    better: int, tied: int
) -> None:
    low, middle, high = (single(better, tied, t) for t in ("strict", "expected", "optimistic"))
    for name in middle:
        assert 0 <= low[name] <= middle[name] + 1e-12
        assert middle[name] - 1e-12 <= high[name] <= 1


@given(better=st.integers(0, 60), tied=st.integers(0, 60))
def test_metrics_grow_with_the_list_and_ndcg_stays_below_recall(better: int, tied: int) -> None:
    values = single(better, tied)
    for short, long in itertools.pairwise(CUTOFFS):
        assert values[f"R@{short}"] <= values[f"R@{long}"] + 1e-12
        assert values[f"N@{short}"] <= values[f"N@{long}"] + 1e-12
    assert all(values[f"N@{k}"] <= values[f"R@{k}"] + 1e-12 for k in CUTOFFS)


@given(
    st.lists(st.tuples(st.integers(0, 99) | st.just(MISS), st.integers(0, 9)), min_size=1),
    st.sampled_from(["strict", "expected", "optimistic"]),
)
def test_targets_do_not_influence_each_other(counts: list[tuple[int, int]], ties: TieRule) -> None:
    better, tied = (np.array(column, dtype=np.int64) for column in zip(*counts, strict=True))
    together = metric_values(better, tied, ties=ties, cutoffs=CUTOFFS)
    for t, (above, beside) in enumerate(counts):
        alone = single(above, beside, ties)
        assert {name: float(values[t]) for name, values in together.items()} == pytest.approx(alone)


def test_no_target_gives_empty_metrics() -> None:
    assert all(v.shape == (0,) for v in metric_values(int_array(), int_array()).values())


@pytest.mark.parametrize(
    ("better", "tied", "options", "message"),
    [
        (int_array(1), int_array(0), {"ties": "any"}, "ties must be one of strict"),
        (int_array(1), int_array(0), {"cutoffs": (0,)}, "cutoffs must be at least 1"),
        (int_array(-1), int_array(0), {}, "better counts items"),
        (int_array(1), int_array(0, 0), {}, "same targets"),
        (np.array([0.5]), int_array(0), {}, "better must be int64"),
    ],
)
def test_bad_counts_and_options_are_refused(
    better: NDArray[np.int64], tied: NDArray[np.int64], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric_values(better, tied, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("items", [1, 2, 7, 30])
def test_ranks_are_the_definition(seed: int, items: int) -> None:
    gen = torch.Generator().manual_seed(seed)
    scores = torch.randint(4, (9, items), generator=gen).float()  # few values: many ties
    targets = torch.randint(items, (9,), generator=gen)
    mask = torch.rand(9, items, generator=gen) < 0.4
    expected = brute_force_ranks(scores.tolist(), targets.tolist(), mask.tolist())
    better, tied = ranks_from_scores(scores, targets, mask)
    assert (better.tolist(), tied.tolist()) == expected
    assert better.dtype == tied.dtype == torch.int64


def test_without_history_every_item_is_a_candidate() -> None:
    better, tied = ranks_from_scores(torch.tensor([[3.0, 1.0, 3.0, 3.0]]), torch.tensor([0]))
    assert (better.tolist(), tied.tolist()) == ([0], [2])


def test_a_target_that_was_seen_stays_a_candidate() -> None:
    scores = torch.tensor([[5.0, 4.0, 3.0], [5.0, 4.0, 3.0]])
    seen = torch.tensor([[True, False, True], [False, False, False]])
    better, tied = ranks_from_scores(scores, torch.tensor([2, 2]), seen)
    assert (better.tolist(), tied.tolist()) == ([1, 2], [0, 0])


def test_items_without_any_chance_tie_with_each_other() -> None:
    scores = torch.tensor([[0.0, -torch.inf, -torch.inf]])
    better, tied = ranks_from_scores(scores, torch.tensor([1]))
    assert (better.tolist(), tied.tolist()) == ([1], [1])


def test_ranks_of_scores_go_into_metrics_as_they_are() -> None:
    ranks = ranks_from_scores(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([2]))
    assert metric_values(*ranks)["MRR"].tolist() == [0.5]


@pytest.mark.parametrize(
    ("scores", "targets", "seen", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0]), None, r"scores must be \(target, item\)"),
        (torch.full((1, 3), torch.nan), torch.tensor([0]), None, "NaN"),
        (torch.zeros(1, 3), torch.tensor([3]), None, r"targets must be catalogue rows in \[0, 3\)"),
        (torch.zeros(1, 3), torch.tensor([0]), torch.zeros(1, 2).bool(), "seen must be bool"),
        (torch.zeros(1, 3), torch.tensor([0]), torch.zeros(1, 3), "seen must be bool"),
    ],
)
def test_bad_scores_and_histories_are_refused(
    scores: torch.Tensor,
    targets: torch.Tensor,
    seen: torch.Tensor | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        ranks_from_scores(scores, targets, seen)


SAMPLES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9)


def pairs_won(positive: list[int], negative: list[int]) -> float:
    """One pair after another; equal scores are half a win."""
    won = [(a > b) + (a == b) / 2 for a in positive for b in negative]
    return sum(won) / len(won)


@given(samples=SAMPLES, seed=st.integers(0, 99))
def test_auc_is_the_share_of_pairs_that_the_positive_wins(
    samples: list[tuple[int, int]], seed: int
) -> None:
    """Sample ``n`` is a positive and a negative of user ``n // 2``."""
    positive, negative = map(list, zip(*samples, strict=True))
    order = np.random.default_rng(seed).permutation(2 * len(samples))
    scores = np.array([*positive, *negative], dtype=np.float32)[order]
    is_positive = (np.arange(2 * len(samples)) < len(samples))[order]
    users = np.tile(np.arange(len(samples)) // 2, 2)[order]
    assert auc(scores, is_positive) == pytest.approx(pairs_won(positive, negative))
    own = [
        pairs_won(positive[user : user + 2], negative[user : user + 2])
        for user in range(0, len(samples), 2)
    ]
    assert user_auc(scores, is_positive, users) == pytest.approx(sum(own) / len(own))
