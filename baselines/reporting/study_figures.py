"""The figure of a study, drawn from the results that are kept beside its file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any

from baselines.experiments.arms import Arm
from baselines.experiments.comparison import ArmRow, Comparison, Estimate
from baselines.experiments.study import StudyPlan
from baselines.experiments.tables import figure as number
from baselines.reporting.answer import interval, short_label
from baselines.reporting.drawing import INK, MUTED, SERIES, SURFACE, WIDE, Picture, blank, canvas
from baselines.reporting.drawing import colours as colours_of
from baselines.reporting.figures import forest, in_words, weight_curves, weight_series
from semid.registry import load_function
from semid.settings import from_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURE = "figure.svg"
_FIGURES = {
    name: f"baselines.reporting.study_figures:{name}_figure"
    for name in ("alpha", "differences", "teachers", "epochs")
}
_METRIC, _POLICY, _CONFIDENCE = "N@10", "removed", 0.95
_OVER_SEEDS = "mean and standard deviation over seeds"

Finished = Mapping[str, Mapping[str, Any]]
"""``Study.finished``."""


def study_figure(plan: StudyPlan, finished: Finished) -> Picture | None:
    """The figure that ``plan.figure`` names; None if no run that it shows is finished.

    Raises:
        ValueError: If ``plan.figure`` names no figure, or none is asked for.
    """
    if plan.figure is None:
        raise ValueError("expected a study with a figure, got none")
    made_by = load_function(plan.figure, _FIGURES, what="figure of a study")
    picture: Picture | None = made_by(plan, finished)
    return picture


def alpha_figure(plan: StudyPlan, finished: Finished) -> Picture | None:
    """N@10 and collaborative consistency by the teacher's weight, a line per run and loss."""
    series = {}
    for run, comparison in _comparisons(finished).items():
        options, rows = finished[run]["options"], {row.arm: row for row in comparison.rows}
        own = [
            Arm.parse(text, masked=options.get("masked", True), tau=options.get("tau", 1.0))
            for text in options["arms"]
        ]
        arms = {arm.label: arm for arm in own if arm.label in rows}
        counterparts = {
            label: other.label
            for label, arm in arms.items()
            if (other := arm.counterpart(own)) is not None
        }
        for name, points in weight_series(arms, counterparts).items():
            found = name if name not in series else f"{name}, {run}"
            series[found] = [(alpha, rows[label]) for alpha, label in points]
    if not series:
        return None
    return _picture(
        plan,
        caption=f"By alpha: {_OVER_SEEDS}; alpha 0 is the arm without a teacher.",
        summary=in_words(series, policy=_POLICY, metric=_METRIC),
        draw=partial(weight_curves, series, policy=_POLICY, metric=_METRIC),
    )


def differences_figure(plan: StudyPlan, finished: Finished) -> Picture | None:
    """Every measured difference between two arms of a run, with its interval."""
    gains = []
    for run, comparison in _comparisons(finished).items():
        arms = {row.arm for row in comparison.rows if row.role == "arm"}
        gains += [
            replace(one, arm=f"{run}: {short_label(one.arm)}")
            for one in comparison.differences
            if (one.policy, one.metric) == (_POLICY, _METRIC) and {one.arm, one.reference} <= arms
        ]
    if not gains:
        return None
    return _picture(
        plan,
        caption=f"Difference in {_METRIC} with its {_CONFIDENCE:.0%} interval over users and "
        "seeds; p after Holm's correction. Filled: told from no difference.",
        summary="; ".join(f"{g.arm} minus {g.reference} {interval(g)}" for g in gains),
        draw=partial(forest, gains, level=1 - _CONFIDENCE, metric=_METRIC, beside=True),
    )


@dataclass(frozen=True, kw_only=True)
class _Student:
    """A line of `teachers_figure`: a student, and its teacher where the loss has one."""

    name: str
    value: Estimate
    teacher: Estimate | None


def teachers_figure(plan: StudyPlan, finished: Finished) -> Picture | None:
    """N@10 of each run's students, and beside it that of the teacher that they learned from."""
    students = []
    for run, comparison in _comparisons(finished).items():
        arms = [row for row in comparison.rows if row.role == "arm"]
        teacher = next(row for row in comparison.rows if row.role == "teacher")
        for row in arms:
            learned = any("teacher_temperature" in notes for notes in row.evaluations)
            students.append(
                _Student(
                    name=run if len(arms) == 1 else f"{run}: {short_label(row.arm)}",
                    value=row.metrics[_POLICY][_METRIC],
                    teacher=teacher.metrics[_POLICY][_METRIC] if learned else None,
                )
            )
    if not students:
        return None
    return _picture(
        plan,
        caption=f"{_METRIC} of students and of their teachers: {_OVER_SEEDS}. The line is the "
        "first student without a teacher.",
        summary="; ".join(
            f"{one.name} {number(one.value.mean)}"
            + ("" if one.teacher is None else f", its teacher {number(one.teacher.mean)}")
            for one in students
        ),
        draw=partial(_dots, students),
    )


