"""Metrics of a target's rank and of recommended lists, built in or user-defined."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.evaluation.config import (
    DEFAULT_CUTOFFS,
    DEFAULT_METRICS,
    METRICS,
    RANK_METRICS,
    TieRule,
)
from semid.arrays import FloatArray, IntArray
from semid.registry import load_class

MISS: int = int(np.iinfo(np.int64).max)
"""Value of ``better`` for a target that is not in its list: every metric is then zero."""


class Metric(ABC):
    """A metric, called ``symbol@cutoff`` in reports and files: `RankMetric` or `ListMetric`.

    Attributes:
        symbol: Its name in reports, unique among metrics.
    """

    symbol: ClassVar[str]

    def labels(self, cutoffs: Sequence[int]) -> list[str]:
        """Names of its values: one for each cutoff."""
        return [label(self, cutoff) for cutoff in cutoffs]


class RankMetric(Metric):
    """A metric of the target's rank; its value for a user is the mean over tied ranks.

    For example, precision::

        class Precision(RankMetric):
            symbol = "P"

            def of_rank(self, rank, cutoff):
                return (rank < cutoff) / cutoff

    Attributes:
        has_cutoff: Whether it is reported at each cutoff, or once for the whole list.
    """

    has_cutoff: ClassVar[bool] = True

    @abstractmethod
    def of_rank(self, rank: IntArray, cutoff: float) -> FloatArray:
        """Value of a target at each rank.

        Args:
            rank: int64 ``(rank,)``, from 0, the best.
            cutoff: Length of the list; infinite for the whole list.

        Returns:
            Finite float64 ``(rank,)``.
        """

    def labels(self, cutoffs: Sequence[int]) -> list[str]:
        """One name for each cutoff, such as ``N@10``, or the symbol alone."""
        return [label(self, cutoff) for cutoff in self.cutoffs(cutoffs)]

    def cutoffs(self, cutoffs: Sequence[int]) -> Sequence[int | None]:
        """The cutoffs at which it is reported; None for the whole list."""
        return cutoffs if self.has_cutoff else [None]


class ListMetric(Metric):
    """A metric of all users' lists together: one value per run, without a significance test."""

    @abstractmethod
    def of_lists(self, items: IntArray, popularity: IntArray) -> float:
        """Value for a run.

        Args:
            items: int64 ``(target, cutoff)``, the best unseen items of each target's user, best
                first; -1 where no more are left.
            popularity: int64 ``(item,)``, training events of each item of the catalogue.

        Returns:
            A finite number.
        """


class Recall(RankMetric):
    """Whether the target is in the list: ``[rank < k]``. With one target, this is the hit rate."""

    symbol = "R"

    def of_rank(self, rank: IntArray, cutoff: float) -> FloatArray:
        """1 inside the list, else 0."""
        return np.where(rank < cutoff, 1.0, 0.0)


class NDCG(RankMetric):
    """NDCG of one target, whose ideal gain is 1: ``[rank < k] / log2(rank + 2)``."""

    symbol = "N"

    def of_rank(self, rank: IntArray, cutoff: float) -> FloatArray:
        """The discount inside the list, else 0."""
        return np.where(rank < cutoff, 1.0 / np.log2(rank + 2.0), 0.0)


class MRR(RankMetric):
    """Reciprocal rank, ``1 / (rank + 1)``, of the whole list unless a cutoff is given."""

    symbol = "MRR"
    has_cutoff = False

    def of_rank(self, rank: IntArray, cutoff: float) -> FloatArray:
        """The reciprocal rank inside the list, else 0."""
        return np.where(rank < cutoff, 1.0 / (rank + 1.0), 0.0)


def label(metric: Metric, cutoff: int | None) -> str:
    """Name of a metric in reports, such as ``N@10``; without a cutoff the symbol alone."""
    return metric.symbol if cutoff is None else f"{metric.symbol}@{cutoff}"


