"""Results of a cold-start split: warm and cold targets apart, and a study's table of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.experiments.comparison import Comparison, RunRecord, compare
from baselines.experiments.tables import NOTHING, markdown_table

if TYPE_CHECKING:
    from baselines.data.dataset import Dataset
    from baselines.experiments.study import StudyPlan

_PARTS = ("overall", "warm", "cold")
_SHOWN = ("R@10", "R@50", "N@10")
_POLICY = "removed"


def by_part(
    records: Sequence[RunRecord], dataset: Dataset, *, baseline: str
) -> dict[str, Comparison]:
    """Compare all rows on all targets (``overall``), on ``warm`` and on ``cold`` ones.

    Seen items are removed. References and teachers are measured against the baseline like arms,
    with users and seeds as random effects. A part of fewer than two targets is left out.

    Args:
        records: All records of a comparison.
        dataset: Its data; without cold items, there are no parts.
        baseline: Label of the arm that gains are measured against.
    """
    if not len(dataset.cold_items):
        return {}
    test = dataset.splits.test
    is_cold = np.isin(test.items[test.targets()[1]], dataset.cold_items)
    members = zip(_PARTS, (np.ones_like(is_cold), ~is_cold, is_cold), strict=True)
    return {
        name: compare(
            [
                dataclasses.replace(
                    each,
                    role="arm",
                    per_user={_POLICY: {m: v[part] for m, v in each.per_user[_POLICY].items()}},
                    evaluation={},
                )
                for each in records
            ],
            baseline=baseline,
        )
        for name, part in members
        if part.sum() >= 2
    }


def cold_table(plan: StudyPlan, finished: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: R@10, R@50 and N@10 overall, warm and cold, of every row; and why cold items miss.

    In brackets stands the interval of the gain over the first arm of the run. For the semantic IDs,
    the support of cold items by level; for each searched row, the survival of cold targets.

    Args:
        plan: The study.
        finished: ``Study.finished``.

    Raises:
        ValueError: If a run has no cold-start split.
    """
    lines, support, survival = [], [], []
    for name, record in finished.items():
        result = record["result"]
        if not result.get("cold_start"):
            raise ValueError(f"run {name} has no cold items: give it split: cold:SHARE")
        cells = {part: _cells(found) for part, found in result["cold_start"].items()}
        for scheme in result["schemes"]:
            shares = scheme.get("cold_support", ())
            support.append((name, scheme["name"] or "ids", _levels(shares), f"{sum(shares):.2f}"))
        for row in result["rows"]:
            label, notes = row["arm"], row["evaluations"]
            parts = (cells[part][label] if part in cells else NOTHING for part in _PARTS)
            share = np.mean([each["cold_share"] for each in notes])
            lines.append((name, label, str(len(row["seeds"])), *parts, f"{share:.3f}"))
            survived = [each["cold_survival"] for each in notes if "cold_survival" in each]
            if survived:
                survival.append((name, label, _levels(np.mean(survived, axis=0))))
    header = ("run", "row", "seeds", ", ".join(_SHOWN), *_PARTS[1:], "cold in lists")
    tables = (
        "Seen items removed; in brackets, 95 % intervals of the gain over the first arm of the "
        "run, with users and seeds as random effects.",
        markdown_table(header, lines),
        "Share of the cold items whose leading codes some warm item shares:",
        markdown_table(("run", "ids", "supported, by level", "mean depth"), support),
        "Share of the cold targets whose leading codes are still in the beam:",
        markdown_table(("run", "row", "in the beam, by level"), survival),
    )
    return "\n\n".join((f"# {plan.title}", *tables)) + "\n"


def _cells(found: Mapping[str, Any]) -> dict[str, str]:
    """The figures of each row, by label, out of the fields of the comparison of one part."""
    gains = {(each["arm"], each["metric"]): each for each in found["differences"]}

    def figures(row: Mapping[str, Any]) -> Iterator[str]:
        values = row["metrics"][_POLICY]
        for metric in (name for name in _SHOWN if name in values):
            gain = gains.get((row["arm"], metric))
            interval = f" ({gain['low']:+.4f}, {gain['high']:+.4f})" if gain else ""
            yield f"{values[metric]['mean']:.4f}{interval}"

    return {row["arm"]: ", ".join(figures(row)) for row in found["rows"]}


def _levels(shares: Sequence[float]) -> str:
    return ", ".join(f"{share:.3f}" for share in shares)
