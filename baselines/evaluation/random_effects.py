"""The difference between two models over users and seeds: a t-test with both as random effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semid.arrays import FloatArray

MOST_USERS, MOST_SEEDS = 10**9, 1000
"""Beyond these, no number of users or seeds is said to be enough."""

QUANTILES = 9
"""Points at which the distribution of a variance is evaluated."""

DIGITS = 12
"""Decimals of a difference; the order of a summation changes digits beyond them."""


class Runs(NamedTuple):
    """The runs of one model, one per seed, evaluated on the same users.

    Attributes:
        users: float64 ``(user, column)``, each user's values averaged over the seeds.
        seeds: Number of runs.
        is_random: Whether training depends on a seed.
        between: float64 ``(column,)``, variance of the seeds' means; 0 for one seed.
        residual: float64 ``(column,)``, mean square of the interaction of user and seed; 0 for one
            seed.
        degrees: Degrees of freedom of ``between``.
    """

    users: FloatArray
    seeds: int
    is_random: bool
    between: FloatArray
    residual: FloatArray
    degrees: float


class Variances(NamedTuple):
    """Variance components of a difference between one run of each model, of one user.

    Attributes:
        user: float64 ``(column,)``, of users.
        seed: float64 ``(column,)``, of seeds, over both models.
        residual: float64 ``(column,)``, of a user under one seed, over both models.
        random_models: Number of models whose seed noise is known and not zero by construction.
        seed_is_unknown: Whether a model that depends on its seed was trained once.
    """

    user: FloatArray
    seed: FloatArray
    residual: FloatArray
    random_models: int
    seed_is_unknown: bool


class Gain(NamedTuple):
    """A difference and its test, float64 ``(column,)`` each.

    Attributes:
        mean: Mean over users and seeds.
        low: Lower end of its confidence interval.
        high: Upper end.
        p: Two-sided p-value of "no difference".
        df: Degrees of freedom of the t distribution.
        d_z: Cohen's d_z over users, ``mean`` divided by the standard deviation of the users'
            differences; 0 if that is 0.
        variances: What the noise of ``mean`` consists of.
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray
    df: FloatArray
    d_z: FloatArray
    variances: Variances


class Needed(NamedTuple):
    """Sample sizes that find a difference, float64 ``(column,)``; infinite if none does.

    Attributes:
        users: Number of users with the seeds at hand.
        seeds: Number of seeds per model with the users at hand.
    """

    users: FloatArray
    seeds: FloatArray


def summarize_runs(
    values: FloatArray, *, is_random: bool = True, cyclic_pairs: bool = False
) -> Runs:
    """Summarise the runs of one model.

    Args:
        values: Finite float64 ``(seed, user, column)``.
        is_random: Whether training depends on a seed.
        cyclic_pairs: Whether each run combines the model of its seed and that of the next, the last
            with the first. Neighbours are then alike, so that the sample variance of ``n`` runs is
            on average ``(n - 2) / (2 (n - 1))`` of what ``n`` times that of their mean is, with ``2
            (n - 2)^2 / (3 n - 8)`` degrees of freedom; this is corrected for.

    Raises:
        ValueError: If there is no run, there are fewer than two users, or two pairs are the same.
    """
    num_seeds, num_users, num_columns = values.shape
    if num_seeds < 1 or num_users < 2:
        raise ValueError(
            "a test over users and seeds needs at least one run and two users, got "
            f"{num_seeds} and {num_users}"
        )
    if cyclic_pairs and num_seeds == 2:
        raise ValueError("two seeds make one pair, not two: pass one run")
    users: FloatArray = values.mean(axis=0)
    between, residual = np.zeros(num_columns), np.zeros(num_columns)
    if num_seeds > 1:
        means = values.mean(axis=1)
        between = np.round(means, DIGITS).var(axis=0, ddof=1)
        expected = users - users.mean(axis=0)
        for of_seed, mean in zip(values, means, strict=True):
            residual += np.square(of_seed - mean - expected).sum(axis=0)
        residual /= (num_seeds - 1) * (num_users - 1)
    degrees = num_seeds - 1.0
    if cyclic_pairs and num_seeds > 2:
        factor = 2 * (num_seeds - 1) / (num_seeds - 2)
        between, residual = factor * between, factor * residual
        degrees = 2 * (num_seeds - 2) ** 2 / (3 * num_seeds - 8)
    return Runs(users, num_seeds, is_random, between, residual, degrees)