def load_metric(name: str) -> Metric:
    """A metric, by short name or as ``package.module:Class``.

    Raises:
        ValueError: If it does not exist, or one of your own is neither a `RankMetric` nor a
            `ListMetric`.
    """
    advice = "Derive it from RankMetric or ListMetric of baselines.evaluation.metrics."
    made = load_class(name, METRICS, Metric, what="metric", advice=advice)()
    is_whole = name in METRICS or isinstance(made, RankMetric | ListMetric)
    if not is_whole or not hasattr(made, "symbol"):
        lacks = "symbol" if is_whole else "of_rank or of_lists"
        raise ValueError(f"expected a metric with {lacks}, got {name!r} without. {advice}")
    return made


def load_rank_metric(name: str) -> RankMetric:
    """A metric of the target's rank, loaded as in `load_metric`.

    Raises:
        ValueError: If it does not exist, or is not a `RankMetric`.
    """
    made = load_metric(name)
    if not isinstance(made, RankMetric):
        raise ValueError(
            f"expected a metric of the target's rank, got {name!r}, which is one of lists. "
            f"Take {', '.join(RANK_METRICS)} or a RankMetric of your own."
        )
    return made


def metric_values(
    better: Tensor | NDArray[np.int64],
    tied: Tensor | NDArray[np.int64],
    *,
    ties: TieRule = "expected",
    metrics: Sequence[str] = DEFAULT_METRICS,
    cutoffs: Sequence[int] = DEFAULT_CUTOFFS,
) -> dict[str, FloatArray]:
    """Metrics of every target, from its rank among the candidate items.

    Ties allow the ranks ``better .. better + tied``: ``"strict"`` takes the last,
    ``"optimistic"`` the first, and ``"expected"`` the mean of the metric over all of them, which is
    its expectation under a uniformly random order of the tied items.

    Args:
        better: int64 ``(target,)``, number of candidates that score strictly higher than the
            target; ``MISS`` if the target is not in the list at all (the number of candidates
            would also do, except that the reciprocal rank would be small instead of zero).
        tied: int64 ``(target,)``, number of *other* candidates with exactly the target's score.
        ties: The rule for ties.
        metrics: Names of metrics; list metrics are ignored.
        cutoffs: The list lengths ``k``, each at least 1.

    Returns:
        float64 ``(target,)`` by label: by default ``R@k`` for each cutoff, then ``N@k``, then
        ``MRR``. Means over all targets, misses included, are the metrics of a run.

    Raises:
        ValueError: On an unknown tie rule or metric, a cutoff below 1, negative counts, unequal
            lengths, or a metric that is not finite.
    """
    if any(k < 1 for k in cutoffs):
        raise ValueError(f"cutoffs must be at least 1, got {list(cutoffs)}")
    ranks = TiedRanks(better, tied, ties)
    return {
        label(metric, cutoff): ranks.mean_of(metric, cutoff)
        for metric in map(load_metric, metrics)
        if isinstance(metric, RankMetric)
        for cutoff in metric.cutoffs(cutoffs)
    }


class TiedRanks:
    """The ranks that ties allow for each target, ``low .. high``, both inclusive."""

    def __init__(
        self,
        better: Tensor | NDArray[np.int64],
        tied: Tensor | NDArray[np.int64],
        ties: TieRule,
    ) -> None:
        first, others = _counts(better, "better"), _counts(tied, "tied")
        if first.shape != others.shape:
            raise ValueError(
                "better and tied must describe the same targets, got "
                f"{len(first)} and {len(others)}"
            )
        if ties not in get_args(TieRule):
            raise ValueError(f"ties must be one of {', '.join(get_args(TieRule))}, got {ties!r}")
        self.listed = first < MISS
        first, others = np.where(self.listed, first, 0), np.where(self.listed, others, 0)
        self.low = first + others if ties == "strict" else first
        self.high = first if ties == "optimistic" else first + others
        self.every = np.arange(int(self.high.max(initial=0)) + 1)

    def mean_of(self, metric: RankMetric, cutoff: int | None) -> FloatArray:
        """Mean of a metric over each target's possible ranks; zero for a miss."""
        values = metric.of_rank(self.every, math.inf if cutoff is None else cutoff)
        values = np.asarray(values, dtype=np.float64)
        if values.shape != self.every.shape or not np.isfinite(values).all():
            raise ValueError(
                f"{label(metric, cutoff)} must have a finite value for each rank, got "
                f"{values.shape} values for {self.every.shape} ranks or one that is not finite. "
                "Mend its of_rank."
            )
        below = np.concatenate([[0.0], np.cumsum(values)])
        others = self.high - self.low
        total = below[self.high + 1] - below[self.low]
        mean = np.where(others == 0, values[self.low], total / (others + 1))
        return np.where(self.listed, mean, 0.0)


