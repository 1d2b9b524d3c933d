"""Checking dataclass fields against their annotations, and describing annotations in words.

Settings come from YAML files, command lines and notebooks, where nothing else checks types.
"""

from __future__ import annotations

import reprlib
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from semid.checks import did_you_mean, is_finite

__all__ = ["choices_of", "described", "require_types"]


def require_types(settings: Any) -> None:
    """Require that every field of a dataclass matches its annotation.

    The annotation may be ``bool``, ``int``, ``float`` (finite), ``str``, ``None``, ``Any``, a
    class, ``Literal``, ``tuple`` or ``dict`` of these, or a union. An ``int`` is accepted as
    ``float``, and a list as ``tuple``.

    Raises:
        ValueError: Such as ``seeds must be a list, each a whole number, got [True]``.
    """
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if not _fits(value, kind):
            hint = did_you_mean(value, choices_of(kind)) if isinstance(value, str) else ""
            got = reprlib.repr(value)
            raise ValueError(f"{name} must be {described(kind)}, got {got}{hint and '.' + hint}")


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        if parts[-1] is ...:
            return all(_fits(each, parts[0]) for each in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if origin is dict:
        return isinstance(value, Mapping) and all(
            _fits(name, parts[0]) and _fits(each, parts[1]) for name, each in value.items()
        )
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and is_finite(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return kind is Any or isinstance(value, kind)


def choices_of(kind: Any) -> list[str]:
    """The names that a ``Literal`` allows, also within a union or a list."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [name for part in get_args(kind) for name in choices_of(part)]


_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Any: "anything",
    type(None): "left out",
}


def described(kind: Any) -> str:
    """An annotation in words, such as ``a whole number or left out``."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(described(part) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple and parts[-1] is ...:
        return f"a list, each {described(parts[0])}"
    if origin is tuple:
        return f"a list of {len(parts)}, each {described(parts[0])}"
    if origin is dict:
        return f"a mapping, each value {described(parts[1])}"
    return _WORDS.get(kind) or "a mapping of settings"