def paired_difference(model: Runs, reference: Runs, *, confidence: float = 0.95) -> Gain:
    """Test ``model - reference``, paired by user, with independent seeds.

    A run's value is modelled as ``mean + seed + user + residual``. Users are shared by all runs;
    the seeds of the two models are independent, whatever their numbers. The variance of the mean
    difference is estimated without bias by the analysis of variance (Searle, Casella & McCulloch,
    *Variance Components*, 1992, section 4.3): ``var(users) / U`` of the users' differences, which
    have been averaged over seeds and hold the residual already, plus ``(between - residual / U) /
    seeds`` of either model, no less than 0 together. Degrees of freedom are Satterthwaite's (1946)
    for the seeds of both models, then the harmonic mean with those of users, weighted by variance.
    That is fewer than Satterthwaite's for all three, with which few seeds that are alike by chance
    make too many differences real. The level holds from three seeds on; two seeds of one model
    beside a fixed reference exceed it where seed noise is larger than that of users.

    With one seed each this is the paired t-test over users; the interval then holds for the
    trained models at hand, not for another training. Where users do not matter it is Welch's t-test
    over the means of the seeds.

    Args:
        model: Runs of the model.
        reference: Runs of what it is compared with, for the same users in the same order.
        confidence: Coverage of the interval, in (0, 1).

    Raises:
        ValueError: If ``confidence`` is out of range, or the runs differ in users or columns.
    """
    from scipy import stats

    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if model.users.shape != reference.users.shape:
        raise ValueError(
            f"runs must hold the same users and columns, got {model.users.shape} and "
            f"{reference.users.shape}. Were they evaluated on the same split?"
        )
    differences = np.round(model.users - reference.users, DIGITS)
    num_users = len(differences)
    mean = differences.mean(axis=0)
    spread = differences.var(axis=0, ddof=1)
    of_users = spread / num_users
    both = [runs for runs in (model, reference) if runs.is_random and runs.seeds > 1]
    zero = np.zeros_like(mean)
    residual = sum((runs.residual / runs.seeds for runs in both), zero)
    between = [runs.between / runs.seeds for runs in both]
    of_seeds = np.maximum(sum(between, zero) - residual / num_users, 0.0)
    df = _degrees(of_users, num_users - 1, of_seeds, between, [runs.degrees for runs in both])
    variance = of_users + of_seeds
    error = np.sqrt(variance)
    margin = stats.t.isf((1 - confidence) / 2, df) * error
    t = _ratio(np.abs(mean), error, otherwise=np.where(mean == 0, 0.0, np.inf))
    return Gain(
        mean=mean,
        low=mean - margin,
        high=mean + margin,
        p=2 * stats.t.sf(t, df),
        df=df,
        d_z=_ratio(mean, np.sqrt(spread), otherwise=0.0),
        variances=_variances(model, reference, spread),
    )


def _variances(model: Runs, reference: Runs, spread: FloatArray) -> Variances:
    """The variance components behind ``spread``, the variance of the users' differences."""
    both = [runs for runs in (model, reference) if runs.is_random and runs.seeds > 1]
    zero, num_users = np.zeros_like(spread), len(model.users)
    of_user = spread - sum((runs.residual / runs.seeds for runs in both), zero)
    of_seed = sum((runs.between - runs.residual / num_users for runs in both), zero)
    return Variances(
        user=np.maximum(of_user, 0.0),
        seed=np.maximum(of_seed, 0.0),
        residual=sum((runs.residual for runs in both), zero),
        random_models=len(both),
        seed_is_unknown=any(runs.is_random and runs.seeds == 1 for runs in (model, reference)),
    )


