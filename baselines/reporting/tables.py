"""The tables of a report: their cells for the page, and files for spreadsheets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from baselines.experiments.comparison import ArmRow, Difference, Estimate
from baselines.experiments.tables import NOTHING, duration, figure, signed
from baselines.reporting.answer import interval, p_value, verdict_of
from baselines.reporting.source import ReportSource
from semid.atomic import atomic_write

_GROUPS = {"reference": "Counted, nothing trained", "teacher": "Teacher", "arm": "Arms"}


@dataclass(frozen=True, kw_only=True)
class GainCell:
    """A difference as a cell: its value, its interval, p, and whether it is told from none."""

    value: str
    interval: str
    p: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class ResultLine:
    """A row of the main table.

    Attributes:
        label: The row.
        metrics: Mean and standard deviation by metric, as text.
        is_best: For each metric, whether no arm has a higher mean.
        own: The difference to its counterpart.
        counted: The difference to the best row that only counts.
    """

    label: str
    metrics: tuple[tuple[str, str], ...]
    is_best: tuple[bool, ...]
    own: GainCell | None
    counted: GainCell | None


def result_groups(found: ReportSource, policy: str) -> list[tuple[str, list[ResultLine]]]:
    """The main table by role: counted rows, teachers, arms; differences under `policy` only."""
    groups = []
    for role, title in _GROUPS.items():
        rows = [row for row in found.comparison.rows if row.role == role]
        if rows:
            groups.append((title, [_line(found, row, policy) for row in rows]))
    return groups


def _line(found: ReportSource, row: ArmRow, policy: str) -> ResultLine:
    names = found.comparison.metric_names
    values = [row.metrics[policy][name] for name in names]
    best = [
        max(one.metrics[policy][name].mean for one in found.comparison.rows if one.role == "arm")
        for name in names
    ]
    level, measured = 1 - float(found.comparison.statistics["confidence"]), policy == found.policy
    return ResultLine(
        label=row.arm,
        metrics=tuple((figure(value.mean), _deviation(value)) for value in values),
        is_best=tuple(
            row.role == "arm" and value.mean == top for value, top in zip(values, best, strict=True)
        ),
        own=_gain(found.own(row.arm), level) if measured else None,
        counted=_gain(found.over_counted(row.arm), level) if measured else None,
    )


def _deviation(value: Estimate) -> str:
    return "" if value.sd is None else f"± {figure(value.sd)}"


def _gain(gain: Difference | None, level: float) -> GainCell | None:
    if gain is None:
        return None
    return GainCell(
        value=signed(gain.mean),
        interval=interval(gain),
        p=p_value(gain.p_holm),
        verdict=verdict_of(gain, level),
    )


def cost_lines(found: ReportSource) -> list[tuple[str, ...]]:
    """Per row: parameters, training, ranking the test targets, kept epochs, learning rate."""
    lines: list[tuple[str, ...]] = []
    for row in found.comparison.rows:
        ranked = [one["test_seconds"] for one in row.evaluations if "test_seconds" in one]
        kept = [f"{one['best_epoch']} of {one['epochs']}" for one in row.evaluations
                if row.parameters and "epochs" in one]  # fmt: skip
        arm = found.arms.get(row.arm)
        lines.append(
            (
                row.arm,
                f"{row.parameters:,}",
                duration(row.train_seconds),
                duration(sum(ranked) / len(ranked)) if ranked else NOTHING,
                ", ".join(kept) or NOTHING,
                NOTHING if arm is None else f"{found.run.config.training.lr:g}",
            )
        )
    return lines


def stratum_lines(found: ReportSource) -> list[tuple[str, ...]]:
    """The answering metric of every row within each stratum."""
    strata = found.comparison.strata
    lines: list[tuple[str, ...]] = [("test targets", *(f"{one.users:,}" for one in strata))]
    for row in found.comparison.rows:
        means = [one.metrics[row.arm][found.policy][found.metric].mean for one in strata]
        lines.append((row.arm, *map(figure, means)))
    return lines


def write_csv(found: ReportSource, folder: Path) -> None:
    """Write ``rows.csv``, ``differences.csv``, ``strata.csv`` and ``training.csv``."""
    comparison = found.comparison
    write_table(
        folder / "rows.csv",
        ("row", "role", "policy", "metric", "mean", "sd", "seeds", "parameters", "train_seconds"),
        (
            (row.arm, row.role, policy, name, value.mean, value.sd, len(row.seeds), row.parameters,
             row.train_seconds)
            for row in comparison.rows
            for policy, metrics in row.metrics.items()
            for name, value in metrics.items()
        ),
    )  # fmt: skip
    gains = {
        (one.arm, one.reference, one.policy, one.metric): one
        for one in (*comparison.differences, *found.beyond)
    }
    write_table(
        folder / "differences.csv",
        tuple(Difference.__dataclass_fields__),
        (tuple(asdict(one).values()) for one in gains.values()),
    )
    write_table(
        folder / "strata.csv",
        ("row", "kind", "stratum", "targets", "policy", "metric", "mean", "sd"),
        (
            (row, one.kind, one.name, one.users, policy, name, value.mean, value.sd)
            for one in comparison.strata
            for row, policies in one.metrics.items()
            for policy, metrics in policies.items()
            for name, value in metrics.items()
        ),
    )
    write_table(
        folder / "training.csv",
        ("row", "seed", "epoch", "validation", "kept"),
        (
            (curve.arm, curve.seed, epoch, value, epoch == curve.best_epoch)
            for curve in found.curves
            for epoch, value in zip(curve.epochs, curve.values, strict=True)
        ),
    )


def write_table(path: Path, header: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    atomic_write(path, text.getvalue())
