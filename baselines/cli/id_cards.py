"""ID cards side by side: a table for the console, and what the thresholds advise."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from baselines.experiments.tables import NOTHING
from baselines.reporting.cards.rows import (
    Card,
    Row,
    described,
    letters,
    met_in_words,
    misses_of,
    notes_of,
    rows_of,
)


def card_lines(cards: Sequence[Card], width: int) -> Iterator[str]:
    """The cards side by side, each beside its control, in as many blocks as the width asks for.

    Args:
        cards: At least one.
        width: Characters of a line.
    """
    rows, columns = rows_of(cards), []
    for number, card in enumerate(cards):
        name = letters(number)
        yield from _wrapped(described(card), width, first=f"{name}  ")
        columns.append(_column(name, card, rows))
    labels = ["", *(row.label for row in rows)]
    while columns:
        block = [columns.pop(0)]
        while columns and _width([labels, *block, columns[0]]) <= width:
            block.append(columns.pop(0))
        yield ""
        yield from _block(labels, block)
    yield ""
    yield from notes_of(cards)


def advice_lines(cards: Sequence[Card], width: int) -> Iterator[str]:
    """Each threshold that a card misses, with the cards that miss it and the advice.

    Args:
        cards: As in `card_lines`.
        width: Characters of a line.
    """
    yield met_in_words(cards)
    for miss in misses_of(cards):
        yield from _wrapped(miss.sentence, width, first="- ")


def _column(name: str, card: Card, rows: Sequence[Row]) -> list[str]:
    """The cells of a card and of its control, header first, padded to one width."""
    both = [
        [name, *(row.cell(card) for row in rows)],
        ["random", *(row.cell(card["control"]) for row in rows)],
    ]
    widths = [max(map(len, cells)) for cells in both]
    return [
        f"  {own.rjust(widths[0])} {control.rjust(widths[1])}"
        for own, control in zip(*both, strict=True)
    ]


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, cells)) for cells in columns)


def _block(labels: Sequence[str], columns: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of some cards, without those that none of them has a figure for."""
    wide = _width([labels])
    for label, *cells in zip(labels, *columns, strict=True):
        if set("".join(cells)) - set(f" {NOTHING}"):
            yield "".join([label.ljust(wide), *cells])


def _wrapped(text: str, width: int, *, first: str) -> list[str]:
    """Lines that begin behind ``first``."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