def _dots(students: Sequence[_Student], width: int) -> Figure:
    longest = max(len(one.name) for one in students)
    step, top, bottom, left = 28, 34, 50, min(8 * longest + 16, 300 if width >= WIDE else 150)
    height = step * len(students) + top + bottom
    figure = blank(width, height)
    box = (left / width, bottom / height, 1 - (left + 20) / width, 1 - (top + bottom) / height)
    axes = figure.add_axes(box)
    alone = next((one.value.mean for one in students if one.teacher is None), None)
    if alone is not None:
        axes.axvline(alone, color=INK, linewidth=1)
    y = range(len(students))[::-1]
    _points(axes, [one.value for one in students], y, SERIES[0], "o", "student")
    taught = [(one.teacher, at) for one, at in zip(students, y, strict=True) if one.teacher]
    _points(axes, [one for one, _ in taught], [at for _, at in taught], MUTED, "D", "its teacher")
    axes.set_yticks(list(y), [one.name for one in students])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.7, len(students) - 0.3)
    axes.xaxis.set_major_formatter(lambda value, _: number(value))
    axes.locator_params(axis="x", nbins=6 if width >= WIDE else 4)
    axes.set_xlabel(_METRIC)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=12)
    return figure


def _points(
    axes: Axes, values: Sequence[Estimate], y: Sequence[int], colour: str, marker: str, label: str
) -> None:
    axes.errorbar(
        [one.mean for one in values],
        y,
        xerr=[one.sd or 0.0 for one in values],
        color=colour, mfc=SURFACE if marker == "D" else colour, marker=marker, linestyle="none",
        markersize=8, capsize=3, label=label,
    )  # fmt: skip


def epochs_figure(plan: StudyPlan, finished: Finished) -> Picture | None:
    """N@10 of every arm by epochs and by seconds of training, a point per run."""
    lines: dict[str, list[ArmRow]] = defaultdict(list)
    for comparison in _comparisons(finished).values():
        for row in comparison.rows:
            if row.role == "arm" and all("epochs" in notes for notes in row.evaluations):
                lines[row.arm].append(row)
    if not lines:
        return None
    return _picture(
        plan,
        caption=f"By epochs and by seconds of training, each on a log scale: {_OVER_SEEDS}.",
        summary="; ".join(
            f"{arm}: "
            + ", ".join(
                f"{_epochs(row):g} epochs {number(row.metrics[_POLICY][_METRIC].mean)}"
                for row in rows
            )
            for arm, rows in lines.items()
        ),
        draw=partial(_by_cost, lines),
    )


def _epochs(row: ArmRow) -> float:
    return fmean(notes["epochs"] for notes in row.evaluations)


def _by_cost(lines: Mapping[str, Sequence[ArmRow]], width: int) -> Figure:
    from matplotlib.ticker import LogLocator, NullLocator

    figure, panels = canvas(width, 260, panels=2, left=58)
    costs: tuple[tuple[str, Callable[[ArmRow], float]], ...] = (
        ("epochs", _epochs),
        ("seconds of training", lambda row: row.train_seconds),
    )
    for axes, (name, cost) in zip(panels, costs, strict=True):
        for (arm, rows), colour in zip(lines.items(), colours_of(len(lines)), strict=True):
            by_cost = sorted(rows, key=cost)
            values = [row.metrics[_POLICY][_METRIC] for row in by_cost]
            axes.errorbar(
                [cost(row) for row in by_cost],
                [one.mean for one in values],
                yerr=[one.sd or 0.0 for one in values],
                color=colour, marker="o", linewidth=2, markersize=7, capsize=3,
                label=short_label(arm),
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda value, _: number(value)[:4])
        axes.set_title(f"{_METRIC} by {name}")
        axes.set_xlabel(name)
    panels[0].legend(frameon=False, fontsize=12)
    return figure


def _comparisons(finished: Finished) -> dict[str, Comparison]:
    return {run: from_json(Comparison, record["result"]) for run, record in finished.items()}


def _picture(
    plan: StudyPlan, *, caption: str, summary: str, draw: Callable[[int], Figure]
) -> Picture:
    return Picture(name="figure", title=plan.title, caption=caption, summary=summary, draw=draw)
