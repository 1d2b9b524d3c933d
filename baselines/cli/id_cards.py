"""ID cards side by side: a table for the console, and what the thresholds advise."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from semid.inspecting.advice import THRESHOLDS

Card = Mapping[str, Any]
Value = float | int | None

_NOTHING = "—"

_SPACES = {
    "embeddings": "embeddings",
    "cf_embeddings": "collaborative",
    "cooccurrence": "co-occurrence",
}


class _Row(NamedTuple):
    """A line of the table: its label, the figure of a card or of its control, and its format."""

    label: str
    value: Callable[[Card], Value]
    show: Callable[[Any], str]


def card_lines(cards: Sequence[Card], width: int) -> Iterator[str]:
    """The cards side by side, each beside its control, in as many blocks as the width asks for.

    Args:
        cards: At least one, as `semid.inspecting.id_card` makes them.
        width: Characters of a line.
    """
    rows = [row for row in _rows(cards) if any(row.value(card) is not None for card in cards)]
    columns = []
    for number, card in enumerate(cards):
        name = _letters(number)
        yield from _wrapped(_described(card), width, first=f"{name}  ")
        columns.append(_column(name, card, rows))
    labels = ["", *(row.label for row in rows)]
    while columns:
        block = [columns.pop(0)]
        while columns and _width([labels, *block, columns[0]]) <= width:
            block.append(columns.pop(0))
        yield ""
        yield from _block(labels, block)
    yield from _notes(cards)


def advice_lines(cards: Sequence[Card], width: int) -> Iterator[str]:
    """Each threshold that a card misses, with the cards that miss it and the advice.

    Args:
        cards: As in `card_lines`.
        width: Characters of a line.
    """
    every = [check for card in cards for check in card["checks"]]
    yield f"{sum(check['passes'] for check in every)} of {len(every)} thresholds are met"
    for threshold in THRESHOLDS:
        missed = [
            f"{_letters(number)} {_short(check['value'])}"
            for number, card in enumerate(cards)
            for check in card["checks"]
            if check["figure"] == threshold.figure and not check["passes"]
        ]
        if missed:
            bound = f"at {'least' if threshold.at_least else 'most'} {_short(threshold.bound)}"
            told = f"{threshold.figure}: {', '.join(missed)}; {bound} ({threshold.basis})."
            yield from _wrapped(f"{told} {threshold.advice}", width, first="- ")


def _rows(cards: Sequence[Card]) -> Iterator[_Row]:
    yield _Row("distinct IDs", _at("distinct"), str)
    yield _Row("colliding items before", _at("before", "colliding_items"), str)
    yield _Row("colliding items", _at("colliding_items"), str)
    yield _Row("largest group before", _at("before", "largest_group"), str)
    yield _Row("largest group", _at("largest_group"), str)
    yield _Row("search cost", _at("search_cost"), _number)
    yield _Row("reconstruction error", _at("reconstruction"), _share)
    levels = range(max(len(card["levels"]) for card in cards))
    for level in levels:
        at = f"level {level + 1} "
        yield _Row(f"{at}codes in use", _at("levels", level, "utilisation"), _share)
        yield _Row(f"{at}perplexity", _at("levels", level, "perplexity"), _number)
        yield _Row(f"{at}Gini", _at("levels", level, "gini"), _decimals)
        yield _Row(f"{at}prefixes", _at("levels", level, "prefixes"), str)
        yield _Row(f"{at}children, mean", _at("levels", level, "mean_children"), _number)
        yield _Row(f"{at}children, most", _at("levels", level, "max_children"), str)
        yield _Row(f"{at}forced steps", _at("levels", level, "forced"), _share)
    for space, called in _SPACES.items():
        yield _Row(f"{called}: AUC", _at("neighbours", space, "auc"), _decimals)
        for level in levels:
            share = _at("neighbours", space, "share", level)
            yield _Row(f"{called}: to level {level + 1}", share, _share)
    by_level = {
        "purity": ("categories", "purity"),
        "event balance": ("popularity", "balance"),
        "cold support": ("cold", "support"),
    }
    for called, (section, figure) in by_level.items():
        for level in levels:
            yield _Row(f"{called}, level {level + 1}", _at(section, figure, level), _share)


def _at(*path: str | int) -> Callable[[Card], Value]:
    """Reads a figure of a card; None where the card has none."""

    def value(card: Card) -> Value:
        found: Any = card
        for key in path:
            if isinstance(key, int):
                found = found[key] if key < len(found) else None
            else:
                found = found.get(key)
            if found is None:
                return None
        return found  # type: ignore[no-any-return]

    return value


def _column(name: str, card: Card, rows: Sequence[_Row]) -> list[str]:
    """The cells of a card and of its control, header first, padded to one width."""
    both = [[name, *map(_cell(card), rows)], ["random", *map(_cell(card["control"]), rows)]]
    widths = [max(map(len, cells)) for cells in both]
    return [
        f"  {own.rjust(widths[0])} {control.rjust(widths[1])}"
        for own, control in zip(*both, strict=True)
    ]


def _cell(card: Card) -> Callable[[_Row], str]:
    def cell(row: _Row) -> str:
        value = row.value(card)
        return _NOTHING if value is None else row.show(value)

    return cell


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, cells)) for cells in columns)


def _block(labels: Sequence[str], columns: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of some cards, without those that none of them has a figure for."""
    wide = _width([labels])
    for label, *cells in zip(labels, *columns, strict=True):
        if set("".join(cells)) - set(f" {_NOTHING}"):
            yield "".join([label.ljust(wide), *cells])


def _notes(cards: Sequence[Card]) -> Iterator[str]:
    yield ""
    yield "random: uniformly random codes of the same sizes"
    first = cards[0]
    if any(found.get("sampled") for found in first.get("neighbours", {}).values()):
        asked = max(found["items"] for found in first["neighbours"].values())
        yield f"neighbours: those of {asked} sampled items, out of {first['items']}"
    for number, card in enumerate(cards):
        if cut := card.get("cut_texts"):
            yield f"{_letters(number)}: {cut} of {card['items']} texts were cut by the encoder"
    if "cold" in first:
        yield f"cold: {first['cold']['items']} items without a training event"


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


def _described(card: Card) -> str:
    scheme = "" if card["scheme"].startswith("file:") else f" {card['scheme']},"
    sizes = " ".join(map(str, card["sizes"]))
    return f"{card['name']}:{scheme} sizes {sizes}, {card['items']} items"


def _letters(number: int) -> str:
    """The letters A to Z, then A2, B2 and so on."""
    turn, letter = divmod(number, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(turn + 1) if turn else "")


def _share(value: float) -> str:
    return f"{value:.1%}"


def _decimals(value: float) -> str:
    return f"{value:.3f}"


def _number(value: float) -> str:
    return f"{value:.1f}"


def _short(value: float) -> str:
    return f"{value:.3g}"
