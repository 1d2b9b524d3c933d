"""Results of a cold-start split: warm and cold targets apart, and a study's table of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from baselines.experiments.tables import markdown_table

if TYPE_CHECKING:
    from baselines.data.dataset import Dataset
    from baselines.experiments.comparison import RunRecord
    from baselines.experiments.study import StudyPlan

COLD = "cold_start"
"""Key of these results in the ``evaluation`` of a record."""

_SHOWN = ("R@10", "R@50", "N@10")


def with_cold_start(
    records: Sequence[RunRecord], dataset: Dataset, *, baseline: str
) -> list[RunRecord]:
    """The records with the results of warm and of cold targets in ``evaluation["cold_start"]``.

    They are, by part (``warm``, ``cold``; without those that have no target), ``targets`` and, seen
    items removed, for each metric its ``mean`` and the bootstrap interval ``low``, ``high`` of the
    gain over the baseline, paired by user. The baseline's record is that of the same seed, or its
    first for a record without a seed.

    Args:
        records: All records of a comparison.
        dataset: Its data; without cold items, the records are returned unchanged.
        baseline: Label of the arm that gains are measured against; it has no intervals itself.
    """
    if not len(dataset.cold_items):
        return list(records)
    test = dataset.splits.test
    is_cold = np.isin(test.items[test.targets()[1]], dataset.cold_items)
    parts = {name: part for name, part in (("warm", ~is_cold), ("cold", is_cold)) if part.any()}
    of_seed = {each.seed: each for each in records if each.arm == baseline}
    first = next(iter(of_seed.values()))

    def results(record: RunRecord) -> dict[str, Any]:
        against = None if record.arm == baseline else of_seed.get(record.seed, first)
        return {
            name: {"targets": int(part.sum()), **_of_part(record, against, part)}
            for name, part in parts.items()
        }

    return [
        dataclasses.replace(each, evaluation={**each.evaluation, COLD: results(each)})
        for each in records
    ]


def cold_table(plan: StudyPlan, finished: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: R@10, R@50 and N@10 overall, warm and cold, of every row; and the IDs' support.

    In brackets stands the interval of the gain over the first arm of the run. Several seeds are
    several lines, since each has its own interval.

    Args:
        plan: The study.
        finished: ``Study.finished``.

    Raises:
        ValueError: If a run has no cold-start split.
    """
    lines, support = [], []
    for name, record in finished.items():
        result = record["result"]
        for scheme in result["schemes"]:
            shares = scheme.get("cold_support", ())
            by_level = ", ".join(f"{share:.3f}" for share in shares)
            support.append((name, scheme["name"] or "ids", by_level, f"{sum(shares):.2f}"))
        for row in result["rows"]:
            for seed, notes in zip(row["seeds"], row["evaluations"], strict=True):
                if COLD not in notes:
                    raise ValueError(f"run {name} has no cold items: give it split: cold:SHARE")
                lines.append((name, row["arm"], _shown(seed), *_cells(notes)))
    header = ("run", "row", "seed", "R@10, R@50, N@10", "warm", "cold", "cold in lists")
    ids = markdown_table(("run", "ids", "supported, by level", "mean depth"), support)
    return (
        f"# {plan.title}\n\nSeen items removed; in brackets, 95 % intervals of the gain over the "
        f"first arm of the run.\n\n{markdown_table(header, lines)}\n\n"
        f"Share of the cold items whose leading codes some warm item shares:\n\n{ids}\n"
    )


def _of_part(
    record: RunRecord, against: RunRecord | None, part: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    from baselines.evaluation.significance import paired_bootstrap

    values = record.per_user["removed"]
    found = {metric: {"mean": float(of_user[part].mean())} for metric, of_user in values.items()}
    if against is not None:
        before = against.per_user["removed"]
        gains = np.stack([values[name][part] - before[name][part] for name in values], axis=1)
        interval = paired_bootstrap(gains)
        for name, low, high in zip(values, interval.low, interval.high, strict=True):
            found[name] |= {"low": float(low), "high": float(high)}
    return found


def _cells(notes: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Overall, warm and cold figures of one record, and the share of cold items in its lists."""
    parts = notes[COLD]
    total = sum(part["targets"] for part in parts.values())

    def overall(metric: str) -> float:
        return float(sum(p["targets"] * p[metric]["mean"] for p in parts.values()) / total)

    shown = [metric for metric in _SHOWN if all(metric in part for part in parts.values())]
    together = ", ".join(f"{overall(metric):.4f}" for metric in shown)
    warm, cold = (
        ", ".join(_figure(parts[name][metric]) for metric in shown) if name in parts else "—"
        for name in ("warm", "cold")
    )
    return together, warm, cold, f"{notes['cold_share']:.3f}"


def _figure(found: Mapping[str, float]) -> str:
    if "low" not in found:
        return f"{found['mean']:.4f}"
    return f"{found['mean']:.4f} ({found['low']:+.4f}, {found['high']:+.4f})"


def _shown(seed: int | None) -> str:
    return "" if seed is None else str(seed)
