"""Settings of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semid.checks import require_int
from semid.config import Renormalize
from semid.field_types import require_types

TieRule = Literal["strict", "expected", "optimistic"]
"""Where the target stands among the items of equal score: last, at random, or first."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How models are ranked; every choice is part of the result.

    Attributes:
        beam: Paths kept while decoding the test targets; an item outside the beam is a miss.
        renormalize: Whether a token's probability is relative to its legal siblings or to all.
        ties: Where a target stands among items of exactly its score.
        validation_beam: Paths kept while decoding validation targets during training.
        validation_targets: A fixed random subset of so many validation targets chooses the epoch
            of a generator; the test split never does.
        batch_size: Histories decoded at a time.
        certified: Test histories on which the beam is held against exact scoring.

    Raises:
        ValueError: If a number is below 1, or a choice is unknown.
    """

    beam: int = 50
    renormalize: Renormalize = "children"
    ties: TieRule = "expected"
    validation_beam: int = 20
    validation_targets: int = 4000
    batch_size: int = 256
    certified: int = 16

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("beam", "validation_beam", "validation_targets", "batch_size", "certified"):
            require_int(name, getattr(self, name), 1)
