"""Settings of teachers that count and compare instead of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from baselines.nn.config import MOST_ITEMS
from semid.checks import require_int, require_real, require_text
from semid.field_types import require_types

TFIDF = "tfidf"
"""``ContentConfig.embeddings`` for sparse TF-IDF vectors of the items' texts."""


@dataclass(frozen=True, kw_only=True)
class RulesConfig:
    """Settings of weighted pair counts; the defaults were chosen on Beauty's validation targets.

    Attributes:
        window: Largest distance of two events of a user that are counted as a pair.
        gap_power: A pair at distance ``gap`` counts ``gap ** -gap_power``.
        backward: Weight of the pair in reverse order, from the later item to the earlier one.
        row_power: Each row of the counts is divided by its sum to this power.
        column_power: Each column likewise; the larger, the less popular items are favoured.
        decay: Weight of a history item relative to the next one; 1 for equal weights.
        max_history: Maximum number of history items.
        smoothing: Added to an item's evidence, whose unit is the mean count, before the logarithm.

    Raises:
        ValueError: If a value is out of its range.
    """

    window: int = 30
    gap_power: float = 0.5
    backward: float = 0.5
    row_power: float = 0.25
    column_power: float = 0.25
    decay: float = 0.6
    max_history: int = 30
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        require_types(self)
        require_int("window", self.window, 1, MOST_ITEMS)
        require_real("gap_power", self.gap_power, low=0)
        require_real("backward", self.backward, low=0)
        require_real("row_power", self.row_power, low=0, high=1)
        require_real("column_power", self.column_power, low=0, high=1)
        _require_history(self)


@dataclass(frozen=True, kw_only=True)
class ContentConfig:
    """Settings of content neighbours; the defaults were chosen on Beauty's validation targets.

    Attributes:
        embeddings: ``tfidf``, sparse TF-IDF vectors of the items' words; or vectors as in
            ``HybridConfig.embeddings``.
        template: Template of the text to read; None for title, brand and categories where there
            are any, else for all text fields.
        neighbours: Number of nearest neighbours kept per item.
        power: Exponent of the cosine.
        decay: Weight of a history item relative to the next one; 1 for equal weights.
        max_history: Maximum number of history items.
        smoothing: Added to an item's evidence, whose unit is the mean of the kept cosines, before
            the logarithm.

    Raises:
        ValueError: If a value is out of its range.
    """

    embeddings: str = TFIDF
    template: str | None = None
    neighbours: int = 50
    power: float = 1.0
    decay: float = 0.6
    max_history: int = 30
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        require_types(self)
        require_text("embeddings", self.embeddings)
        require_int("neighbours", self.neighbours, 1)
        require_real("power", self.power, above=0)
        _require_history(self)


@dataclass(frozen=True, kw_only=True)
class BlendConfig:
    """How ``rules`` and ``content`` are added up.

    Attributes:
        weight: Weight of content; ``auto`` for the candidate that is best on validation.
        candidates: Weights among which ``auto`` chooses; of equally good ones, the first.
        targets: Maximum number of validation targets on which it chooses.
        smoothing: Added to the sum before the logarithm.

    Raises:
        ValueError: If a value is out of its range.
    """

    weight: float | Literal["auto"] = "auto"
    candidates: tuple[float, ...] = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
    targets: int = 6000
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        require_types(self)
        if self.weight != "auto":
            require_real("weight", self.weight, low=0)
        if not self.candidates:
            raise ValueError("candidates must name at least one weight, got none")
        for place, candidate in enumerate(self.candidates):
            require_real(f"candidates[{place}]", candidate, low=0)
        require_int("targets", self.targets, 1)
        require_real("smoothing", self.smoothing, above=0)


def _require_history(config: RulesConfig | ContentConfig) -> None:
    require_real("decay", config.decay, above=0, high=1)
    require_int("max_history", config.max_history, 1, MOST_ITEMS)
    require_real("smoothing", config.smoothing, above=0)
