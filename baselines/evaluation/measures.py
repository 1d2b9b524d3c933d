"""The metrics and cutoffs that a run reports."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from baselines.data.sequences import SequenceSet
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.metrics import ListMetric, RankMetric, label, load_metric
from baselines.evaluation.ranks import POLICIES, TOP, Ranks
from baselines.evaluation.selection import Selection
from semid.arrays import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Measures:
    """Computes the metrics in the settings from ranks.

    Attributes:
        evaluation: The settings.
        popularity: int64 ``(item,)``, training events of each item.
    """

    evaluation: EvaluationConfig
    popularity: IntArray

    @classmethod
    def of(cls, evaluation: EvaluationConfig, train: SequenceSet, num_items: int) -> Measures:
        """The metrics of a split.

        Raises:
            ValueError: If a metric cannot be loaded, or there is no `RankMetric`.
        """
        require_metrics(evaluation)
        popularity = np.bincount(train.items, minlength=num_items)
        return cls(evaluation=evaluation, popularity=popularity)

    def per_user(self, ranks: Ranks) -> dict[str, dict[str, FloatArray]]:
        """Value of each target, float64 ``(target,)``, by seen-item policy and label."""
        how = self.evaluation
        return {
            policy: ranks.metrics(policy, how.ties, metrics=how.metrics, cutoffs=how.cutoffs)
            for policy in POLICIES
        }

    def by_id(self, ranks: Ranks) -> dict[str, dict[str, float]]:
        """Means among semantic IDs, by policy and label; empty if targets have no such rank."""
        if ranks.by_id is None:
            return {}
        return {
            policy: {name: float(values.mean()) for name, values in of_targets.items()}
            for policy, of_targets in self.per_user(ranks.by_id).items()
        }

    def of_lists(self, ranks: Ranks) -> dict[str, float]:
        """Metrics of all lists together, seen items removed, by label.

        Computed at the cutoffs up to ten (the length of the stored lists), else at ten.

        Raises:
            ValueError: If a metric is not finite.
        """
        cutoffs = [cutoff for cutoff in self.evaluation.cutoffs if cutoff <= TOP] or [TOP]
        found = {
            label(metric, cutoff): float(metric.of_lists(ranks.top[:, :cutoff], self.popularity))
            for metric in map(load_metric, self.evaluation.metrics)
            if isinstance(metric, ListMetric)
            for cutoff in cutoffs
        }
        for name, value in found.items():
            if not np.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}. Mend its of_lists.")
        return found


def require_metrics(evaluation: EvaluationConfig) -> None:
    """Load every metric that the settings name, before anything is trained.

    Raises:
        ValueError: If one cannot be loaded, there is no `RankMetric`, or two share a label.
    """
    Selection.of(evaluation.selected_by)
    metrics = [load_metric(name) for name in evaluation.metrics]
    if not any(isinstance(metric, RankMetric) for metric in metrics):
        raise ValueError(
            "metrics must hold one of the target's rank, such as recall, got "
            f"{list(evaluation.metrics)}"
        )
    labels = [name for metric in metrics for name in metric.labels(evaluation.cutoffs)]
    if len(set(labels)) < len(labels):
        raise ValueError(f"metrics must have different symbols, got {', '.join(labels)}")
