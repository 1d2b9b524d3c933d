"""The figures of ID cards as rows of a table, each beside that of random codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from baselines.experiments.tables import NOTHING
from semid.inspecting.advice import THRESHOLDS, Threshold

Card = Mapping[str, Any]
"""As `semid.inspecting.id_card` makes it."""

Value = float | int | None

SPACES = {
    "embeddings": "embeddings",
    "cf_embeddings": "collaborative",
    "cooccurrence": "co-occurrence",
}
"""What the spaces of neighbours are called."""


class Row(NamedTuple):
    """A line of the table: its label, the figure of a card or of its control, and its format."""

    label: str
    value: Callable[[Card], Value]
    show: Callable[[Any], str]

    def cell(self, card: Card) -> str:
        """The figure of a card as text."""
        value = self.value(card)
        return NOTHING if value is None else self.show(value)


class Miss(NamedTuple):
    """A threshold that some cards miss, with the letter and the value of each."""

    threshold: Threshold
    cards: tuple[tuple[str, float], ...]

    @property
    def sentence(self) -> str:
        """The figure, who misses it, the bound, and what to do."""
        bound = "at least" if self.threshold.at_least else "at most"
        missed = ", ".join(f"{letter} {short(value)}" for letter, value in self.cards)
        return (
            f"{self.threshold.figure}: {missed}; {bound} {short(self.threshold.bound)} "
            f"({self.threshold.basis}). {self.threshold.advice}"
        )


def rows_of(cards: Sequence[Card]) -> list[Row]:
    """The rows that at least one of the cards has a figure for."""
    return [row for row in _rows(cards) if any(row.value(card) is not None for card in cards)]


def misses_of(cards: Sequence[Card]) -> Iterator[Miss]:
    """The thresholds that cards miss, in the order in which they are checked."""
    for threshold in THRESHOLDS:
        missed = tuple(
            (letters(number), check["value"])
            for number, card in enumerate(cards)
            for check in card["checks"]
            if check["figure"] == threshold.figure and not check["passes"]
        )
        if missed:
            yield Miss(threshold, missed)


def met_in_words(cards: Sequence[Card]) -> str:
    """How many thresholds the cards meet."""
    every = [check for card in cards for check in card["checks"]]
    return f"{sum(check['passes'] for check in every)} of {len(every)} thresholds are met"


def notes_of(cards: Sequence[Card]) -> Iterator[str]:
    """What must be said of how the figures were found."""
    yield "random: uniformly random codes of the same sizes"
    first = cards[0]
    if any(found.get("sampled") for found in first.get("neighbours", {}).values()):
        asked = max(found["items"] for found in first["neighbours"].values())
        yield f"neighbours: those of {asked} sampled items, out of {first['items']}"
    for number, card in enumerate(cards):
        if cut := card.get("cut_texts"):
            yield f"{letters(number)}: {cut} of {card['items']} texts were cut by the encoder"
    if "cold" in first:
        yield f"cold: {first['cold']['items']} items without a training event"


def described(card: Card) -> str:
    """Name, scheme, sizes and number of items."""
    scheme = "" if card["scheme"].startswith("file:") else f" {card['scheme']},"
    sizes = " ".join(map(str, card["sizes"]))
    return f"{card['name']}:{scheme} sizes {sizes}, {card['items']} items"


def letters(number: int) -> str:
    """The letters A to Z, then A2, B2 and so on."""
    turn, letter = divmod(number, len(ascii_uppercase))
    return ascii_uppercase[letter] + (str(turn + 1) if turn else "")


def short(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}"


def _rows(cards: Sequence[Card]) -> Iterator[Row]:
    yield Row("distinct IDs", _at("distinct"), str)
    yield Row("colliding items before", _at("before", "colliding_items"), str)
    yield Row("colliding items", _at("colliding_items"), str)
    yield Row("largest group before", _at("before", "largest_group"), str)
    yield Row("largest group", _at("largest_group"), str)
    yield Row("search cost", _at("search_cost"), _number)
    yield Row("reconstruction error", _at("reconstruction"), _share)
    levels = range(max(len(card["levels"]) for card in cards))
    for level in levels:
        at = f"level {level + 1} "
        yield Row(f"{at}codes in use", _at("levels", level, "utilisation"), _share)
        yield Row(f"{at}perplexity", _at("levels", level, "perplexity"), _number)
        yield Row(f"{at}Gini", _at("levels", level, "gini"), _decimals)
        yield Row(f"{at}prefixes", _at("levels", level, "prefixes"), str)
        yield Row(f"{at}children, mean", _at("levels", level, "mean_children"), _number)
        yield Row(f"{at}children, most", _at("levels", level, "max_children"), str)
        yield Row(f"{at}forced steps", _at("levels", level, "forced"), _share)
    for space, called in SPACES.items():
        yield Row(f"{called}: AUC", _at("neighbours", space, "auc"), _decimals)
        for level in levels:
            share = _at("neighbours", space, "share", level)
            yield Row(f"{called}: to level {level + 1}", share, _share)
    by_level = {
        "purity": ("categories", "purity"),
        "event balance": ("popularity", "balance"),
        "cold support": ("cold", "support"),
    }
    for called, (section, figure) in by_level.items():
        for level in levels:
            yield Row(f"{called}, level {level + 1}", _at(section, figure, level), _share)


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


def _share(value: float) -> str:
    return f"{value:.1%}"


def _decimals(value: float) -> str:
    return f"{value:.3f}"


def _number(value: float) -> str:
    return f"{value:.1f}"
