"""Writes ID cards into a folder: the page, its figures, and the table for other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from baselines.experiments.tables import markdown_table
from baselines.reporting.cards.figures import ItemMap, card_pictures
from baselines.reporting.cards.page import cards_page, figure_lines
from baselines.reporting.cards.rows import met_in_words, misses_of, notes_of, rows_of
from baselines.reporting.cards.shown import ShownIds
from baselines.reporting.tables import write_table
from baselines.reporting.writing import missing_packages
from semid.atomic import atomic_write
from semid.inspecting.card import CONTROL_SEED

PAGE, RECORD, TABLE, SHEET, FIGURES = "ids.html", "card.json", "card.md", "card.csv", "figures"


def cards_as_json(shown: Sequence[ShownIds]) -> str:
    """All figures, and the seed of the random codes."""
    record = {"control_seed": CONTROL_SEED, "cards": [one.card for one in shown]}
    return json.dumps(record, indent=2) + "\n"


def write_cards(shown: Sequence[ShownIds], places: ItemMap | None, folder: Path) -> Path | None:
    """Write ``card.json``, ``card.md``, ``card.csv`` and, if they can be drawn, figures and page.

    Args:
        shown: At least one set of IDs.
        places: Where items are on the map; None without a map.
        folder: Made if there is none. Figures go to ``figures`` in it, as SVG, PNG and PDF.

    Returns:
        The page, ``ids.html``; None if `missing_packages` names some.
    """
    atomic_write(folder / RECORD, cards_as_json(shown))
    atomic_write(folder / TABLE, _markdown(shown))
    _write_sheet(shown, folder / SHEET)
    if missing_packages():
        return None
    pictures = list(card_pictures(shown, places))
    for picture in (picture for of_one in pictures for picture in of_one):
        picture.save(folder / FIGURES)
    atomic_write(folder / PAGE, cards_page(shown, pictures))
    return folder / PAGE


def _markdown(shown: Sequence[ShownIds]) -> str:
    cards = [one.card for one in shown]
    header = ["", *(name for one in shown for name in (one.letter, "random"))]
    parts = [
        "# ID cards",
        "\n".join(f"- {one.letter}: {one.description}" for one in shown),
        markdown_table(header, figure_lines(shown)),
        "\n".join(f"- {note}" for note in notes_of(cards)),
        f"{met_in_words(cards)}.",
        "\n".join(f"- {miss.sentence}" for miss in misses_of(cards)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _write_sheet(shown: Sequence[ShownIds], path: Path) -> None:
    """One line a figure and card, unrounded."""
    rows = rows_of([one.card for one in shown])
    write_table(
        path,
        ("card", "name", "figure", "value", "random"),
        (
            (one.letter, one.card["name"], row.label, value, row.value(one.card["control"]))
            for one in shown
            for row in rows
            if (value := row.value(one.card)) is not None
        ),
    )
