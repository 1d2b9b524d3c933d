"""The test over users and seeds against scipy and statsmodels, and its rate of false positives."""

from __future__ import annotations

import warnings
from math import sqrt

import numpy as np
import pytest
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec
from statsmodels.stats.power import TTestIndPower, TTestPower

from baselines.evaluation.random_effects import (
    Gain,
    Variances,
    needed,
    paired_difference,
    summarize_runs,
)
from semid.arrays import FloatArray

LEVEL = 0.09  # Beauty's R@10


def normal(
    rng: np.random.Generator,
    *,
    seeds: int,
    users: int,
    columns: int = 1,
    seed_sd: float = 0.0,
    residual_sd: float = 1.0,
) -> tuple[FloatArray, FloatArray]:
    """Values of two models that differ by noise alone, ``(seed, user, column)`` each."""
    shared = rng.normal(size=(users, columns))
    model, reference = (
        shared
        + rng.normal(scale=seed_sd, size=(seeds, 1, columns))
        + rng.normal(scale=residual_sd, size=(seeds, users, columns))
        for _ in range(2)
    )
    return model, reference


def hits(
    rng: np.random.Generator,
    *,
    seeds: int,
    comparisons: int,
    seed_sd: float,
    gain: float = 0.0,
    reference_sd: float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Hits of 2,000 users under two models, ``(seed, user, comparison)`` each.

    A hit is a latent value above a threshold, of which the users have four fifths in common over
    seeds and nine tenths of these over models. ``seed_sd`` (and ``reference_sd`` if it
    differs) and ``gain`` are in units of the hit rate.
    """
    threshold = stats.norm.isf(LEVEL)
    slope = stats.norm.pdf(threshold)
    size = (2000, comparisons)
    shared = rng.standard_normal(size, dtype=np.float32)

    def model(effect: float, sd: float) -> FloatArray:
        own = rng.standard_normal(size, dtype=np.float32)
        user = sqrt(0.9) * shared + sqrt(0.1) * own
        noise = rng.standard_normal((seeds, *size), dtype=np.float32)
        of_seed = rng.normal(effect, sd, size=(seeds, 1, comparisons)) / slope
        latent = sqrt(0.8) * user + sqrt(0.2) * noise + of_seed
        return (latent > threshold).astype(np.float64)

    return model(gain, seed_sd), model(0.0, seed_sd if reference_sd is None else reference_sd)


def difference(model: FloatArray, reference: FloatArray, *, confidence: float = 0.95) -> Gain:
    return paired_difference(
        summarize_runs(model), summarize_runs(reference), confidence=confidence
    )


def found(rng: np.random.Generator, *, seeds: int, seed_sd: float, gain: float = 0.0) -> float:
    """Share of 1,000 simulated comparisons that are called different at the 5 % level."""
    p = [
        difference(*hits(rng, seeds=seeds, comparisons=100, seed_sd=seed_sd, gain=gain)).p
        for _ in range(10)
    ]
    return float(np.mean(np.concatenate(p) < 0.05))


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.001, 0.006])
def test_seed_noise_alone_is_seldom_called_a_difference(seeds: int, seed_sd: float) -> None:
    rng = np.random.default_rng([seeds, int(seed_sd * 1000)])
    assert found(rng, seeds=seeds, seed_sd=seed_sd) <= 0.065


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.0, 0.001, 0.006, 0.01])
def test_nor_is_it_beside_a_row_without_a_seed(seeds: int, seed_sd: float) -> None:
    rng = np.random.default_rng([seeds, int(seed_sd * 1000), 1])
    p = []
    for _ in range(10):
        model, reference = hits(
            rng, seeds=seeds, comparisons=100, seed_sd=seed_sd, reference_sd=0.0
        )
        fixed = summarize_runs(reference[:1], is_random=False)
        p.append(paired_difference(summarize_runs(model), fixed).p)
    assert np.mean(np.concatenate(p) < 0.05) <= 0.065


def test_users_alone_would_call_it_a_difference_often() -> None:
    model, reference = hits(np.random.default_rng(3), seeds=3, comparisons=400, seed_sd=0.006)
    gains = model.mean(axis=0) - reference.mean(axis=0)
    assert (stats.ttest_1samp(gains, 0).pvalue < 0.05).mean() > 0.1


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.9), (5, 0.99)])
def test_a_real_difference_is_found(seeds: int, least: float) -> None:
    rng = np.random.default_rng(seeds)
    assert found(rng, seeds=seeds, seed_sd=0.001, gain=0.02) >= least


@pytest.mark.parametrize("seeds", [3, 5])
def test_runs_that_share_models_are_not_taken_for_independent(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    model, reference = normal(rng, seeds=seeds, users=60, columns=1000, seed_sd=1.0)
    pairs = (model + np.roll(model, -1, axis=0)) / 2
    fixed = summarize_runs(reference[:1] * 0, is_random=False)
    assert (paired_difference(summarize_runs(pairs), fixed).p < 0.05).mean() > 0.1
    counted = summarize_runs(pairs, cyclic_pairs=True)
    assert (paired_difference(counted, fixed).p < 0.05).mean() <= 0.065
    np.testing.assert_allclose(counted.users, summarize_runs(model).users)


def test_three_pairs_of_three_seeds_have_the_seed_noise_of_three_runs() -> None:
    model, reference = normal(np.random.default_rng(12), seeds=3, users=30, seed_sd=1.0)
    pairs = summarize_runs((model + np.roll(model, -1, axis=0)) / 2, cyclic_pairs=True)
    ours, theirs = (
        paired_difference(runs, summarize_runs(reference))
        for runs in (pairs, summarize_runs(model))
    )
    np.testing.assert_allclose([ours.low, ours.p, ours.df], [theirs.low, theirs.p, theirs.df])


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    gain = difference(
        *normal(np.random.default_rng(0), seeds=3, users=60, columns=2000, seed_sd=0.2)
    )
    assert 0.94 <= ((gain.low <= 0) & (gain.high >= 0)).mean() <= 0.98


def test_one_seed_is_the_paired_t_test_over_users() -> None:
    model, reference = normal(np.random.default_rng(1), seeds=1, users=80, columns=3)
    gain = difference(model, reference, confidence=0.9)
    expected = stats.ttest_rel(model[0], reference[0])
    interval = expected.confidence_interval(0.9)
    np.testing.assert_allclose(gain.p, expected.pvalue)
    np.testing.assert_allclose(gain.low, interval.low)
    np.testing.assert_allclose(gain.high, interval.high)
    np.testing.assert_allclose(gain.df, 79)
    assert gain.variances.seed_is_unknown


def test_models_without_a_seed_have_no_seed_noise() -> None:
    values = np.random.default_rng(2).normal(size=(2, 1, 50, 1))
    gain = paired_difference(*(summarize_runs(one, is_random=False) for one in values))
    assert gain.variances.random_models == 0
    assert not gain.variances.seed_is_unknown
    assert gain.variances.seed == 0


def test_without_noise_of_users_it_is_welchs_t_test_over_seeds() -> None:
    rng = np.random.default_rng(3)
    model, reference = rng.normal(0.3, 1, size=(3, 1, 4)), rng.normal(0, 2, size=(5, 1, 4))
    gain = difference(*(np.repeat(means, 30, axis=1) for means in (model, reference)))
    expected = stats.ttest_ind(model[:, 0], reference[:, 0], equal_var=False)
    interval = expected.confidence_interval()
    np.testing.assert_allclose(gain.p, expected.pvalue, rtol=1e-6)
    np.testing.assert_allclose(gain.low, interval.low, rtol=1e-6)
    np.testing.assert_allclose(gain.high, interval.high, rtol=1e-6)


def test_with_many_users_it_nears_welchs_t_test_over_seeds() -> None:
    model, reference = normal(np.random.default_rng(4), seeds=4, users=200_000, seed_sd=0.3)
    expected = stats.ttest_ind(model.mean(axis=1), reference.mean(axis=1), equal_var=False)
    np.testing.assert_allclose(difference(model, reference).p, expected.pvalue, rtol=1e-3)


def test_against_a_fixed_reference_it_is_the_t_test_of_the_means_of_seeds() -> None:
    means = np.random.default_rng(5).normal(0.3, 1, size=(4, 1, 2))
    gain = paired_difference(
        summarize_runs(np.repeat(means, 20, axis=1)),
        summarize_runs(np.zeros((1, 20, 2)), is_random=False),
    )
    np.testing.assert_allclose(gain.p, stats.ttest_1samp(means[:, 0], 0).pvalue, rtol=1e-6)
    np.testing.assert_allclose(gain.df, 3)


def test_components_are_those_of_a_mixed_model_fitted_by_reml() -> None:
    rng = np.random.default_rng(6)
    values, _ = normal(rng, seeds=5, users=30, seed_sd=0.8, residual_sd=0.7)
    fixed = summarize_runs(np.zeros((1, 30, 1)), is_random=False)
    ours = paired_difference(summarize_runs(values), fixed).variances
    seed, user = (axis.ravel() for axis in np.indices(values.shape[:2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on convergence at its default tolerance
        fitted = MixedLM(
            values.ravel(),
            np.ones((values.size, 1)),
            groups=np.zeros(values.size),
            exog_vc=VCSpec(
                ["seed", "user"],
                [
                    [[f"{axis} {level}" for level in np.unique(of)]]
                    for axis, of in (("s", seed), ("u", user))
                ],
                [[np.eye(of.max() + 1)[of]] for of in (seed, user)],
            ),
        ).fit(reml=True)
    theirs = [*fitted.vcomp, fitted.scale]
    np.testing.assert_allclose([ours.seed[0], ours.user[0], ours.residual[0]], theirs, rtol=0.01)


def test_no_difference_has_p_one_and_a_constant_one_p_zero() -> None:
    values = np.random.default_rng(7).random((3, 20, 1))
    nothing = difference(values, values[[2, 0, 1]])
    assert (nothing.mean, nothing.p, nothing.d_z) == (0, 1, 0)
    once = difference(values[:1], values[:1] - 0.5)
    assert (once.low, once.high, once.p) == (0.5, 0.5, 0)


def test_swapping_the_sides_mirrors_the_interval_and_keeps_p() -> None:
    model, reference = normal(np.random.default_rng(8), seeds=3, users=40, columns=4, seed_sd=0.2)
    there, back = difference(model, reference), difference(reference, model)
    np.testing.assert_allclose(there.low, -back.high)
    np.testing.assert_allclose(there.p, back.p)
    np.testing.assert_allclose(there.d_z, -back.d_z)


def test_the_effect_size_is_the_mean_in_standard_deviations_of_users() -> None:
    model, reference = normal(np.random.default_rng(9), seeds=2, users=40)
    of_users = (model - reference).mean(axis=0)[:, 0]
    expected = of_users.mean() / of_users.std(ddof=1)
    assert difference(model, reference).d_z[0] == pytest.approx(expected)


@pytest.mark.parametrize("d_z", [0.03, 0.2, 0.6])
def test_the_users_that_one_model_needs_are_those_of_the_t_tests_power(d_z: float) -> None:
    variances = Variances(np.array([4.0]), np.zeros(1), np.zeros(1), 0, True)
    users, seeds = needed(np.array([2 * d_z]), variances, users=50, seeds=1)
    expected = TTestPower().solve_power(effect_size=d_z, alpha=0.05, power=0.8)
    assert users[0] == pytest.approx(expected, abs=1.5)
    assert np.isinf(seeds)


def test_the_seeds_that_a_difference_needs_are_those_of_the_t_tests_power() -> None:
    variances = Variances(np.zeros(1), np.array([2.0]), np.zeros(1), 2, False)  # 1 for each model
    users, seeds = needed(np.array([0.8]), variances, users=50, seeds=3)
    expected = TTestIndPower().solve_power(effect_size=0.8, alpha=0.05, power=0.8)
    assert seeds[0] == pytest.approx(expected, abs=1.5)
    assert np.isinf(users), "with three seeds no number of users is enough"


def test_a_difference_is_found_with_the_users_and_seeds_that_it_needs() -> None:
    gain, seed_sd, residual_sd = 0.25, 0.05, 1.0
    variances = Variances(np.zeros(1), np.array([2 * seed_sd**2]), np.array([2.0]), 2, False)
    users, _ = needed(np.array([gain]), variances, users=50, seeds=3)
    model, reference = normal(
        np.random.default_rng(10),
        seeds=3,
        users=int(users[0]),
        columns=1000,
        seed_sd=seed_sd,
        residual_sd=residual_sd,
    )
    assert (difference(model + gain, reference).p < 0.05).mean() == pytest.approx(0.8, abs=0.05)


def test_nothing_needs_no_number_of_users() -> None:
    variances = Variances(np.ones(1), np.ones(1), np.ones(1), 2, False)
    assert np.isinf(needed(np.zeros(1), variances, users=50, seeds=3)).all()


def test_bad_input_is_refused() -> None:
    runs = summarize_runs(np.zeros((2, 5, 1)))
    with pytest.raises(ValueError, match="at least one run and two users, got 1 and 1"):
        summarize_runs(np.zeros((1, 1, 1)))
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\), got 1"):
        paired_difference(runs, runs, confidence=1)
    with pytest.raises(ValueError, match=r"same users and columns, got \(5, 1\) and \(4, 1\)"):
        paired_difference(runs, summarize_runs(np.zeros((2, 4, 1))))
    with pytest.raises(ValueError, match="two seeds make one pair"):
        summarize_runs(np.zeros((2, 5, 1)), cyclic_pairs=True)
    variances = paired_difference(runs, runs).variances
    with pytest.raises(ValueError, match="seeds at least 2, got"):
        needed(np.ones(1), variances, users=5, seeds=1)
