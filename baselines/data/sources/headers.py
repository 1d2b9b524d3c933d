"""Rows that should name columns, but hold data."""

from __future__ import annotations

import re
from collections.abc import Sequence

_VALUE = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?")


def looks_like_data(names: Sequence[str]) -> bool:
    """Whether some names of columns are numbers or dates."""
    return any(_VALUE.fullmatch(name.strip()) for name in names)


def without_header(names: Sequence[str]) -> str:
    """What to do about a file whose first row is no header."""
    return (
        f"its first row looks like data, not like names of columns: {', '.join(names):.200}; name "
        "its columns by --read.header user_id,item_id,timestamp (of the table of items, by "
        "--read.items_header)"
    )
