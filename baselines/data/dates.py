"""Numeric times as dates: they count from 1970, in a unit that their size tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_1990 = 631_152_000
"""In seconds since 1970."""
YEAR_5138 = 10**11
"""In seconds since 1970; in milliseconds, 1973."""


def units_per_second(last: float | np.number) -> int:
    """Units per second of times whose latest is ``last``: 1, 10**3, 10**6 or 10**9."""
    return next((size for size in (1, 10**3, 10**6) if last < size * YEAR_5138), 10**9)


def count_of(date: datetime, per_second: int) -> int:
    """The first whole number of units since 1970 that is not before the date."""
    micros = (date - _EPOCH) // timedelta(microseconds=1)
    return -(-micros * per_second // 10**6)


def date_of(time: float | np.number, per_second: int) -> str:
    """The date of a time, in ISO format to the second, UTC."""
    return (_EPOCH + timedelta(seconds=float(time) / per_second)).isoformat(timespec="seconds")
