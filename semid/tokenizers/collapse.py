"""Early alarm: a level that uses few of its codes, and what is likely to help."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CollapseReport", "collapse_warning", "collapses", "perplexity", "utilisation"]

LEAST_UTILISATION = 0.5
"""Share of a level's codes that some item uses, below which it is said to collapse."""

LEAST_PERPLEXITY = 0.15
"""Perplexity over the number of codes, below which a level is said to collapse."""


@dataclass(frozen=True, kw_only=True)
class CollapseReport:
    """What a cure is chosen by.

    Attributes:
        items: Number of items.
        distinct: Number of distinct embeddings.
        restart_every: Epochs between restarts of unused codes.
        restarts: How many restarts the training has in all.
        learning_rate: Of the optimiser; None where there is none.
        standardised: Whether each dimension of the inputs was brought to one scale.
    """

    items: int
    distinct: int
    restart_every: int
    restarts: int
    learning_rate: float | None
    standardised: bool


def utilisation(counts: Tensor) -> float:
    """Share of the codes that some item chose, by how many items chose each."""
    return float((counts > 0).float().mean())


def perplexity(counts: Tensor) -> float:
    """Exponential of the entropy of the codes: as many equally used ones would have it."""
    shares = counts.double() / counts.sum().clamp_min(1)
    return float(torch.special.entr(shares).sum().exp())


def collapses(counts: Tensor) -> bool:
    """Whether a level uses few of its codes, by how many items chose each."""
    size = len(counts)
    few = utilisation(counts) < LEAST_UTILISATION or perplexity(counts) < LEAST_PERPLEXITY * size
    return size > 1 and few


def collapse_warning(level: int, counts: Tensor, situation: CollapseReport) -> str:
    """One line about a level that collapses, with the likely cure.

    Args:
        level: From 0.
        counts: ``(code,)``, how many items chose each code.
        situation: What the training is like.
    """
    return (
        f"level {level} uses {utilisation(counts):.0%} of its {len(counts)} codes (perplexity "
        f"{perplexity(counts):.1f}): it collapses. {_cure(len(counts), situation)}"
    )


def _cure(size: int, situation: CollapseReport) -> str:
    if situation.distinct < situation.items // 2:
        return (
            f"Only {situation.distinct} of {situation.items} embeddings are distinct; "
            "embed more of each item's text."
        )
    if situation.items < 4 * size:
        return (
            f"{situation.items} items are few for {size} codes; "
            f"choose at most {max(situation.items // 8, 2)}."
        )
    if situation.restarts == 0:
        return (
            f"Unused codes are never restarted (restart_every {situation.restart_every}); "
            "set it to a tenth of the epochs or less."
        )
    if situation.learning_rate is not None and situation.learning_rate > 3e-3:
        return f"Lower the learning_rate of {situation.learning_rate:g}; 0.001 is usual."
    if not situation.standardised:
        return "Bring the dimensions of the embeddings to one scale, or remove their common part."
    return "Try start='balanced' and a smaller restart_every, or choose fewer codes."
