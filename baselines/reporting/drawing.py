"""How figures are drawn and kept: one style, two widths, and colours that a page can change."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semid.atomic import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE, NARROW = 720, 300
"""Widths of a figure in CSS pixels: for a laptop and for files, and for a phone."""

INK, MUTED, GRID, SURFACE = "#1c2430", "#566171", "#d8dde4", "#ffffff"
SERIES = ("#1f63d6", "#c2540a", "#12805c", "#8b3fc4", "#b3235f", "#7a6a00")
"""Colours of lines and marks; each is told from the others without red and green too."""

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SURFACE: "var(--surface)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
_FORMATS = {"svg": {"Date": None}, "png": {}, "pdf": {"CreationDate": None}}
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "semid",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.linewidth": 1.0,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.dpi": 144,
}

Draw = Callable[[int], "Figure"]
"""Draws a figure at a width in CSS pixels."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: File name without its suffix.
        title: What it shows, as a heading.
        caption: How to read it.
        summary: What a reader who cannot see it should know.
        draw: Draws it.
    """

    name: str
    title: str
    caption: str
    summary: str
    draw: Draw

    @cached_property
    def _wide(self) -> Figure:
        return self.draw(WIDE)

    @cached_property
    def _wide_svg(self) -> bytes:
        return _rendered(self._wide, "svg")

    def inline(self, width: int) -> str:
        """The figure as an SVG element of a page, in the colours of the page's style sheet."""
        with _styled():
            drawn = self._wide_svg if width == WIDE else _rendered(self.draw(width), "svg")
        own, svg = f"{self.name}-{width}", drawn.decode()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
        svg = re.sub(r'\bid="([^"]+)"', rf'id="{own}-\1"', svg)
        svg = re.sub(r'(href="|url\()#', rf"\1#{own}-", svg)
        for colour, variable in _VARIABLES.items():
            svg = svg.replace(colour, variable)
        return re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1">', svg, count=1)

    def svg(self) -> bytes:
        """The figure as an SVG file on a white ground, the same whenever it is drawn.

        Its title and description are those of the picture.
        """
        told = {"Title": self.title, "Description": f"{self.caption} {self.summary}"}
        with _styled():
            self._wide.set_facecolor(SURFACE)
            return _rendered(self._wide, "svg", told)

    def save(self, folder: Path) -> None:
        """Write it as SVG, PNG and PDF."""
        with _styled():
            atomic_write(folder / f"{self.name}.svg", self._wide_svg)
            self._wide.set_facecolor(SURFACE)
            for suffix in ("png", "pdf"):
                atomic_write(folder / f"{self.name}.{suffix}", _rendered(self._wide, suffix))


def blank(width: int, height: int) -> Figure:
    """A figure of a size in CSS pixels, with nothing on it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / 72, height / 72))


def canvas(width: int, height: int, *, panels: int, left: int) -> tuple[Figure, list[Axes]]:
    """A figure with panels below each other.

    Args:
        width: Its width in CSS pixels.
        height: Height of each panel, with its title and axis.
        panels: Their number.
        left: Room for the labels of the vertical axis.
    """
    whole = height * panels
    figure, axes = blank(width, whole), []
    for number in range(panels):
        bottom = whole - (number + 1) * height + 44
        box = (left / width, bottom / whole, (width - left - 16) / width, (height - 78) / whole)
        axes.append(figure.add_axes(box))
    return figure, axes


def legend(axes: Axes, *, columns: int) -> None:
    """Name the lines of a panel above it."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=12,
        borderaxespad=0.2,
        handlelength=1.2,
        borderpad=0,
        columnspacing=1.4,
    )


def colours(number: int) -> Sequence[str]:
    """As many colours of `SERIES`, again from the first where they end."""
    return [SERIES[i % len(SERIES)] for i in range(number)]


def _rendered(figure: Figure, suffix: str, told: Mapping[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {**_FORMATS[suffix], **(told or {})}
    figure.savefig(buffer, format=suffix, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _styled() -> Iterator[None]:
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield
