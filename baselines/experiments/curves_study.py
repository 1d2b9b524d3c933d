"""A study's table of curves: accuracy beside agreement with the teacher, epochs and time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

from baselines.experiments.tables import NOTHING, figure, markdown_table

if TYPE_CHECKING:
    from baselines.experiments.study import StudyPlan

_METRICS = ("R@10", "N@10")
_HEADER = ("run", "row", "seeds", *_METRICS, "top-1 = teacher", "epochs", "seconds")


def curves_table(plan: StudyPlan, finished: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: a point of a curve per row, means and standard deviations over seeds.

    Metrics are of the test targets, seen items removed. Collaborative consistency is the share of
    users whose best item is the teacher's; epochs and seconds of training are means over seeds.

    Args:
        plan: The study.
        finished: ``Study.finished``.
    """
    lines = [
        (name, *_cells(row))
        for name, record in finished.items()
        for row in record["result"]["rows"]
    ]
    return f"# {plan.title}\n\n{markdown_table(_HEADER, lines)}\n"


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    yield row["arm"]
    yield str(len(row["seeds"]))
    for metric in _METRICS:
        yield _estimate(row["metrics"].get("removed", {}).get(metric))
    yield _estimate(row["consistency"])
    epochs = [notes["epochs"] for notes in row["evaluations"] if "epochs" in notes]
    yield f"{fmean(epochs):g}" if epochs else NOTHING
    yield f"{row['train_seconds']:.0f}" if epochs else NOTHING


def _estimate(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return NOTHING
    return figure(value["mean"]) + ("" if value["sd"] is None else f" ± {figure(value['sd'])}")
