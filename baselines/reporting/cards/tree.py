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
    from matplotlib.figure import Figure

_HEIGHT = 420
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
        most_cells: Most first codes to draw, and most second codes.
    """
    first, hidden = shown.first_codes[:most_cells], shown.first_codes[most_cells:]
    rest = sum(prefix.items for prefix in hidden)
    left_out = f" The {len(hidden):,} smallest first codes are one grey area." if hidden else ""
    largest = "; ".join(
        f"{one.path[0]}: {one.items:,} items, {one.children:,} second codes" for one in first[:5]
    )
    return Picture(
        name=f"tree-{shown.letter}",
        title="Code tree",
        caption="Area: items. Each outlined area is a first code, divided by second codes as far "
        "as these can be seen: dark where several items begin with both, light where one does."
        + left_out,
        summary=f"{len(shown.first_codes):,} first codes; the largest are {largest}",
        draw=partial(_drawn, first, _by_first(shown.first_pairs), rest, most_cells),
    )


def squarified(areas: Sequence[float], box: Box) -> list[Box]:
    """A rectangle for each area, as near to squares as rows of them allow.

    M. Bruls, K. Huizing and J. van Wijk, "Squarified treemaps", 2000.

    Args:
        areas: Positive, falling; scaled to fill the box.
        box: What is divided.
    """
    scale = box.width * box.height / sum(areas)
    sizes, boxes, begin = [area * scale for area in areas], [], 0
    while begin < len(sizes):
        side, end = min(box.width, box.height), begin + 1
        while end < len(sizes) and (
            _worst(sizes[begin : end + 1], side) <= _worst(sizes[begin:end], side)
        ):
            end += 1
        line, box = _cut_off(sizes[begin:end], box)
        boxes += line
        begin = end
    return boxes


def _worst(sizes: Sequence[float], side: float) -> float:
    """The most elongated of the rectangles that fill a line along a side; sizes fall."""
    total = sum(sizes)
    return max(side**2 * sizes[0] / total**2, total**2 / (side**2 * sizes[-1]))


def _cut_off(sizes: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """The rectangles of a line along the shorter side of a box, and what is left of it."""
    total, boxes, at = sum(sizes), [], 0.0
    if box.width >= box.height:
        thick = total / box.height
        for size in sizes:
            boxes.append(Box(box.x, box.y + at, thick, size / thick))
            at += size / thick
        return boxes, Box(box.x + thick, box.y, max(box.width - thick, 0), box.height)
    thick = total / box.width
    for size in sizes:
        boxes.append(Box(box.x + at, box.y, size / thick, thick))
        at += size / thick
    return boxes, Box(box.x, box.y + thick, box.width, max(box.height - thick, 0))


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
    from matplotlib.patches import Rectangle

    figure = blank(width, _HEIGHT)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(_HEIGHT, 0)
    areas = [prefix.items for prefix in first]
    boxes = squarified([*areas, rest] if rest else areas, Box(0, 0, width, _HEIGHT))
    left = most_cells if width >= WIDE else 0  # a phone's cells would be too small
    for prefix, box in zip(first, boxes, strict=False):
        inner = list(_inside(pairs.get(prefix.path[0], ()), box))[:left]
        left -= len(inner)
        for pair, (x, y, wide, high) in inner:
            shade = _MANY if pair.items > 1 else _ONE
            cell = Rectangle((x, y), wide, high, fc=SERIES[0], ec=SURFACE, lw=0.5, alpha=shade)
            cell.set_gid(_gid(pair))
            axes.add_patch(cell)
        x, y, wide, high = box
        # drawn even where cells cover it: a pointer finds the first code there, too
        whole = Rectangle((x, y), wide, high, fc=SERIES[0], alpha=_WHOLE, lw=0)
        whole.set_gid(_gid(prefix))
        whole.set_zorder(0)
        axes.add_patch(whole)
        axes.add_patch(Rectangle((x, y), wide, high, fill=False, ec=SURFACE, lw=1.6))
        label = str(prefix.path[0])
        if wide > _LETTER * len(label) + 4 and high > 16:
            axes.text(x + 3, y + 3, label, va="top", color=INK, fontsize=12)
    if rest:
        x, y, wide, high = boxes[-1]
        axes.add_patch(Rectangle((x, y), wide, high, fc=MUTED, alpha=_WHOLE, lw=0))
    return figure


def _inside(pairs: Sequence[Prefix], box: Box) -> Iterator[tuple[Prefix, Box]]:
    """The cells of a first code's pairs that are large enough to be seen."""
    if not pairs:
        return
    cells = squarified([pair.items for pair in pairs], box)
    for pair, cell in zip(pairs, cells, strict=True):
        if min(cell.width, cell.height) >= _LEAST_SIDE:
            yield pair, cell


def _gid(prefix: Prefix) -> str:
    """What the script of the page finds a prefix by."""
    return "code-" + "-".join(map(str, prefix.path))
