"""The figures of a report: differences, training, strata, and the teacher's weight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.experiments.arms import Arm
from baselines.experiments.comparison import ArmRow, Difference, StratumResult
from baselines.experiments.tables import figure as number
from baselines.experiments.tables import signed
from baselines.reporting.answer import interval, p_value, short_label, verdict_of
from baselines.reporting.drawing import (
    GRID,
    INK,
    MUTED,
    SERIES,
    SURFACE,
    WIDE,
    Picture,
    blank,
    canvas,
    colours,
    legend,
)
from baselines.reporting.source import Curve, ReportSource

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEWEST_WEIGHTS = 3
_MARKERS = "sD^oPX"


def pictures(found: ReportSource) -> list[Picture]:
    """Every figure that the comparison has the facts for, in the order of the page."""
    return [*_forests(found), *_training(found), *_strata(found), *_weights(found)]


def _forests(found: ReportSource) -> Iterator[Picture]:
    level = 1 - float(found.comparison.statistics["confidence"])
    own = [gain for row in found.counterparts if (gain := found.own(row)) is not None]
    arms = [row.arm for row in found.comparison.rows if row.role == "arm"]
    counted = [gain for row in arms if (gain := found.over_counted(row)) is not None]
    reading = (
        f"Difference in {found.metric} with its "
        f"{found.comparison.statistics['confidence']:.0%} interval over users and seeds; "
        "p after Holm's correction. Filled: told from no difference."
    )
    for name, title, gains, beside in (
        ("differences", "Each aligned row minus its counterpart", own, True),
        ("counting", f"Each arm minus {found.counted}, which only counts", counted, False),
    ):
        if gains:
            yield Picture(
                name=name,
                title=title,
                caption=reading,
                summary="; ".join(_in_words(gain) for gain in gains),
                draw=partial(forest, gains, level=level, metric=found.metric, beside=beside),
            )


def _in_words(gain: Difference) -> str:
    return f"{gain.arm} minus {gain.reference} {signed(gain.mean)}, from {interval(gain)}"


def forest(
    gains: Sequence[Difference], width: int, *, level: float, metric: str, beside: bool
) -> Figure:
    """One line a difference: beside its label and value on a laptop, below them on a phone.

    Args:
        gains: The differences, from top to bottom.
        width: In CSS pixels.
        level: Of significance, for p after Holm's correction.
        metric: Name of their metric.
        beside: Whether each label also names what the row is measured against.
    """
    is_wide = width >= WIDE
    step, bottom, left, right = (42, 50, 290, 130) if is_wide else (66, 50, 10, 10)
    height = step * len(gains) + bottom
    figure = blank(width, height)
    whole = (left / width, bottom / height, 1 - (left + right) / width, 1 - bottom / height)
    axes = figure.add_axes(whole)
    for line, gain in enumerate(reversed(gains)):
        y, decided = line * step + (step / 2 if is_wide else 12), verdict_of(gain, level)
        colour = {"undecided": MUTED, "helped": SERIES[0], "hurt": SERIES[1]}[decided]
        reach = step / 2 if is_wide else 11
        axes.vlines(0, y - reach, y + reach, color=INK, linewidth=1.2)
        axes.plot([gain.low, gain.high], [y, y], color=colour, linewidth=2.5)
        inside = SURFACE if decided == "undecided" else colour
        axes.plot(gain.mean, y, "o", ms=9, color=inside, mec=colour, mew=2)
        value = f"{signed(gain.mean)}  {p_value(gain.p_holm)}"
        against = f"against {short_label(gain.reference)}" if beside else ""
        if is_wide:
            _write(axes, -left, y + 8 if beside else y, short_label(gain.arm))
            _write(axes, -left, y - 9, against, color=MUTED)
            _write(axes, width - left, y, value, ha="right")
        else:
            _write(axes, 0, y + 38, short_label(gain.arm))
            _write(axes, 0, y + 21, f"{value} {against}", color=MUTED)
    axes.set_ylim(-2, step * len(gains))
    axes.set_yticks([])
    axes.margins(x=0.06)
    axes.locator_params(axis="x", nbins=6 if is_wide else 4)
    axes.set_xlabel(f"difference in {metric}")
    return figure


def _write(axes: Axes, x: float, y: float, words: str, **style: Any) -> None:
    """Words at ``x`` pixels from the left end of a panel and at ``y`` of its data."""
    axes.annotate(
        words,
        (0, y),
        xycoords=axes.get_yaxis_transform(),
        xytext=(x, 0),
        textcoords="offset points",
        va="center",
        bbox={"facecolor": SURFACE, "edgecolor": "none", "pad": 1},
        **style,
    )


def _training(found: ReportSource) -> Iterator[Picture]:
    groups: dict[str, list[str]] = defaultdict(list)
    validated = {curve.arm for curve in found.curves if len(curve.epochs) > 1}
    for label, arm in found.arms.items():
        if label in validated:
            groups[f"{arm.backbone_class.label}{arm.at_schemes}"].append(label)
    if groups:
        selected_by = found.comparison.settings.get("checkpoint chosen by", "validation")
        yield Picture(
            name="training",
            title="Learning curves",
            caption=f"By epoch: {selected_by}. One line a seed; the dot marks the epoch whose "
            "weights were kept.",
            summary="; ".join(_best_epochs(found, label) for label in chain(*groups.values())),
            draw=partial(_curves, found, groups),
        )


def _best_epochs(found: ReportSource, label: str) -> str:
    kept = [curve.best_epoch for curve in found.curves if curve.arm == label]
    return f"{label}: kept epoch {', '.join(map(str, kept))}"


def _curves(found: ReportSource, groups: dict[str, list[str]], width: int) -> Figure:
    columns = 2 if width >= WIDE else 1
    lines = max(-(-len(labels) // columns) for labels in groups.values())
    figure, panels = canvas(width, 215 + 20 * lines, panels=len(groups), left=52)
    for axes, (name, labels) in zip(panels, groups.items(), strict=True):
        box = axes.get_position()
        axes.set_position((box.x0, box.y0, box.width, box.height * (1 - 0.085 * lines)))
        aligned = [label for label in labels if found.arms[label].objective.is_aligned]
        of_aligned = dict(zip(aligned, colours(len(aligned)), strict=True))
        for label in labels:
            colour = of_aligned.get(label, MUTED)
            for curve in (one for one in found.curves if one.arm == label):
                _curve(axes, curve, colour)
            axes.plot([], [], color=colour, linewidth=2, label=short_label(label))
        legend(axes, columns=columns)
        axes.set_title(name, pad=8 + 19 * -(-len(labels) // columns))
        axes.locator_params(axis="x", integer=True)
        axes.yaxis.set_major_formatter(lambda value, _: number(value)[:4])
    panels[-1].set_xlabel("epoch")
    return figure


def _curve(axes: Axes, curve: Curve, colour: str) -> None:
    axes.plot(curve.epochs, curve.values, color=colour, linewidth=1.8, alpha=0.85)
    if curve.best_epoch in curve.epochs:
        value = curve.values[curve.epochs.index(curve.best_epoch)]
        axes.plot(curve.best_epoch, value, marker="o", markersize=6, color=colour)


def _strata(found: ReportSource) -> Iterator[Picture]:
    kinds: dict[str, list[StratumResult]] = defaultdict(list)
    for stratum in found.comparison.strata:
        kinds[stratum.kind].append(stratum)
    kinds = {kind: strata for kind, strata in kinds.items() if len(strata) > 1}
    if kinds:
        rows = _rows_of_strata(found)
        yield Picture(
            name="strata",
            title="Who gains",
            caption=f"{found.metric} by group of test targets, mean over users and seeds. The "
            "table below has every row.",
            summary="; ".join(
                f"{kind} {one.name}: "
                + ", ".join(
                    f"{row} {number(one.metrics[row][found.policy][found.metric].mean)}"
                    for row in rows
                )
                for kind, strata in kinds.items()
                for one in strata
            ),
            draw=partial(_dots, found, kinds, rows),
        )


def _rows_of_strata(found: ReportSource) -> list[str]:
    """The best counted row, the teachers, the best aligned row and its counterpart."""

    def value(row: str) -> float:
        return found.rows[row].metrics[found.policy][found.metric].mean

    arms = [row.arm for row in found.comparison.rows if row.role == "arm"]
    best = max(found.counterparts or arms, key=value)
    rows = [found.counted, *found.comparison.teachers, found.counterparts.get(best), best]
    return list(dict.fromkeys(row for row in rows if row is not None))


def _dots(
    found: ReportSource, kinds: dict[str, list[StratumResult]], rows: Sequence[str], width: int
) -> Figure:
    columns = 2 if width >= WIDE else 1
    lines = -(-len(rows) // columns)
    heights = [34 * len(strata) + 34 for strata in kinds.values()]
    top, bottom = 20 * lines + 14, 46
    height = top + sum(heights) + bottom
    figure = blank(width, height)
    left, above = 150 if width >= WIDE else 118, top
    panels: list[Axes] = []
    for (kind, strata), own in zip(kinds.items(), heights, strict=True):
        y0 = height - above - own
        box = (left / width, y0 / height, 1 - (left + 20) / width, (own - 30) / height)
        axes = figure.add_axes(box, sharex=panels[0] if panels else None)
        _dot_panel(axes, found, strata, rows)
        axes.text(
            -(left - 4) / (width - left - 20),
            1.0,
            kind,
            transform=axes.transAxes,
            fontweight="bold",
            va="bottom",
        )
        axes.tick_params(labelbottom=False)
        panels.append(axes)
        above += own
    panels[-1].tick_params(labelbottom=True)
    panels[-1].set_xlabel(found.metric)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        fontsize=12,
        handlelength=1.0,
        columnspacing=1.4,
        borderpad=0,
    )
    return figure


def _dot_panel(
    axes: Axes, found: ReportSource, strata: Sequence[StratumResult], rows: Sequence[str]
) -> None:
    y = np.arange(len(strata))[::-1]
    values = np.array(
        [[one.metrics[row][found.policy][found.metric].mean for one in strata] for row in rows]
    )
    axes.hlines(y, values.min(axis=0), values.max(axis=0), color=GRID, linewidth=3)
    for number_of_row, (row, means) in enumerate(zip(rows, values, strict=True)):
        colour, marker = (
            SERIES[number_of_row % len(SERIES)],
            _MARKERS[number_of_row % len(_MARKERS)],
        )
        axes.plot(
            means,
            y,
            linestyle="none",
            marker=marker,
            markersize=8,
            color=colour,
            label=short_label(row),
        )
    axes.set_yticks(y, [f"{one.name}  ({one.users:,})" for one in strata])
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_ylim(-0.6, len(strata) - 0.4)
    axes.xaxis.set_major_formatter(lambda value, _: number(value)[:4])
    axes.locator_params(axis="x", nbins=5)


def _weights(found: ReportSource) -> Iterator[Picture]:
    labels = weight_series(found.arms, found.counterparts)
    series = {
        name: [(alpha, found.rows[row]) for alpha, row in rows] for name, rows in labels.items()
    }
    if series:
        yield Picture(
            name="alpha",
            title="The teacher's weight",
            caption=f"{found.metric} with the standard deviation over seeds, and the share of "
            "users whose first item is the teacher's, by alpha; alpha 0 is the counterpart.",
            summary=in_words(series, policy=found.policy, metric=found.metric),
            draw=partial(weight_curves, series, policy=found.policy, metric=found.metric),
        )


Series = Mapping[str, Sequence[tuple[float, ArmRow]]]
"""Rows of a table by the teacher's weight, ascending, for each name of a line."""


