"""Settings of the preparation of events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from baselines.data.config import utc_date
from semid.field_types import require_types

PreparedRepeats = Literal["keep", "exact", "consecutive", "first"]
SameItem = Literal["refuse", "first", "last"]


@dataclass(frozen=True, kw_only=True)
class PreparationConfig:
    """What is left out of a log and its items; nothing but rows with missing values by default.

    Attributes:
        same_item: What becomes of differing rows of one item: they are refused, or its ``first``
            or ``last`` row is kept.
        text_fields: Items without text in any of these columns are left out, with their events;
            empty keeps all.
        clean_titles: Titles lose HTML tags, have entities decoded and blanks collapsed.
        max_title_chars: Longer titles are cut, where possible after a whole word; None for none.
        since: Events before this date are left out (ISO; UTC unless it names a zone).
        until: Events at or after this date are left out.
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

    same_item: SameItem = "refuse"
    text_fields: tuple[str, ...] = ()
    clean_titles: bool = False
    max_title_chars: int | None = None
    since: str | None = None
    until: str | None = None
    min_rating: float | None = None
    repeats: PreparedRepeats = "keep"
    max_history: int | None = None
    user_core: int = 1
    item_core: int = 1

    def __post_init__(self) -> None:
        require_types(self)
        for name, kind in (("repeats", PreparedRepeats), ("same_item", SameItem)):
            value, kinds = getattr(self, name), get_args(kind)
            if value not in kinds:
                raise ValueError(f"{name} must be one of {', '.join(kinds)}, got {value!r}")
        for name in ("max_title_chars", "max_history", "user_core", "item_core"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        since, until = self.dates
        if since is not None and until is not None and not since < until:
            raise ValueError(f"until must be after since, got {self.since} and {self.until}")

    @property
    def dates(self) -> tuple[datetime | None, datetime | None]:
        """``since`` and ``until``, with a time zone.

        Raises:
            ValueError: If one is no ISO date.
        """
        since, until = (
            None if text is None else _date(name, text)
            for name, text in (("since", self.since), ("until", self.until))
        )
        return since, until


def _date(name: str, text: str) -> datetime:
    try:
        return utc_date(text)
    except ValueError as error:
        raise ValueError(f"{name} must be an ISO date such as 2017-06-01 ({error})") from None
