"""The metrics and cutoffs that a run reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from baselines.data.content_texts import NoTextError, content_texts, tfidf
from baselines.data.dataset import Dataset
from baselines.evaluation.beyond_accuracy import Diversity
from baselines.evaluation.cold import share_of_lists
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.metrics import ListMetric, Metric, RankMetric, label, load_metric
from baselines.evaluation.ranks import POLICIES, TOP, Ranks
from baselines.evaluation.selection import Selection
from semid.arrays import FloatArray, IntArray
from semid.catalog import Catalog


@dataclass(frozen=True, kw_only=True, eq=False)
class Measures:
    """Computes the metrics in the settings from ranks.

    Attributes:
        evaluation: The settings.
        popularity: int64 ``(item,)``, training events of each item.
        catalog: The items, whose texts `Diversity` compares.
        cold: int64, rows of the items that a cold-start split took out of training; else none.
    """

    evaluation: EvaluationConfig
    popularity: IntArray
    catalog: Catalog
    cold: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def of(cls, evaluation: EvaluationConfig, dataset: Dataset) -> Measures:
        """The metrics of a dataset's split.

        Raises:
            ValueError: If a metric cannot be loaded, or there is no `RankMetric`.
        """
        require_metrics(evaluation)
        popularity = np.bincount(dataset.splits.train.items, minlength=len(dataset.catalog))
        return cls(
            evaluation=evaluation,
            popularity=popularity,
            catalog=dataset.catalog,
            cold=dataset.cold_items,
        )

    @cached_property
    def text_vectors(self) -> Any:
        """TF-IDF of the items' texts, scipy CSR array ``(item, term)``; None without texts."""
        try:
            return tfidf(content_texts(self.catalog))
        except NoTextError:
            return None

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

    def cold_share(self, ranks: Ranks) -> float | None:
        """Share of cold items in the stored lists, seen items removed; None without cold items."""
        return share_of_lists(ranks.top, self.cold) if len(self.cold) else None

    def of_lists(self, ranks: Ranks) -> dict[str, float]:
        """Metrics of all lists together, seen items removed, by label.

        Computed at the cutoffs up to ten (the length of the stored lists), else at ten. `Diversity`
        is left out if the items have no texts.

        Raises:
            ValueError: If a metric is not finite.
        """
        cutoffs = [cutoff for cutoff in self.evaluation.cutoffs if cutoff <= TOP] or [TOP]
        found = {
            label(metric, cutoff): value
            for metric in map(load_metric, self.evaluation.metrics)
            for cutoff in cutoffs
            if (value := self._of_lists(metric, ranks.top[:, :cutoff])) is not None
        }
        for name, value in found.items():
            if not np.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}. Mend its of_lists.")
        return found

    def _of_lists(self, metric: Metric, items: IntArray) -> float | None:
        """The value of a metric of lists; None for any other, or without the texts it needs."""
        if isinstance(metric, ListMetric):
            return float(metric.of_lists(items, self.popularity))
        if isinstance(metric, Diversity) and self.text_vectors is not None:
            return metric.of_vectors(items, self.text_vectors)
        return None


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
