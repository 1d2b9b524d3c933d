"""Settings of the preparation of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from semid.field_types import require_types

PreparedRepeats = Literal["keep", "exact", "consecutive", "first"]


@dataclass(frozen=True, kw_only=True)
class PreparationConfig:
    """What is left out of a log of events; nothing but rows with missing values by default.

    Attributes:
        min_rating: Events with a lower rating are left out; None keeps all.
        repeats: ``keep``; ``exact`` keeps the first of events equal in user, item and time;
            ``consecutive`` leaves out an event of the same item as the user's event before it;
            ``first`` keeps each user's first event with each item.
        max_history: Only this many latest events of each user are kept; None keeps all.
        user_core: Users with fewer events are left out, in turn with items; see ``k_core``.
        item_core: Items with fewer events are left out.

    Raises:
        ValueError: If a setting is out of range.
    """

    min_rating: float | None = None
    repeats: PreparedRepeats = "keep"
    max_history: int | None = None
    user_core: int = 1
    item_core: int = 1

    def __post_init__(self) -> None:
        require_types(self)
        kinds = get_args(PreparedRepeats)
        if self.repeats not in kinds:
            raise ValueError(f"repeats must be one of {', '.join(kinds)}, got {self.repeats!r}")
        for name in ("max_history", "user_core", "item_core"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
