"""Reading JSON files of any origin, with one-line errors that name the file."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

__all__ = ["load_json", "load_record", "parse_json"]


def load_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As `parse_json`.
    """
    return parse_json(Path(path).read_bytes(), path)


def parse_json(text: str | bytes, path: str | os.PathLike[str]) -> Any:
    """The value of a JSON text, which stands in the file ``path``.

    Raises:
        ValueError: If it is not JSON, is nested too deeply, or repeats a key (``json`` itself would
            keep the last).
    """
    twice: list[str] = []

    def by_name(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice.extend(name for name, count in counts.items() if count > 1)
        return values

    try:
        values = json.loads(text, object_pairs_hook=by_name)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"expected JSON in {path}, got no JSON ({error}). Was the file damaged?"
        ) from error
    if twice:
        raise ValueError(
            f"expected each name once in {path}, got {twice[0]!r} more than once "
            f"({len(twice)} such names). Keep one of each."
        )
    return values


def load_record(path: str | os.PathLike[str], **kinds: type) -> dict[str, Any]:
    """Read a JSON object and check that it has values of the given types.

    Args:
        path: The file.
        **kinds: Types of the required values, by name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: As `load_json`, or if a value is missing or has another type.
    """
    values = load_json(path)
    if not isinstance(values, dict):
        raise ValueError(
            f"expected values by name in {path}, got a JSON {type(values).__name__}. "
            "Was the file damaged?"
        )
    for name, kind in kinds.items():
        if not isinstance(values.get(name), kind):
            found = type(values[name]).__name__ if name in values else "none"
            raise ValueError(
                f"expected {name} as {kind.__name__} in {path}, got {found}. Was the file damaged?"
            )
    return values