def ranks_from_scores(
    scores: Tensor, targets: Tensor, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Rank of each target among all scored items.

    Args:
        scores: Float ``(target, item)``, one row of item scores per target; no NaN.
        targets: int64 ``(target,)``, the catalogue row of each target.
        seen: bool ``(target, item)``, items that are not candidates; ``None`` keeps all. The target
            is always ranked, seen or not; `rank_by_scores` turns a seen target into a miss.

    Returns:
        ``better`` and ``tied``, int64 ``(target,)`` on the device of ``scores``, for
        ``metric_values``.

    Raises:
        ValueError: If shapes disagree, a row lies outside the catalogue or a score is NaN.
    """
    if scores.ndim != 2 or targets.shape != scores.shape[:1]:
        raise ValueError(
            f"scores must be (target, item) and targets (target,), "
            f"got {tuple(scores.shape)} and {tuple(targets.shape)}"
        )
    if scores.isnan().any():
        raise ValueError("scores hold NaN, which no order ranks. Did the scorer's training fail?")
    if targets.numel() and (int(targets.min()) < 0 or int(targets.max()) >= scores.shape[1]):
        raise ValueError(
            f"targets must be catalogue rows in [0, {scores.shape[1]}), "
            f"got {int(targets.min())} to {int(targets.max())}"
        )
    own = scores.gather(1, targets[:, None])
    others = _candidates(seen, scores).scatter(1, targets[:, None], False)
    return ((scores > own) & others).sum(dim=1), ((scores == own) & others).sum(dim=1)


def _counts(values: Tensor | NDArray[np.int64], name: str) -> NDArray[np.int64]:
    array = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be int64 (target,), got {array.dtype} {array.shape}")
    if (array < 0).any():
        raise ValueError(f"{name} counts items and must not be negative, got {array.min()}")
    return array.astype(np.int64)


def _candidates(seen: Tensor | None, scores: Tensor) -> Tensor:
    """Bool ``(target, item)``: the complement of ``seen``."""
    if seen is None:
        return torch.ones_like(scores, dtype=torch.bool)
    if seen.shape != scores.shape or seen.dtype != torch.bool:
        raise ValueError(
            f"seen must be bool {tuple(scores.shape)} like scores, "
            f"got {seen.dtype} {tuple(seen.shape)}"
        )
    return ~seen.to(scores.device)


def auc(scores: NDArray[Any], is_positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the share of pairs in which the positive scores higher.

    A pair of equal scores counts half.

    Args:
        scores: Float ``(sample,)``.
        is_positive: bool ``(sample,)``, some true and some false.
    """
    from scipy.stats import rankdata

    count = int(is_positive.sum())
    below = rankdata(scores)[is_positive].sum() - count * (count + 1) / 2
    return float(below / (count * (len(scores) - count)))


def user_auc(
    scores: NDArray[Any], is_positive: NDArray[np.bool_], users: NDArray[np.int64]
) -> float:
    """Mean over users of the AUC of their own samples (UAUC).

    Args:
        scores: Float ``(sample,)``.
        is_positive: bool ``(sample,)``, for each user some true and some false.
        users: int64 ``(sample,)``.
    """
    order = np.argsort(users, kind="stable")
    cuts = np.flatnonzero(np.diff(users[order])) + 1
    parts = zip(np.split(scores[order], cuts), np.split(is_positive[order], cuts), strict=True)
    return float(np.mean([auc(*part) for part in parts]))
