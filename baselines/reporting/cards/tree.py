"""The code tree as a treemap: first codes by their number of items, divided by second codes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from baselines.reporting.cards.shown import ShownIds
from baselines.reporting.drawing import INK, MUTED, SERIES, SURFACE, WIDE, Picture, blank
from semid.inspecting.prefixes import Prefix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 420
_MOST_FIRST = 300
_LEAST_SIDE = 4  # pixels; cells of second codes that are narrower are left out
_MANY, _ONE, _WHOLE = 0.36, 0.12, 0.2  # opacity: several items, one item, not divided further
_LETTER = 8.5  # pixels of a digit


class Box(NamedTuple):
    """A rectangle in pixels from the upper left corner."""

    x: float
    y: float
    width: float
    height: float


def tree_picture(shown: ShownIds, most_cells: int) -> Picture:
    """The tree of the first two codes.

    Args:
        shown: The IDs.
        most_cells: Most cells of second codes to draw; of first codes, 300 if this is no less.
    """
    most_first = min(most_cells, _MOST_FIRST)
    first, hidden = shown.first_codes[:most_first], shown.first_codes[most_first:]
    rest = sum(prefix.items for prefix in hidden)
    left_out = f" The {len(hidden):,} smallest first codes are one grey area." if hidden else ""
    largest = "; ".join(
        f"{one.path[0]}: {one.items:,} items, {one.children:,} second codes" for one in first[:5]
    )
    return Picture(
        name=f"tree-{shown.letter}",
        title="Code tree",
        caption="Area: items. Each outlined area is a first code, divided by second codes as far "
        "as these can be seen: strong where several items begin with both, faint where one does."
        + left_out,
        summary=f"{len(shown.first_codes):,} first codes; the largest are {largest}",
        draw=partial(_drawn, first, _by_first(shown.first_pairs), rest, most_cells),
    )


def divided(areas: Sequence[float], box: Box) -> list[Box]:
    """A rectangle for each area, as near to squares as rows of them allow.

    M. Bruls, K. Huizing and J. van Wijk, "Squarified treemaps", 2000.

    Args:
        areas: Positive, falling; scaled to fill the box.
        box: What is divided.
    """
    import squarify

    sizes = squarify.normalize_sizes(areas, box.width, box.height)
    cells = squarify.squarify(sizes, *box)
    return [Box(cell["x"], cell["y"], cell["dx"], cell["dy"]) for cell in cells]


def _by_first(pairs: Sequence[Prefix]) -> dict[int, list[Prefix]]:
    found = defaultdict(list)
    for pair in pairs:
        found[pair.path[0]].append(pair)
    return found


def _drawn(
    first: Sequence[Prefix],
    pairs: dict[int, list[Prefix]],
    rest: int,
    most_cells: int,
    width: int,
) -> Figure:
    figure = blank(width, _HEIGHT)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(_HEIGHT, 0)
    areas = [prefix.items for prefix in first]
    boxes = divided([*areas, rest] if rest else areas, Box(0, 0, width, _HEIGHT))
    for prefix, box in zip(first, boxes, strict=False):
        _fill(axes, box, prefix, alpha=_WHOLE)
    if width >= WIDE:  # a phone's cells would be too small
        cells = [
            cell
            for prefix, box in zip(first, boxes, strict=False)
            for cell in _inside(pairs.get(prefix.path[0], ()), box)
        ]
        cells.sort(key=lambda cell: cell[0].items, reverse=True)
        for pair, box in cells[:most_cells]:
            _fill(axes, box, pair, alpha=_MANY if pair.items > 1 else _ONE, gap=1)
    if rest:
        _fill(axes, boxes[-1], None, alpha=_WHOLE)
    _outline(axes, boxes)
    for prefix, (x, y, wide, high) in zip(first, boxes, strict=False):
        label = str(prefix.path[0])
        if wide > _LETTER * len(label) + 4 and high > 16:
            axes.text(round(x) + 3, round(y) + 3, label, va="top", color=INK, fontsize=12)
    return figure


def _fill(axes: Axes, box: Box, prefix: Prefix | None, *, alpha: float, gap: int = 0) -> None:
    """A rectangle in whole pixels, by a name that the page's script reads; grey without a prefix.

    The gap to the next one takes the place of an outline, which would double the file.
    """
    from matplotlib.patches import Rectangle

    (left, top), (right, bottom) = _corners(box)
    colour = SERIES[0] if prefix is not None else MUTED
    wide, high = right - left - gap, bottom - top - gap
    cell = Rectangle((left, top), wide, high, fc=colour, alpha=alpha, lw=0, clip_on=False)
    if prefix is not None:
        cell.set_gid("code-" + "-".join(map(str, prefix.path)))
    axes.add_patch(cell)


def _outline(axes: Axes, boxes: Sequence[Box]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    lines: list[tuple[int, int]] = []
    for (left, top), (right, bottom) in map(_corners, boxes):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
        lines += corners
    codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * len(boxes)
    axes.add_patch(PathPatch(Path(lines, codes), fill=False, ec=SURFACE, lw=1.6, clip_on=False))


def _corners(box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
    """The upper left and the lower right corner, in whole pixels."""
    upper = (round(box.x), round(box.y))
    return upper, (round(box.x + box.width), round(box.y + box.height))


def _inside(pairs: Sequence[Prefix], box: Box) -> Iterator[tuple[Prefix, Box]]:
    """The cells of a first code's pairs that are large enough to be seen."""
    if not pairs:
        return
    cells = divided([pair.items for pair in pairs], box)
    for pair, cell in zip(pairs, cells, strict=True):
        if min(cell.width, cell.height) >= _LEAST_SIDE:
            yield pair, cell
