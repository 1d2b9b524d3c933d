"""The figures of an ID card: how codes are used, the code tree, and a map of the items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.reporting.cards.shown import ShownIds
from baselines.reporting.cards.tree import tree_picture
from baselines.reporting.drawing import (
    MUTED,
    SERIES,
    WIDE,
    Picture,
    blank,
    canvas,
    colours,
    legend,
)
from semid.inspecting.card import random_codes
from semid.inspecting.levels import items_by_rank
from semid.paths import group_paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from semid.embed import Embeddings

_MOST_CELLS, _MOST_POINTS = 1500, 2000
_CELLS_OF_ALL, _POINTS_OF_ALL = 3000, 9000  # of all cards of a page, to keep it small
_VECTORS = {"embeddings": "their embeddings", "cf_embeddings": "their collaborative vectors"}
_CURVE = 40  # points of a curve
_SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ItemMap:
    """Some items in the plane of the two directions in which vectors differ most.

    Attributes:
        rows: Catalogue rows, int64 ``(point,)``, ascending.
        points: float64 ``(point, 2)``.
        kept: Share of the variance of the vectors that the plane keeps.
        space: Name of the space: ``embeddings`` or ``cf_embeddings``.
        num_items: Number of items that were sampled from.
    """

    rows: Tensor
    points: Tensor
    kept: float
    space: str
    num_items: int

    @classmethod
    def of(cls, vectors: Embeddings, space: str, most_points: int = _MOST_POINTS) -> ItemMap:
        """Principal components of the directions of a seeded sample of items."""
        drawn = torch.randperm(len(vectors.vectors), generator=torch.Generator().manual_seed(_SEED))
        rows = drawn[:most_points].sort().values
        sample = torch.from_numpy(vectors.vectors[rows.numpy()]).double()
        unit = F.normalize(sample, dim=1)
        centred = unit - unit.mean(dim=0)
        variance, axes = torch.linalg.eigh(centred.T @ centred)  # ascending
        plane = axes[:, -2:].flip(1)
        plane = plane * plane.gather(0, plane.abs().argmax(dim=0, keepdim=True)).sign()
        points = F.pad(centred @ plane, (0, 2 - plane.shape[1]))
        kept = float(variance[-2:].sum() / variance.sum()) if variance.sum() > 0 else 1.0
        return cls(rows=rows, points=points, kept=kept, space=space, num_items=len(vectors.vectors))


def card_pictures(shown: Sequence[ShownIds], places: ItemMap | None) -> Iterator[list[Picture]]:
    """The figures of each card.

    Args:
        shown: The IDs.
        places: Where the items are on the map; None without a map. The same for all IDs.
    """
    most_cells = max(min(_MOST_CELLS, _CELLS_OF_ALL // len(shown)), 1)
    for one in shown:
        pictures = [_use(one), tree_picture(one, most_cells)]
        if places is not None:
            pictures.append(_map(one, places))
        yield pictures


def points_of_each(number: int) -> int:
    """Most points of a map, if there are some number of maps on a page."""
    return max(min(_MOST_POINTS, _POINTS_OF_ALL // number), 1)


def _use(shown: ShownIds) -> Picture:
    levels = shown.card["levels"]
    return Picture(
        name=f"use-{shown.letter}",
        title="Use of codes",
        caption="Share of the items that the most used codes of a level hold together. The "
        "diagonal would be even use; the dashed lines are random codes of the same sizes.",
        summary="; ".join(
            f"level {number}: {level['used']:,} of {level['size']:,} codes used, "
            f"Gini {level['gini']:.2f}"
            for number, level in enumerate(levels, start=1)
        ),
        draw=partial(_use_drawn, shown),
    )


def _use_drawn(shown: ShownIds, width: int) -> Figure:
    figure, (axes,) = canvas(width, 330, panels=1, left=52)
    codes, sizes = shown.ids.codes, shown.ids.sizes
    control = random_codes(len(codes), sizes)
    columns = 5 if width >= WIDE else 2
    for level, (size, colour) in enumerate(zip(sizes, colours(len(sizes)), strict=True)):
        for drawn, style in ((control, "--"), (codes, "-")):
            x, y = use_curve(drawn[:, level], size)
            label = f"level {level + 1}" if style == "-" else None
            axes.plot(x, y, style, color=colour, linewidth=2.2 if label else 1.1, label=label)
    axes.plot([], [], "--", color=MUTED, linewidth=1.1, label="random")
    rows = -(-(len(sizes) + 1) // columns)
    box = axes.get_position()
    axes.set_position((box.x0, box.y0, box.width, box.height * (1 - 0.06 * (rows - 1))))
    legend(axes, columns=columns)
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    axes.set_xlabel("codes of the level, most used first, %")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    return figure


def use_curve(codes: Tensor, size: int) -> tuple[list[float], list[float]]:
    """Points of the curve: share of the codes, and of the items that they hold, in percent.

    Args:
        codes: int64 ``(item,)``, those of one level, in ``[0, size)``.
        size: Number of codes of the level.
    """
    counts = items_by_rank(codes, size)
    held = F.pad(counts.cumsum(dim=0), (1, 0)).double() / len(codes)
    at = torch.linspace(0, size, min(size, _CURVE) + 1).round().long()
    return (100.0 * at / size).tolist(), (100.0 * held[at]).tolist()


def _map(shown: ShownIds, places: ItemMap) -> Picture:
    sampled = len(places.rows) < places.num_items
    which = f"{len(places.rows):,} sampled items" if sampled else "All items"
    return Picture(
        name=f"map-{shown.letter}",
        title="Map of items",
        caption=f"{which} by {_VECTORS[places.space]}: the two principal components of their "
        f"directions, which keep {places.kept:.0%} of the variance. First codes are put "
        "into six groups by the direction in which their items lie; one colour a group. Fields "
        "of one colour: first codes follow the vectors. Colours mixed everywhere: they do not.",
        summary=f"{which} as points, coloured by six groups of first codes",
        draw=partial(_map_drawn, shown.ids.codes[places.rows, 0], places.points),
    )


def _map_drawn(first_codes: Tensor, points: Tensor, width: int) -> Figure:
    """The points as strokes of no length with round ends: far smaller files than markers."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    height = min(width, 440)
    figure = blank(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    low, high = points.min(dim=0).values, points.max(dim=0).values
    room = torch.tensor([width - 12.0, height - 12.0])
    at = ((points - low) / (high - low).clamp_min(1e-12) * room + 6).round()
    group = groups_by_direction(first_codes, points)
    for number, colour in enumerate(SERIES):
        begins = at[group == number].tolist()
        if begins:
            vertices = [point for x, y in begins for point in ((x, y), (x + 0.1, y))]
            dots = Path(vertices, [Path.MOVETO, Path.LINETO] * len(begins))
            dots.should_simplify = False  # which would drop strokes as short as these
            axes.add_patch(
                PathPatch(
                    dots, fill=False, ec=colour, lw=4, alpha=0.75, capstyle="round", snap=False
                )
            )
    return figure


def groups_by_direction(first_codes: Tensor, points: Tensor) -> Tensor:
    """The group of each point, int64 ``(point,)``: first codes by the angle of their centre.

    The codes are gone through by angle, and divided so that groups have about equally many points.

    Args:
        first_codes: int64 ``(point,)``.
        points: Float ``(point, 2)``.
    """
    _, code, counts = group_paths(first_codes[:, None])
    centres = torch.zeros(len(counts), 2, dtype=points.dtype).index_add_(0, code, points)
    centres = centres / counts[:, None] - points.mean(dim=0)
    by_angle = torch.atan2(centres[:, 1], centres[:, 0]).argsort(stable=True)
    before = torch.empty_like(counts)
    before[by_angle] = counts[by_angle].cumsum(dim=0) - counts[by_angle]
    return (before * len(SERIES) // len(points))[code]
