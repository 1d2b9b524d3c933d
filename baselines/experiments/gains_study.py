"""A study's table of gains: every row beside the rows that it is measured against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from baselines.experiments.study import metrics_table
from baselines.experiments.tables import figure, markdown_table

if TYPE_CHECKING:
    from baselines.experiments.study import StudyPlan

_METRICS = ("R@10", "N@10")


def gains_table(plan: StudyPlan, finished: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: the table of metrics; and each recorded difference, seen items removed.

    A cell holds the difference, its interval and, in brackets, its p-value after Holm's correction.

    Args:
        plan: The study.
        finished: ``Study.finished``.
    """
    lines = []
    for name, record in finished.items():
        by_pair: dict[tuple[str, str], dict[str, str]] = {}
        for found in record["result"].get("differences", ()):
            if found["policy"] == "removed":
                pair = by_pair.setdefault((found["arm"], found["reference"]), {})
                pair[found["metric"]] = _gain(found)
        lines += [
            (name, arm, reference, *(cells.get(metric, "—") for metric in _METRICS))
            for (arm, reference), cells in by_pair.items()
        ]
    gains = markdown_table(("run", "row", "minus", *_METRICS), lines)
    return f"{metrics_table(plan, finished)}\n{gains}\n"


def _gain(found: Mapping[str, Any]) -> str:
    mean, low, high = (_signed(found[name]) for name in ("mean", "low", "high"))
    p = "< .0001" if found["p_holm"] < 1e-4 else figure(found["p_holm"])
    return f"{mean} [{low}, {high}] ({p})"


def _signed(value: float) -> str:
    return ("-" if value < 0 else "+") + figure(abs(value))
