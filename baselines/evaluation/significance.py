"""Significance of differences between runs: bootstrap over users, and Holm's correction."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from semid.arrays import FloatArray

RESAMPLES_PER_CHUNK = 64


class Bootstrap(NamedTuple):
    """Interval and p-value of each column's mean, float64 ``(column,)`` each."""

    low: FloatArray
    high: FloatArray
    p: FloatArray


def paired_bootstrap(
    differences: FloatArray, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Bootstrap:
    """Resample users with replacement, with the same draws for all columns.

    The interval is the percentile interval of the resampled mean ``d*``, and ``p`` is two-sided,
    ``2 min(P(d* <= 0), P(d* >= 0))``, with each probability estimated as ``(1 + hits) / (1 +
    resamples)`` (Davison & Hinkley, 1997, section 4.2) and capped at 1: a column of zeros has
    ``p = 1``, and no ``p`` falls below ``2 / (1 + resamples)``.

    Args:
        differences: Finite float64 ``(user, column)``, each user's gain in each quantity.
        resamples: Number of draws, at least 1.
        confidence: Coverage of the interval, in (0, 1).
        seed: Seed of the draws; equal input gives an equal result.

    Returns:
        The ends of the interval and the p-value of each column.

    Raises:
        ValueError: If a setting is out of range, or there are no users.
    """
    _require(len(differences), resamples, confidence)
    weights = np.ones(len(differences))
    return _summary(_resampled_means(differences, weights, resamples, seed), confidence)


class UserSums(NamedTuple):
    """What the users of one group contribute to means over their requests.

    Attributes:
        sums: Finite float64 ``(user, column)``, each user's sum of each quantity.
        requests: float64 ``(user,)``, the number of requests that it was summed over, at least 1.
    """

    sums: FloatArray
    requests: FloatArray

    @property
    def means(self) -> FloatArray:
        """Mean over all requests, float64 ``(column,)``."""
        means: FloatArray = self.sums.sum(axis=0) / self.requests.sum()
        return means


def unpaired_bootstrap(
    model: UserSums,
    reference: UserSums | None = None,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Bootstrap:
    """Resample the users of two groups that share none, each group by itself.

    A user is drawn with all their requests, which depend on each other; the mean is that over the
    requests drawn (a cluster bootstrap: Davison & Hinkley, 1997, section 3.8). Interval and ``p``
    of the difference ``model - reference`` are as in ``paired_bootstrap``.

    Args:
        model: The users of one group.
        reference: Those of the other; None for the mean of ``model`` alone.
        resamples: Number of draws, at least 1.
        confidence: Coverage of the interval, in (0, 1).
        seed: Seed of the draws; equal input gives an equal result.

    Raises:
        ValueError: If a setting is out of range, or a group has no users.
    """
    groups = [model] if reference is None else [model, reference]
    for group in groups:
        _require(len(group.sums), resamples, confidence)
    seeds = np.random.SeedSequence(seed).spawn(len(groups))
    draws, *others = (
        _resampled_means(group.sums, group.requests, resamples, own)
        for group, own in zip(groups, seeds, strict=True)
    )
    for other in others:
        draws = np.round(draws - other, 12)
    return _summary(draws, confidence)


def holm(p: FloatArray) -> FloatArray:
    """Holm's step-down adjustment over the first axis.

    The ``i``-th smallest of ``m`` values (``i`` from 0) is multiplied by ``m - i``; a running
    maximum keeps the order, and values are capped at 1 (Holm, 1979).

    Args:
        p: float64 ``(test, …)``, p-values in [0, 1]; each index of the other axes is a family.

    Returns:
        float64 of the same shape, never below ``p``.
    """
    order = p.argsort(axis=0, kind="stable")
    factor = np.arange(len(p), 0, -1).reshape(-1, *[1] * (p.ndim - 1))
    stepped = np.maximum.accumulate(np.take_along_axis(p, order, axis=0) * factor, axis=0)
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(stepped, 1.0), axis=0)
    return adjusted


def _require(num_users: int, resamples: int, confidence: float) -> None:
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"resamples must be at least 1 and confidence in (0, 1), got {resamples}, {confidence}"
        )
    if not num_users:
        raise ValueError("a bootstrap over users needs at least one user, got none")


def _summary(draws: FloatArray, confidence: float) -> Bootstrap:
    """Percentile interval and two-sided p-value of the columns of ``(resample, column)``."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    hits = np.minimum((draws <= 0).sum(axis=0), (draws >= 0).sum(axis=0))
    return Bootstrap(low, high, np.minimum(2 * (1 + hits) / (1 + len(draws)), 1.0))


def _resampled_means(
    values: FloatArray,
    weights: FloatArray,
    resamples: int,
    seed: int | np.random.SeedSequence,
) -> FloatArray:
    """Sums of ``values`` (user, column) per sum of ``weights``: ``(resample, column)``."""
    rng = np.random.default_rng(seed)
    num_users = len(values)
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, RESAMPLES_PER_CHUNK):
        chunk = means[start : start + RESAMPLES_PER_CHUNK]
        counts = np.stack(
            [
                np.bincount(rng.integers(num_users, size=num_users), minlength=num_users)
                for _ in chunk
            ]
        ).astype(np.float64)
        chunk[:] = counts @ values / (counts @ weights)[:, None]
    return np.round(means, 12)  # a different summation order must not separate a tie from zero