def weight_series(
    arms: Mapping[str, Arm], counterparts: Mapping[str, str]
) -> dict[str, list[tuple[float, str]]]:
    """The arms that differ in alpha alone, from their counterpart on; three weights at least.

    Args:
        arms: By label.
        counterparts: The label of the arm without a teacher, by that of each aligned arm.

    Returns:
        Ascending alpha with the label of the row, for each name of a series.
    """
    series: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for label, arm in arms.items():
        objective, own = arm.objective, counterparts.get(label)
        if objective.is_aligned and objective.policy.by == "constant" and own is not None:
            name = f"{arm.backbone_class.label}{arm.at_schemes} {objective.name}"
            series[name] = series[name] or [(0.0, own)]
            series[name].append((objective.alpha, label))
    return {name: sorted(rows) for name, rows in series.items() if len(rows) > _FEWEST_WEIGHTS}


def in_words(series: Series, *, policy: str, metric: str) -> str:
    """What `weight_curves` shows, for a reader who cannot see it."""
    return "; ".join(
        f"{name}: "
        + ", ".join(
            f"alpha {alpha:g} {metric} {number(row.metrics[policy][metric].mean)}"
            for alpha, row in rows
        )
        for name, rows in series.items()
    )


def weight_curves(series: Series, width: int, *, policy: str, metric: str) -> Figure:
    """A metric, and the agreement with the teacher, by the teacher's weight."""
    figure, (upper, lower) = canvas(width, 250, panels=2, left=58)
    for (name, rows), colour in zip(series.items(), colours(len(series)), strict=True):
        alphas = [alpha for alpha, _ in rows]
        levels = [row.metrics[policy][metric] for _, row in rows]
        agreement = [row.consistency for _, row in rows]
        for axes, values in ((upper, levels), (lower, agreement)):
            axes.errorbar(
                alphas,
                [np.nan if one is None else one.mean for one in values],
                yerr=[0.0 if one is None or one.sd is None else one.sd for one in values],
                color=colour, marker="o", linewidth=2, markersize=7, capsize=3, label=name,
            )  # fmt: skip
    upper.set_title(metric if len(series) > 1 else f"{metric}, {next(iter(series))}")
    lower.set_title("First item is the teacher's")
    lower.set_xlabel("alpha, the teacher's weight")
    for axes in (upper, lower):
        axes.yaxis.set_major_formatter(lambda value, _: number(value)[:4])
        axes.locator_params(axis="y", nbins=5)
    if len(series) > 1:
        lower.legend(frameon=False, fontsize=12)
    return figure
