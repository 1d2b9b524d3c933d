"""Reads the log of requests back, as a table of those for recommendations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from baselines.data.dates import count_of

RECOMMEND = "/v1/recommend"
MICROSECONDS = 10**6
_BLOCK = 2**16
_SCHEMA = pl.Schema(
    {
        "request": pl.String(),
        "time": pl.Int64(),
        "user_id": pl.String(),
        "arm": pl.String(),
        "model": pl.String(),
        "status": pl.Int64(),
        "latency_ms": pl.Float64(),
        "items": pl.List(pl.String()),
    }
)


def read_log(path: str | Path) -> pl.DataFrame:
    """Read the requests for recommendations that reached a model.

    Args:
        path: A file written by ``semid serve --log``.

    Returns:
        One row per request, in the order of the file: ``request``; ``time``, Int64, microseconds
        since 1970; ``user_id``, null if the request named none; ``arm``; ``model``; ``status``;
        ``latency_ms``; and ``items``, the listed IDs as text, best first, null if it was refused.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a line is not one of such a log, or none is a request for recommendations.
    """
    with open(path, "rb") as lines:
        rows, blocks = _rows(path, lines), []
        while block := list(islice(rows, _BLOCK)):
            blocks.append(pl.DataFrame(block, schema=_SCHEMA, orient="row"))
    if not blocks:
        raise ValueError(
            f"{path}: expected a request to {RECOMMEND} that a model answered, got none. Is it "
            "written by semid serve --log?"
        )
    return pl.concat(blocks)


def _rows(path: str | Path, lines: Iterable[bytes]) -> Iterator[tuple[Any, ...]]:
    for number, line in enumerate(lines, start=1):
        try:
            row = _row(line.decode()) if line.strip() else None
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {number}: expected UTF-8, got {error}") from None
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        if row is not None:
            yield row


def _row(line: str) -> tuple[Any, ...] | None:
    """The row of a line; None if it is not of a request for recommendations to a model."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _unlike("an object in JSON", line.strip(), f" ({error})") from None
    if not isinstance(found, dict):
        raise _unlike("an object in JSON", line.strip())
    status = found.get("status")
    if not isinstance(status, int) or not 100 <= status <= 599:
        raise _unlike("status, a whole number from 100 to 599", status)
    if _text(found, "path") != RECOMMEND or "arm" not in found:
        return None
    body = found.get("body")
    if not isinstance(body, dict):
        raise _unlike("body, an object", body)
    return (
        _text(found, "request"),
        _time(found),
        None if body.get("user") is None else _text(body, "user"),
        _text(found, "arm"),
        _text(found, "model"),
        status,
        _latency(found),
        _items(found) if status == 200 else None,
    )


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not _is_unicode(value):
        raise _unlike(f"{name}, a text", value)
    return value


def _time(fields: dict[str, Any]) -> int:
    value = _text(fields, "time")
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise _unlike("time, a date with time and zone in ISO format", value)
    return count_of(time, MICROSECONDS)


def _latency(fields: dict[str, Any]) -> float:
    value = fields.get("latency_ms")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e12:
        raise _unlike("latency_ms, a number of at least 0", value)
    return float(value)


def _items(fields: dict[str, Any]) -> list[str]:
    items = fields.get("items")
    if not isinstance(items, list):
        raise _unlike("items, a list", items)
    return [_item(item) for item in items]


def _item(item: Any) -> str:
    """An item's ID as text."""
    value = item.get("item_id") if isinstance(item, dict) else None
    is_id = isinstance(value, str) and _is_unicode(value)
    if not is_id and (not isinstance(value, int) or isinstance(value, bool)):
        raise _unlike("items with item_id, a text or whole number", item)
    return str(value)


def _is_unicode(text: str) -> bool:
    """Whether a text has no half of a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _unlike(expected: str, came: Any, reason: str = "") -> ValueError:
    return ValueError(f"expected {expected}, got {came!r:.80}{reason}")
