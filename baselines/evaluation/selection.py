"""The validation metric that selects an epoch or a weight."""

from __future__ import annotations

from dataclasses import dataclass

from baselines.evaluation.config import DEFAULT_SELECTION, TieRule, parse_selection
from baselines.evaluation.metrics import RankMetric, TiedRanks, label, load_rank_metric
from baselines.evaluation.ranks import Ranks


@dataclass(frozen=True)
class Selection:
    """A metric of the target's rank at one cutoff, seen items removed; higher is better.

    Attributes:
        metric: The metric.
        cutoff: Length of the list; None for the whole list.
    """

    metric: RankMetric
    cutoff: int | None

    @classmethod
    def of(cls, selected_by: str = DEFAULT_SELECTION) -> Selection:
        """The selection that `EvaluationConfig.selected_by` names.

        Raises:
            ValueError: If there is no such rank metric, or its cutoff is not an integer.
        """
        name, cutoff = parse_selection(selected_by)
        return cls(load_rank_metric(name), cutoff)

    @property
    def label(self) -> str:
        """Its name in reports, such as ``N@10``."""
        return label(self.metric, self.cutoff)

    def value(self, ranks: Ranks, ties: TieRule) -> float:
        """Mean over all targets.

        Raises:
            ValueError: If a user-defined metric is not finite.
        """
        tied = TiedRanks(ranks.better["removed"], ranks.tied["removed"], ties)
        return float(tied.mean_of(self.metric, self.cutoff).mean())
