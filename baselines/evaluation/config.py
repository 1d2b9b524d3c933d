"""Settings of evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from semid.checks import did_you_mean, require_int
from semid.config import Renormalize
from semid.field_types import require_types
from semid.settings import as_json

TieRule = Literal["strict", "expected", "optimistic"]
"""Rank of the target among items with equal scores: last, random (expected value), or first."""

RANK_METRICS = {
    "recall": "baselines.evaluation.metrics:Recall",
    "ndcg": "baselines.evaluation.metrics:NDCG",
    "mrr": "baselines.evaluation.metrics:MRR",
}
"""Built-in metrics of the target's rank, by name."""

LIST_METRICS = {
    "coverage": "baselines.evaluation.beyond_accuracy:Coverage",
    "gini": "baselines.evaluation.beyond_accuracy:Gini",
    "novelty": "baselines.evaluation.beyond_accuracy:Novelty",
    "diversity": "baselines.evaluation.beyond_accuracy:Diversity",
    "cold": "baselines.evaluation.beyond_accuracy:Cold",
}
"""Built-in metrics of the recommended lists, by name."""

METRICS = {**RANK_METRICS, **LIST_METRICS}

DEFAULT_METRICS = tuple(METRICS)
DEFAULT_CUTOFFS = (5, 10, 20)
DEFAULT_SELECTION = "ndcg@10"

ITEM_WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Weights of an item head out of which validation chooses."""

_LATER = ("metrics", "cutoffs", "prior", "item_weight", "slots")

MOST_SLOTS = 9
"""Places that may be reserved; the first of ten is always the model's."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How models are ranked; every choice is part of the result.

    Attributes:
        beam: Beam width for the test targets; an item outside the beam is a miss.
        renormalize: Whether a token's probability is relative to its legal siblings or to the whole
            vocabulary.
        ties: How a target is ranked among items with exactly its score.
        validation_beam: Beam width for validation targets during training.
        validation_targets: Size of the fixed random subset of validation targets that selects the
            epoch of a generator; the test split never does.
        batch_size: Histories decoded at a time.
        certified: Number of test histories on which the beam is compared with exact scoring.
        metrics: Metrics to report: ``recall``, ``ndcg``, ``mrr``; of the lists, ``coverage``,
            ``gini``, ``novelty``, ``diversity``, ``cold``; or a ``package.module:Class``. Computed
            from stored ranks, so they may change on a finished folder.
        cutoffs: List lengths at which metrics are reported; these may change too.
        selected_by: The metric whose validation mean, seen items removed, selects the epoch of a
            model and the weight of a fusion: a metric of the target's rank and a cutoff, such as
            ``ndcg@10``, or without a cutoff, such as ``mrr``.
        prior: How much of the training prior the beam search of a trained model divides out: an
            item scores ``log P - prior * log share``, with its path's share of the training events
            (``semid.PriorCorrection``). 0 is off. It may change on a finished folder, too, whose
            models are ranked anew.
        item_weight: Weight in the search of a backbone's item head or second IDs, where it has
            them: an item scores ``(1 - item_weight) * log P(path) + item_weight * log P(item)``, as
            if they were a teacher in the beam. 0 ranks by the path alone, 1 by the other; ``auto``
            is the best of ``ITEM_WEIGHTS`` on the validation targets. The epoch is selected at
            weight .5 in any case, so it may change on a finished folder, too, as ``prior`` may.
        slots: The last ``slots`` of the ``k`` listed items are the content scorer's best items that
            are not yet listed and have no training event; 0 is off. Test targets are ranked in
            lists of ten, which the model's other items follow. Only where a beam is searched; what
            is chosen on validation is chosen without. It may change on a finished folder, too.

    Raises:
        ValueError: If a number is below 1, the prior is below 0, the item weight lies outside
            [0, 1], slots outside [0, ``MOST_SLOTS``], or a choice is unknown or given twice.
    """

    beam: int = 50
    renormalize: Renormalize = "children"
    ties: TieRule = "expected"
    validation_beam: int = 20
    validation_targets: int = 4000
    batch_size: int = 256
    certified: int = 16
    metrics: tuple[str, ...] = DEFAULT_METRICS
    cutoffs: tuple[int, ...] = field(default=DEFAULT_CUTOFFS, metadata={"before": DEFAULT_CUTOFFS})
    selected_by: str = field(default=DEFAULT_SELECTION, metadata={"before": DEFAULT_SELECTION})
    prior: float = field(default=0.0, metadata={"before": 0.0})
    item_weight: float | Literal["auto"] = field(default="auto", metadata={"before": "auto"})
    slots: int = field(default=0, metadata={"before": 0})

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("beam", "validation_beam", "validation_targets", "batch_size", "certified"):
            require_int(name, getattr(self, name), 1)
        require_int("slots", self.slots, 0, MOST_SLOTS)
        if self.prior < 0:
            raise ValueError(f"prior must be at least 0, which is off, got {self.prior}")
        if self.item_weight != "auto" and not 0 <= self.item_weight <= 1:
            raise ValueError(f"item_weight must be auto or in [0, 1], got {self.item_weight}")
        for cutoff in self.cutoffs:
            require_int("cutoffs", cutoff, 1)
        for name in ("metrics", "cutoffs"):
            given: tuple[Any, ...] = getattr(self, name)
            if not given or len(set(given)) < len(given):
                raise ValueError(f"{name} must be different, at least one, got {list(given)}")
        for metric in self.metrics:
            _require_metric("metrics", metric, METRICS)
        metric, _ = parse_selection(self.selected_by)
        _require_metric("selected_by", metric, RANK_METRICS)


def parse_selection(text: str) -> tuple[str, int | None]:
    """The metric and the cutoff (None without one) of ``selected_by``.

    Raises:
        ValueError: If the cutoff is not an integer of at least 1.
    """
    metric, at, cutoff = text.partition("@")
    if at and not (cutoff.isascii() and cutoff.isdigit() and int(cutoff) >= 1):
        raise ValueError(
            f"selected_by must be a metric and a cutoff of at least 1, such as "
            f"{DEFAULT_SELECTION}, got {text!r}"
        )
    return metric, int(cutoff) if at else None


def ranking_settings(evaluation: Any) -> dict[str, Any]:
    """The settings that determine a model, as JSON values; its ranks depend on more.

    Settings of what is done with a trained model are excluded, so that they may change on a
    finished folder.

    Args:
        evaluation: The settings, or their JSON.
    """
    return {name: value for name, value in as_json(evaluation).items() if name not in _LATER}


def _require_metric(name: str, metric: str, built_in: dict[str, str]) -> None:
    """Require a built-in metric or a class path; the class is imported only when used."""
    if ":" not in metric and metric not in built_in:
        raise ValueError(
            f"{name} must be out of {', '.join(built_in)} or package.module:Class, got "
            f"{metric!r}.{did_you_mean(metric, built_in)}"
        )
