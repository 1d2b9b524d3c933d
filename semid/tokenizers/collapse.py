"""Early warning of codebook collapse: levels that use few of their codes, with a likely remedy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CollapseReport", "collapse_warning", "collapses", "perplexity", "utilisation"]

LEAST_UTILISATION = 0.5
"""Utilisation (share of a level's codes in use) below which it counts as collapsed."""

LEAST_PERPLEXITY = 0.15
"""Ratio of perplexity to the number of codes below which a level counts as collapsed."""


@dataclass(frozen=True, kw_only=True)
class CollapseReport:
    """The facts from which a remedy is chosen.

    Attributes:
        items: Number of items.
        distinct: Number of distinct embeddings.
        restart_every: Epochs between restarts of unused codes.
        restarts: Total number of restarts in the training.
        learning_rate: Learning rate of the optimiser; None if there is none.
        standardised: Whether each dimension of the inputs was standardised.
    """

    items: int
    distinct: int
    restart_every: int
    restarts: int
    learning_rate: float | None
    standardised: bool


def utilisation(counts: Tensor) -> float:
    """Share of the codes in use, given the number of items per code."""
    return float((counts > 0).float().mean())


def perplexity(counts: Tensor) -> float:
    """Exponential of the entropy of the codes: the effective number of codes."""
    shares = counts.double() / counts.sum().clamp_min(1)
    return float(torch.special.entr(shares).sum().exp())


def collapses(counts: Tensor) -> bool:
    """Whether a level has collapsed, given the number of items per code."""
    size = len(counts)
    few = utilisation(counts) < LEAST_UTILISATION or perplexity(counts) < LEAST_PERPLEXITY * size
    return size > 1 and few


def collapse_warning(level: int, counts: Tensor, report: CollapseReport) -> str:
    """A one-line warning about a collapsed level, with the likely remedy.

    Args:
        level: From 0.
        counts: ``(code,)``, number of items per code.
        report: Facts about the training.
    """
    return (
        f"level {level} uses {utilisation(counts):.0%} of its {len(counts)} codes (perplexity "
        f"{perplexity(counts):.1f}): it collapses. {_cure(len(counts), report)}"
    )


def _cure(size: int, report: CollapseReport) -> str:
    if report.distinct < report.items // 2:
        return (
            f"Only {report.distinct} of {report.items} embeddings are distinct; "
            "embed more of each item's text."
        )
    if report.items < 4 * size:
        return (
            f"{report.items} items are few for {size} codes; "
            f"choose at most {max(report.items // 8, 2)}."
        )
    if report.restarts == 0:
        return (
            f"Unused codes are never restarted (restart_every {report.restart_every}); "
            "set it to a tenth of the epochs or less."
        )
    if report.learning_rate is not None and report.learning_rate > 3e-3:
        return f"Lower the learning_rate of {report.learning_rate:g}; 0.001 is usual."
    if not report.standardised:
        return "Bring the dimensions of the embeddings to one scale, or remove their common part."
    return "Try start='balanced' and a smaller restart_every, or choose fewer codes."
