"""Tables as Markdown, and their cells."""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = "—"
"""A cell without a value."""


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, first column left-aligned and others right-aligned; ``|`` is escaped."""
    cells = [[cell.replace("|", "\\|") for cell in line] for line in (header, *lines)]
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (cells[0], rule, *cells[1:]))


def figure(value: float) -> str:
    """Four decimals without a leading zero, as papers print metrics: ``.0453``."""
    text = f"{value:.4f}"
    return text[1:] if text.startswith("0.") else text


def signed(value: float) -> str:
    """The same with its sign: ``+.0031``."""
    return ("-" if round(value, 4) < 0 else "+") + figure(abs(value))


def duration(seconds: float) -> str:
    """Seconds, or minutes from ten of them on."""
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
