"""Evaluation of one trained model on data, as a table and as files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from baselines.data.dataset import Dataset
from baselines.evaluation.measures import Measures, require_metrics
from baselines.evaluation.metrics import MISS
from baselines.evaluation.ranks import POLICIES, Ranks
from baselines.evaluation.strata import Stratum, strata_of
from baselines.experiments.folder import describe
from baselines.experiments.run import users_of_targets
from baselines.models.other_data import MatchedTargets, rank_on
from baselines.models.trained import TrainedModel
from baselines.testing.metrics import check_own_metrics
from semid.arrays import FloatArray, IntArray
from semid.atomic import atomic_write
from semid.provenance import write_json

Means = dict[str, dict[str, float]]
"""Means of metrics, by policy and label."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluated:
    """A model's results on the test targets of a dataset.

    Attributes:
        model: The model.
        dataset: The data.
        ranks: Ranks of all targets.
        matched: The targets that the model knows.
        measures: The reported metrics.
        events: int64 ``(item,)``, the events that the model has learned each item of the data from.
    """

    model: TrainedModel
    dataset: Dataset
    ranks: Ranks
    matched: MatchedTargets
    measures: Measures
    events: IntArray

    @classmethod
    def of(
        cls,
        model: TrainedModel,
        dataset: Dataset,
        *,
        metrics: tuple[str, ...] | None = None,
        cutoffs: tuple[int, ...] | None = None,
    ) -> Evaluated:
        """Rank the targets.

        Args:
            model: The model.
            dataset: The data.
            metrics: As in ``EvaluationConfig``; None for those the model was trained with.
            cutoffs: Likewise.

        Raises:
            ValueError: If a metric or cutoff is invalid, or as in ``rank_on``.
        """
        before = model.spec.evaluation
        evaluation = replace(
            before, metrics=metrics or before.metrics, cutoffs=cutoffs or before.cutoffs
        )
        require_metrics(evaluation)
        check_own_metrics(evaluation)
        ranks, matched = rank_on(model, dataset)
        items = model.items
        row = items.catalog.find(dataset.catalog.ids)
        return cls(
            model=model,
            dataset=dataset,
            ranks=ranks,
            matched=matched,
            measures=Measures(
                evaluation=evaluation, popularity=items.counts, catalog=items.catalog
            ),
            events=np.where(row < 0, 0, items.counts[row]),
        )

    @cached_property
    def per_user(self) -> dict[str, dict[str, FloatArray]]:
        """Value of each target, float64 ``(target,)``, by policy and label."""
        return self.measures.per_user(self.ranks)

    @cached_property
    def means(self) -> Means:
        """Mean of each metric over all targets, by policy and label."""
        return _means(self.per_user)

    @cached_property
    def by_id(self) -> Means:
        """Means among semantic IDs instead of items; empty if no two items share an ID."""
        return self.measures.by_id(self.ranks)

    @cached_property
    def strata(self) -> list[tuple[Stratum, Means]]:
        """The groups of targets, and their means."""
        groups = strata_of(self.dataset.splits.test, self.events)
        return [(group, _means(self.per_user, group.targets)) for group in groups]

    @cached_property
    def lists(self) -> dict[str, float]:
        """Metrics of all lists together, seen items removed, by label."""
        return self.measures.of_lists(self.ranks)

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of targets, and of items and targets that the model does not know."""
        return {
            "targets": self.dataset.splits.test.num_targets,
            "ranked targets": len(self.matched.kept),
            "targets that the model does not know": self.matched.unknown_targets,
            "targets without a known history": self.matched.without_history,
            "events of unknown items": self.matched.unknown_items,
        }

    def write(self, folder: Path) -> None:
        """Write ``ranks.parquet``, one row per target, and ``metrics.json``.

        Columns: ``user_id``, ``item_id``, and for each policy ``better_POLICY``, the number of
        items with a higher score, and ``tied_POLICY``, the number of others with the same score;
        both null for a miss.
        """
        test, ids = self.dataset.splits.test, self.dataset.catalog.ids
        columns = [
            pl.Series("user_id", users_of_targets(self.dataset)),
            ids.gather(test.items[test.targets()[1]]).alias("item_id"),
        ]
        for policy in POLICIES:
            better = pl.Series(f"better_{policy}", self.ranks.better[policy])
            listed = better != MISS
            tied = pl.Series(f"tied_{policy}", self.ranks.tied[policy])
            columns += [values.set(~listed, None) for values in (better, tied)]
        buffer = io.BytesIO()
        pl.DataFrame(columns).write_parquet(buffer)
        atomic_write(folder / "ranks.parquet", buffer.getvalue())
        write_json(folder / "metrics.json", self._summary())

    def _summary(self) -> dict[str, Any]:
        return {
            "model": self.model.identity,
            "data": describe(self.dataset),
            "counts": self.counts,
            "metrics": self.means,
            "lists": self.lists,
            "by_id": self.by_id,
            "strata": [
                {
                    "kind": group.kind,
                    "name": group.name,
                    "users": int(group.targets.sum()),
                    "metrics": means,
                }
                for group, means in self.strata
            ],
        }


def _means(per_user: Mapping[str, Mapping[str, FloatArray]], targets: Any = slice(None)) -> Means:
    return {
        policy: {label: float(values[targets].mean()) for label, values in found.items()}
        for policy, found in per_user.items()
    }
