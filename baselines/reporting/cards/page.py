"""The page of ID cards as one HTML file that needs nothing else: no network, no other file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from baselines.reporting.cards.browsing import as_json, browsing_data
from baselines.reporting.cards.rows import met_in_words, misses_of, notes_of, rows_of
from baselines.reporting.cards.shown import ShownIds
from baselines.reporting.drawing import Picture
from baselines.reporting.templating import inlined, rendered

_MOST_BYTES = 4_900_000
_LISTED, _LISTED_OF_ALL = 300, 1500  # first codes in the lists of typical titles


def cards_page(shown: Sequence[ShownIds], pictures: Sequence[Sequence[Picture]]) -> str:
    """The page.

    Args:
        shown: At least one set of IDs.
        pictures: The figures of each.
    """
    cards = [one.card for one in shown]
    most = max(min(_LISTED, _LISTED_OF_ALL // len(shown)), 1)
    figures = inlined(picture for of_one in pictures for picture in of_one)
    sets = [
        {
            "shown": one,
            "met": met_in_words([one.card]),
            "figures": [picture.name for picture in of_one],
            "codes": one.first_codes[:most],
        }
        for one, of_one in zip(shown, pictures, strict=True)
    ]
    values: dict[str, Any] = {
        "sets": sets,
        "figures": figures,
        "met": met_in_words(cards),
        "misses": [miss.sentence for miss in misses_of(cards)],
        "notes": list(notes_of(cards)),
        "header": ["figure", *(name for one in shown for name in (one.letter, "random"))],
        "lines": figure_lines(shown),
        "most_frequent": all(one.events is not None for one in shown),
    }
    room = _MOST_BYTES - len(rendered("ids.html", **values, data=None, json="").encode())
    data = browsing_data(shown, max(room, 0))
    return rendered("ids.html", **values, data=data, json=as_json(data))


def figure_lines(shown: Sequence[ShownIds]) -> list[tuple[str, ...]]:
    """The table of figures: its lines, each with all cards and their controls."""
    cards = [card for one in shown for card in (one.card, one.card["control"])]
    return [
        (row.label, *(row.cell(card) for card in cards))
        for row in rows_of([one.card for one in shown])
    ]
