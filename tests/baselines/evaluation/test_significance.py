"""Bootstrap and Holm against their definitions, and what an honest test must satisfy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from baselines.evaluation.significance import (
    UserSums,
    holm,
    paired_bootstrap,
    unpaired_bootstrap,
)


def brute_force_holm(p: list[float]) -> list[float]:
    adjusted = [0.0] * len(p)
    for i, value in enumerate(p):
        smaller = [q for j, q in enumerate(p) if (q, j) <= (value, i)]
        for step in range(len(smaller)):
            adjusted[i] = max(adjusted[i], min(1.0, sorted(p)[step] * (len(p) - step)))
    return adjusted


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03])), [0.03, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_the_definition_and_never_helps(p: list[float]) -> None:
    adjusted = holm(np.array(p))
    np.testing.assert_allclose(adjusted, brute_force_holm(p))
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= 1).all()


def test_holm_is_that_of_statsmodels() -> None:
    p = np.random.default_rng(9).random(20) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_holm_treats_each_column_as_a_family() -> None:
    p = np.random.default_rng(0).random((4, 3))
    np.testing.assert_allclose(holm(p), np.stack([holm(column) for column in p.T], axis=1))


def test_interval_and_p_agree_with_a_loop_over_resamples() -> None:
    values = np.random.default_rng(1).normal(0.1, 1.0, size=(40, 2))
    rng = np.random.default_rng(7)
    draws = np.array([values[rng.integers(40, size=40)].mean(axis=0) for _ in range(150)])
    low, high, p = paired_bootstrap(values, resamples=150, confidence=0.9, seed=7)
    np.testing.assert_allclose([low, high], np.percentile(draws, [5, 95], axis=0), atol=1e-10)
    for column in range(2):
        below, above = (draws[:, column] <= 0).sum(), (draws[:, column] >= 0).sum()
        assert p[column] == pytest.approx(min(1.0, 2 * (1 + min(below, above)) / 151))


def test_interval_and_p_are_near_those_of_the_t_test_where_means_are_normal() -> None:
    values = np.random.default_rng(3).normal(0.05, 1.0, size=(2000, 1))
    low, high, p = paired_bootstrap(values, resamples=4000)
    test = stats.ttest_1samp(values[:, 0], 0.0)
    interval = test.confidence_interval(0.95)
    assert [low[0], high[0]] == pytest.approx([interval.low, interval.high], abs=0.005)
    assert p[0] == pytest.approx(test.pvalue, abs=0.02)


def test_no_difference_has_p_one_and_a_sure_one_the_smallest_p() -> None:
    values = np.stack([np.zeros(50), np.full(50, 0.1), np.full(50, -0.1)], axis=1)
    low, high, p = paired_bootstrap(values, resamples=99)
    np.testing.assert_allclose(p, [1.0, 0.02, 0.02])
    np.testing.assert_allclose(low, [0, 0.1, -0.1])
    np.testing.assert_allclose(high, [0, 0.1, -0.1])


def test_swapping_the_sides_mirrors_the_interval_and_keeps_p() -> None:
    values = np.random.default_rng(4).normal(0.05, 1.0, size=(200, 3))
    there, back = paired_bootstrap(values), paired_bootstrap(-values)
    np.testing.assert_allclose(there.low, -back.high, atol=1e-9)
    np.testing.assert_array_equal(there.p, back.p)


def test_a_column_does_not_depend_on_its_neighbours() -> None:
    values = np.random.default_rng(5).normal(size=(100, 4))
    together = paired_bootstrap(values, seed=3)
    alone = paired_bootstrap(values[:, 2:3], seed=3)
    for all_columns, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(all_columns[2], one[0])


def test_the_seed_decides_the_draws() -> None:
    values = np.random.default_rng(6).normal(size=(100, 1))
    assert paired_bootstrap(values, seed=1) == paired_bootstrap(values, seed=1)
    assert paired_bootstrap(values, seed=1).low != paired_bootstrap(values, seed=2).low


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(8)
    p = np.concatenate(
        [paired_bootstrap(rng.normal(size=(200, 50)), resamples=300, seed=s).p for s in range(20)]
    )
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize(
    ("users", "options", "message"),
    [
        (3, {"resamples": 0}, "resamples must be at least 1"),
        (3, {"confidence": 1.0}, r"confidence in \(0, 1\)"),
        (0, {}, "at least one user"),
    ],
)
def test_bad_settings_are_refused(users: int, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(np.zeros((users, 1)), **options)  # type: ignore[arg-type]


def users_with(requests: np.ndarray, rng: np.random.Generator, mean: float) -> UserSums:
    """Users whose requests have values around a mean of their own."""
    own = rng.normal(mean, 1.0, size=len(requests))
    noise = rng.normal(size=len(requests)) * np.sqrt(requests)
    return UserSums((own * requests + noise)[:, None], requests)


def test_the_unpaired_bootstrap_is_a_loop_over_resampled_users() -> None:
    rng = np.random.default_rng(2)
    groups = [users_with(rng.integers(1, 4, size=size).astype(float), rng, 0.0) for size in (9, 14)]
    seeds = np.random.SeedSequence(5).spawn(2)
    draws = []
    for group, seed in zip(groups, seeds, strict=True):
        of_users = np.random.default_rng(seed)
        chosen = [of_users.integers(len(group.sums), size=len(group.sums)) for _ in range(70)]
        draws.append([group.sums[c].sum() / group.requests[c].sum() for c in chosen])
    difference = np.array(draws[0]) - np.array(draws[1])
    found = unpaired_bootstrap(*groups, resamples=70, confidence=0.9, seed=5)
    np.testing.assert_allclose(
        [found.low[0], found.high[0]], np.percentile(difference, [5, 95]), atol=1e-10
    )
    below, above = (difference <= 0).sum(), (difference >= 0).sum()
    assert found.p[0] == pytest.approx(min(1.0, 2 * (1 + min(below, above)) / 71))
    alone = unpaired_bootstrap(groups[0], resamples=70, confidence=0.9)
    assert alone.low[0] <= groups[0].means[0] <= alone.high[0]


def test_one_request_a_user_is_welchs_test() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.25, 1.0, size=(900, 1)), rng.normal(0.0, 2.0, size=(700, 1))
    groups = [UserSums(values, np.ones(len(values))) for values in (first, second)]
    found = unpaired_bootstrap(*groups, resamples=4000)
    test = stats.ttest_ind(first[:, 0], second[:, 0], equal_var=False)
    interval = test.confidence_interval(0.95)
    assert [found.low[0], found.high[0]] == pytest.approx([interval.low, interval.high], abs=0.01)
    assert found.p[0] == pytest.approx(test.pvalue, abs=0.02)


def test_users_with_many_requests_of_one_kind_make_no_false_differences() -> None:
    rng = np.random.default_rng(4)
    p = []
    for number in range(200):
        groups = [users_with(rng.integers(1, 30, size=80).astype(float), rng, 0) for _ in range(2)]
        p.append(unpaired_bootstrap(*groups, resamples=200, seed=number).p[0])
    assert (np.array(p) < 0.05).mean() == pytest.approx(0.05, abs=0.04)


def test_equal_groups_have_no_difference_and_empty_ones_are_refused() -> None:
    group = UserSums(np.ones((5, 2)), np.ones(5))
    np.testing.assert_array_equal(unpaired_bootstrap(group, group).p, [1.0, 1.0])
    with pytest.raises(ValueError, match="at least one user, got none"):
        unpaired_bootstrap(group, UserSums(np.ones((0, 2)), np.ones(0)))
