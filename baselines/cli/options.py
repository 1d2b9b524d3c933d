"""Options by name: every setting of a command's dataclass, at any depth, and its spelling.

Arguments are normalised before parsing: lists without brackets, alternative names, and values that
begin with a dash.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from itertools import takewhile
from typing import Any, get_args, get_origin, get_type_hints

from semid.checks import did_you_mean

OF_THE_PARSER = ("config", "print_config")
LISTS_OF_NAMES = {
    "arms": "arms",
    "fusion.arms": "arms",
    "evaluation.metrics": "metrics",
    "metrics": "metrics",
    "history": "item IDs",
    "backbone": "class paths",
    "runs": "runs",
    "log_to": "trackers",
    "models": "models",
    "read.header": "names of columns",
    "read.items_header": "names of columns",
}
"""What the elements of some lists are; none contains a comma."""


@cache
def options_of(config: type) -> Mapping[str, Any]:
    """The types of all settings by dotted name; a nested dataclass precedes its own fields."""
    return dict(_options(config, ""))


def _options(config: type, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, kind in get_type_hints(config).items():
        yield prefix + name, kind
        if isinstance(kind, type) and is_dataclass(kind):
            yield from _options(kind, f"{prefix}{name}.")


def spelled_out(
    argv: Sequence[str], config: type, second_names: Mapping[str, str] | None = None
) -> list[str]:
    """The arguments as ``--name=value``, lists in brackets.

    Args:
        argv: The arguments as written.
        config: The dataclass that they set.
        second_names: Alternative names of options.

    Raises:
        ValueError: If an option is unknown, an option lacks a value, or a value lacks an option.
    """
    found, rest, second_names = [], list(argv), second_names or {}
    while rest:
        token = rest.pop(0)
        if not token.startswith("--"):
            raise ValueError(f"unrecognized argument {token!r}: options begin with --")
        name, equals, value = token[2:].partition("=")
        name = second_names.get(name, name)
        kind = _kind_of(name, config, second_names)
        if name == "print_config":
            found.append(token)
            continue
        if not equals:
            if rest and not rest[0].startswith("--"):
                value = rest.pop(0)
            elif kind is bool:
                value = "true"
            else:
                raise ValueError(f"--{name} needs a value")
        found.append(f"--{name}={_as_list(value, name, kind)}")
    return found


def with_first(words: Sequence[str], name: str, config: type) -> list[str]:
    """The arguments with the option's name before a value that is given first.

    Args:
        words: The arguments as written.
        name: The option; if it is a list, it takes all values up to the next option.
        config: The dataclass that they set.
    """
    values = list(takewhile(lambda word: not word.startswith("-"), words))
    if not values:
        return list(words)
    if _lists(options_of(config)[name]):
        value = json.dumps(values)
    else:
        value, values = values[0], values[:1]
    return [f"--{name}", value, *words[len(values) :]]


def _kind_of(name: str, config: type, second_names: Collection[str]) -> Any:
    """The type of an option; ``Any`` for a value of a mapping."""
    options = options_of(config)
    if name in options:
        return options[name]
    above = name.split(".")
    if name in OF_THE_PARSER or any(
        get_origin(options.get(".".join(above[:depth]))) is dict for depth in range(1, len(above))
    ):
        return Any
    known = [f"--{each}" for each in (*options, *second_names, *OF_THE_PARSER)]
    near = did_you_mean(f"--{name}", known)
    raise ValueError(f"unrecognized option --{name}.{near or ' See --help-all for all of them.'}")


def _as_list(value: str, name: str, kind: Any) -> str:
    """The value in brackets, if the option is a list and the value has none."""
    parts, text = _lists(kind), value.strip()
    if not parts or text[:1] + text[-1:] in ("[]", "()") or text == "null":
        return value
    if name in LISTS_OF_NAMES:
        names = [part.strip() for part in value.split(",")]
        if not all(names):
            what = LISTS_OF_NAMES[name]
            raise ValueError(f"--{name} must be {what} separated by commas, got {value!r}")
        return json.dumps(names)
    if not text:
        return value
    return json.dumps([value]) if get_args(parts[0])[0] is str else f"[{value}]"


def _lists(kind: Any) -> list[Any]:
    """The list types that an option may have."""
    return [part for part in (kind, *get_args(kind)) if get_origin(part) is tuple]