def needed(
    difference: FloatArray,
    variances: Variances,
    *,
    users: int,
    seeds: int,
    power: float = 0.8,
    alpha: float = 0.05,
) -> Needed:
    """The users and seeds with which `paired_difference` finds a difference of this size.

    Power is computed for a normal mean and chi-squared variances of the seeds' means, whose
    uncertainty matters where seeds are few.

    Args:
        difference: float64 ``(column,)``, the true differences to find.
        variances: Their variance components. Where the seed noise of a model is unknown, none
            is counted for it: users are then those for that trained model, and seeds are infinite.
        users: The users at hand, at least 2.
        seeds: The seeds at hand for either model, at least 1, or 2 where seed noise is known.
        power: Probability of finding the difference, in (0.5, 1).
        alpha: Level of the test, in (0, 1).

    Raises:
        ValueError: If a setting is out of range.
    """
    least = 2 if variances.random_models else 1
    if not (0.5 < power < 1 and 0 < alpha < 1) or users < 2 or seeds < least:
        raise ValueError(
            f"expected power in (0.5, 1), alpha in (0, 1), users at least 2 and seeds at least "
            f"{least}, got {power}, {alpha}, {users}, {seeds}"
        )

    def enough(num_users: FloatArray, num_seeds: FloatArray) -> NDArray[np.bool_]:
        reached = _power(difference, variances, num_users, num_seeds, alpha=alpha) >= power
        found: NDArray[np.bool_] = reached & (difference != 0)
        return found

    at_hand = np.full(difference.shape, float(seeds))
    of_users = _fewest(lambda number: enough(number, at_hand), difference.shape, MOST_USERS)
    if variances.seed_is_unknown or not variances.random_models:
        return Needed(of_users, np.full(difference.shape, np.inf))
    at_hand_users = np.full(difference.shape, float(users))
    of_seeds = _fewest(lambda number: enough(at_hand_users, number), difference.shape, MOST_SEEDS)
    return Needed(of_users, of_seeds)


def _power(
    difference: FloatArray,
    variances: Variances,
    num_users: FloatArray,
    num_seeds: FloatArray,
    *,
    alpha: float,
) -> FloatArray:
    """The probability that a true difference is found, float64 ``(column,)`` like all arguments.

    The variance of each model's seeds' means, here the same for both, takes the middles of
    ``QUANTILES`` equally likely parts of its distribution.
    """
    from scipy import stats

    of_users = (variances.user + variances.residual / num_seeds) / num_users
    residual = variances.residual / num_users / num_seeds
    error = np.sqrt(of_users + variances.seed / num_seeds)
    between = []
    if variances.random_models:
        expected = (variances.seed / num_seeds + residual) / variances.random_models
        middles = (np.arange(QUANTILES)[:, None] + 0.5) / QUANTILES
        drawn = expected * stats.chi2.ppf(middles, num_seeds - 1) / (num_seeds - 1)
        between = [drawn[:, None], drawn[None]][: variances.random_models]
    of_seeds = np.maximum(sum(between, -residual), 0.0)
    seed_degrees = [num_seeds - 1] * variances.random_models
    df = _degrees(of_users, num_users - 1, of_seeds, between, seed_degrees)
    estimated = of_users + of_seeds
    excess = stats.t.isf(alpha / 2, df) * np.sqrt(estimated) - np.abs(difference)
    found = stats.norm.sf(_ratio(excess, error, otherwise=np.where(excess < 0, -np.inf, np.inf)))
    power: FloatArray = found.reshape(-1, len(difference)).mean(axis=0)
    return power


def _degrees(
    of_users: FloatArray,
    user_degrees: float | FloatArray,
    of_seeds: FloatArray,
    between: Sequence[FloatArray],
    seed_degrees: Sequence[float | FloatArray],
) -> FloatArray:
    """Degrees of freedom of ``of_users + of_seeds``, at least 1; see `paired_difference`.

    Args:
        of_users: Variance of the mean from users.
        user_degrees: Its degrees of freedom.
        of_seeds: Variance of the mean from seeds.
        between: For each model, the variance of the seeds' means over their number.
        seed_degrees: Its degrees of freedom, for each model.
    """
    zero = np.zeros_like(of_seeds)
    squares = (of**2 / degrees for of, degrees in zip(between, seed_degrees, strict=True))
    uncertainty = of_users / user_degrees + _ratio(
        sum(squares, zero), sum(between, zero), otherwise=0.0
    )
    degrees = _ratio(of_users + of_seeds, uncertainty, otherwise=user_degrees)
    return degrees.clip(1, None)


def _fewest(
    enough: Callable[[FloatArray], NDArray[np.bool_]], shape: tuple[int, ...], most: int
) -> FloatArray:
    """The smallest whole number from 2 to ``most`` that is enough, by bisection; else infinite."""
    low, high = np.ones(shape), np.full(shape, float(most))
    possible = enough(high)
    while (high - low > 1).any():
        middle = np.ceil((low + high) / 2)
        reached = enough(middle)
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.where(possible, high, np.inf)


def _ratio(
    numerator: FloatArray, denominator: FloatArray, *, otherwise: float | FloatArray
) -> FloatArray:
    """``numerator / denominator``, and ``otherwise`` where the denominator is 0."""
    is_zero = denominator == 0
    return np.where(is_zero, otherwise, numerator / np.where(is_zero, 1.0, denominator))
