"""Thresholds for the figures of an ID card, and what to do when one is missed.

No threshold was derived from results of recommenders. One that no paper states is called a rule of
thumb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["RULE_OF_THUMB", "THRESHOLDS", "Check", "Threshold", "checks"]

RULE_OF_THUMB = "rule of thumb"

Card = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A bound on one figure.

    Attributes:
        figure: What is measured.
        value: The figure of a card; None if the card has no such figure.
        bound: The largest good value, or the smallest.
        at_least: Whether it is the smallest.
        advice: One sentence on what to do if it is missed.
        basis: Where the bound comes from.
    """

    figure: str
    value: Callable[[Card], float | None]
    bound: float
    at_least: bool
    advice: str
    basis: str = RULE_OF_THUMB


@dataclass(frozen=True, kw_only=True)
class Check:
    """A figure compared with its threshold; attributes as in `Threshold`."""

    figure: str
    value: float
    bound: float
    at_least: bool
    passes: bool
    basis: str
    advice: str


def checks(card: Card) -> list[Check]:
    """Compare a card with all thresholds whose figures it has.

    Args:
        card: As `semid.inspecting.card.id_card` makes it.
    """
    return list(_checked(card))


def _checked(card: Card) -> Iterator[Check]:
    for threshold in THRESHOLDS:
        value = threshold.value(card)
        if value is None:
            continue
        over = value >= threshold.bound
        yield Check(
            figure=threshold.figure,
            value=value,
            bound=threshold.bound,
            at_least=threshold.at_least,
            passes=over if threshold.at_least else value <= threshold.bound,
            basis=threshold.basis,
            advice=threshold.advice,
        )


def _own_levels(card: Card) -> list[Mapping[str, Any]]:
    """The levels of the scheme, without one that only numbers items of equal codes."""
    levels: list[Mapping[str, Any]] = card["levels"]
    return levels[:-1] if card["extra_level"] else levels


def _colliding(card: Card) -> float:
    return float(card["colliding_items"] / card["items"])


def _largest_group(card: Card) -> float:
    return float((card["before"] or card)["largest_group"])


def _least_use(card: Card) -> float:
    return float(min(level["utilisation"] for level in _own_levels(card)))


def _evenness(card: Card) -> float:
    return float(min(level["perplexity"] / level["used"] for level in _own_levels(card)))


def _forced(card: Card) -> float:
    levels = _own_levels(card)
    return float(sum(level["forced"] for level in levels) / len(levels))


def _search_cost(card: Card) -> float:
    return float(card["search_cost"] / card["items"])


def _auc(space: str) -> Callable[[Card], float | None]:
    def value(card: Card) -> float | None:
        found = card.get("neighbours", {}).get(space)
        return None if found is None else float(found["auc"])

    return value


def _purity(card: Card) -> float | None:
    if "categories" not in card:
        return None
    own, by_chance = (each["categories"]["purity"][0] for each in (card, card["control"]))
    return float(own / by_chance) if own is not None and by_chance else None


def _balance(card: Card) -> float | None:
    return float(card["popularity"]["balance"][0]) if "popularity" in card else None


def _support(card: Card) -> float | None:
    return float(card["cold"]["support"][:2][-1]) if "cold" in card else None


def _reconstruction(card: Card) -> float | None:
    found: float | None = card["reconstruction"]
    return found


THRESHOLDS = (
    Threshold(
        figure="share of items that collide",
        value=_colliding,
        bound=0.01,
        at_least=False,
        advice="Tell items with equal codes apart: --ids.collisions extra_level or next_nearest.",
    ),
    Threshold(
        figure="largest group before collisions are resolved",
        value=_largest_group,
        bound=20,
        at_least=False,
        advice="Look for items with equal texts, or take larger codebooks or one level more.",
    ),
    Threshold(
        figure="share of codes in use, worst level",
        value=_least_use,
        bound=0.8,
        at_least=True,
        basis="TIGER's target, arXiv:2305.05065",
        advice="Take smaller codebooks, or a start and settings that keep codes alive.",
    ),
    Threshold(
        figure="perplexity over codes in use, worst level",
        value=_evenness,
        bound=0.4,
        at_least=True,
        advice="A few codes hold most items: try rqkmeans with its setting balanced.",
    ),
    Threshold(
        figure="share of forced steps, mean of levels",
        value=_forced,
        bound=0.5,
        at_least=False,
        advice="Most steps leave nothing to choose: take fewer levels or smaller codebooks.",
    ),
    Threshold(
        figure="search cost over items",
        value=_search_cost,
        bound=0.5,
        at_least=False,
        advice="Decoding is hardly cheaper than a flat list: take more levels of fewer codes.",
    ),
    Threshold(
        figure="reconstruction error",
        value=_reconstruction,
        bound=0.25,
        at_least=False,
        advice="The codes lose most of the vectors: take larger codebooks or one level more.",
    ),
    Threshold(
        figure="AUC of neighbours by embeddings",
        value=_auc("embeddings"),
        bound=0.6,
        at_least=True,
        advice="Similar items do not share codes: check the embeddings, and that rows match.",
    ),
    Threshold(
        figure="AUC of neighbours by collaborative vectors",
        value=_auc("cf_embeddings"),
        bound=0.55,
        at_least=True,
        advice="Codes ignore what users do: add collaborative vectors (letter, or --ids.cf_scale).",
    ),
    Threshold(
        figure="AUC of neighbours by co-occurrence",
        value=_auc("cooccurrence"),
        bound=0.55,
        at_least=True,
        advice="Codes ignore what users do: add collaborative vectors (letter, or --ids.cf_scale).",
    ),
    Threshold(
        figure="purity of first codes over random",
        value=_purity,
        bound=2.0,
        at_least=True,
        advice="First codes hardly follow the categories: put them into the text (--ids.template).",
    ),
    Threshold(
        figure="balance of events over first codes",
        value=_balance,
        bound=0.3,
        at_least=True,
        advice="A few first codes draw most events: take codebooks that are used more evenly.",
    ),
    Threshold(
        figure="cold items with a warm item on their first two codes",
        value=_support,
        bound=0.5,
        at_least=True,
        advice="A model never saw the paths of cold items: take fewer codes at the first levels.",
    ),
)
"""All thresholds, in the order in which they are checked."""
