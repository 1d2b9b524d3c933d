"""Figures of a data set: lengths of histories, the long tail, and events over time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from baselines.data.dataset import Dataset
from baselines.data.dates import units_per_second
from baselines.data.describing.description import are_dated, events_of_items
from semid.arrays import FloatArray, IntArray
from semid.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOUR = "#1f63d6"
PERIODS = 60
"""Bars of the events over time."""
POINTS = 2000
"""Points of a curve over items; more would not be seen."""

_FORMATS: dict[str, Any] = {"svg": {"Date": None}, "png": {}}
_STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "semid"}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure to be drawn.

    Attributes:
        name: Its file, without ending.
        title: What it shows.
        draw: Draws it.
    """

    name: str
    title: str
    draw: Callable[[Axes], None]


def require_matplotlib() -> None:
    """Refuse to draw without matplotlib.

    Raises:
        ValueError: If it is not installed.
    """
    if find_spec("matplotlib") is None:
        raise ValueError(
            "expected the package matplotlib, which draws figures, got none: pip install -c "
            "constraints.txt '.[report]', or leave --figures out"
        )


def write_figures(dataset: Dataset, folder: Path) -> dict[str, Path]:
    """Draw a data set as SVG and PNG.

    Equal data gives equal files. Windows have no histories and times, which are then left out, as
    times are where the source gives only an order.

    Args:
        dataset: The data set.
        folder: Where ``history_lengths``, ``popularity``, ``lorenz`` and ``events_over_time``
            appear, each with ``.svg`` and ``.png``; made if it is not there.

    Returns:
        The SVG of each figure by its title.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    written = {}
    for picture in _pictures(dataset):
        with rc_context(_STYLE):
            figure = Figure(figsize=(7, 4), layout="constrained")
            axes = figure.add_subplot()
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(picture.title, loc="left")
            picture.draw(axes)
            for suffix, metadata in _FORMATS.items():
                buffer = io.BytesIO()
                figure.savefig(buffer, format=suffix, metadata=metadata, dpi=150)
                atomic_write(folder / f"{picture.name}.{suffix}", buffer.getvalue())
        written[picture.title] = folder / f"{picture.name}.svg"
    return written


def length_counts(lengths: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct lengths of histories, ascending, and the number of users with each."""
    values, counts = np.unique(lengths, return_counts=True)
    return values, counts.astype(np.int64)


def ranked(events: IntArray) -> tuple[IntArray, IntArray]:
    """Popularity by rank.

    Args:
        events: int64 ``(item,)``, events of each item of the catalogue.

    Returns:
        Ranks from 1, and events of the item with each, descending; only items that have some.
    """
    descending = np.sort(events[events > 0])[::-1]
    return np.arange(1, len(descending) + 1), descending


def lorenz(events: IntArray) -> tuple[FloatArray, FloatArray]:
    """The Lorenz curve of popularity.

    Args:
        events: int64 ``(item,)``, events of each item of the catalogue; not all zero.

    Returns:
        The share of the items, from the least popular on, and the share of events that they have;
        ``(item + 1,)`` from 0 to 1. Twice the area between the curve and the diagonal is the Gini
        coefficient.
    """
    running = np.concatenate([[0.0], np.sort(events).cumsum(dtype=np.float64)])
    return np.linspace(0, 1, len(running)), running / running[-1]


def over_time(times: NDArray[Any]) -> tuple[FloatArray, IntArray]:
    """Events in periods of equal length.

    Args:
        times: ``(event,)``, numbers.

    Returns:
        The bounds of the periods, ``(period + 1,)``, in the units of the times, and the number of
        events in each; the last includes its end. One period if all times are equal.
    """
    first, last = times.min().item(), times.max().item()
    if first == last:
        return np.array([first, last + 1], dtype=np.float64), np.array([len(times)])
    bounds = np.linspace(first, last, PERIODS + 1)
    place = np.searchsorted(bounds, times, side="right") - 1
    return bounds, np.bincount(place.clip(0, PERIODS - 1), minlength=PERIODS).astype(np.int64)


def _pictures(dataset: Dataset) -> Iterator[Picture]:
    interactions, events = dataset.interactions, events_of_items(dataset)
    if interactions is not None:
        lengths = np.diff(interactions.offsets)
        title = "Lengths of histories"
        yield Picture(
            name="history_lengths", title=title, draw=lambda axes: _lengths(axes, lengths)
        )
    title = "Popularity of items by rank"
    yield Picture(name="popularity", title=title, draw=lambda axes: _ranks(axes, events))
    title = "Share of events of the least popular items"
    yield Picture(name="lorenz", title=title, draw=lambda axes: _lorenz(axes, events))
    if interactions is not None and interactions.times is not None:
        times = interactions.times
        title = "Events over time"
        yield Picture(name="events_over_time", title=title, draw=lambda axes: _times(axes, times))


def _lengths(axes: Axes, lengths: IntArray) -> None:
    values, counts = length_counts(lengths)
    axes.plot(values, counts, ".", color=COLOUR)
    axes.set(xlabel="events of a user", ylabel="users")
    _with_scales(axes, values, counts)


def _ranks(axes: Axes, events: IntArray) -> None:
    ranks, counts = ranked(events)
    shown = np.unique(np.geomspace(1, len(ranks), POINTS).astype(np.int64)) - 1
    axes.plot(ranks[shown], counts[shown], color=COLOUR)
    axes.set(xlabel="rank of an item", ylabel="events")
    _with_scales(axes, ranks, counts)


def _lorenz(axes: Axes, events: IntArray) -> None:
    items, share = lorenz(events)
    shown = np.linspace(0, len(events), POINTS).astype(np.int64)
    axes.plot([0, 1], [0, 1], color="#566171", linewidth=0.8, linestyle="--")
    axes.plot(items[shown], share[shown], color=COLOUR)
    axes.set(xlabel="share of items", ylabel="share of events", xlim=(0, 1), ylim=(0, 1))


def _times(axes: Axes, times: NDArray[Any]) -> None:
    from matplotlib.dates import ConciseDateFormatter

    bounds, counts = over_time(times)
    axes.set(xlabel="time", ylabel="events")
    if not are_dated(times):
        axes.stairs(counts, bounds, fill=True, color=COLOUR)
        return
    seconds = bounds / units_per_second(times.max())
    dates = np.array([datetime.fromtimestamp(second, UTC) for second in seconds])
    axes.stairs(counts, dates, fill=True, color=COLOUR)
    axes.set(xlabel="date")
    formatter = ConciseDateFormatter(axes.xaxis.get_major_locator())  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)


def _with_scales(axes: Axes, x: IntArray, y: IntArray) -> None:
    """Logarithmic axes with plain numbers, where values span a power of ten."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    for axis, values, scale in ((axes.xaxis, x, axes.set_xscale), (axes.yaxis, y, axes.set_yscale)):
        if values.max() >= 10 * values.min():
            scale("log")
            axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
            axis.set_minor_formatter(NullFormatter())
