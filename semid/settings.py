"""Settings that came later than what is on disk: how its hashes and files are read all the same.

A dataclass says by ``field(metadata={"before": value})`` that a setting is younger than artefacts
which do not name it, and what these were made with. What is made so still has no need of the name:
it is left out of hashes and files, which stay what they were. Where it is not found, it had that
value, whatever the default is now.

``field(default="auto", metadata={"settled": True})`` says that what the default comes to is settled
when something is begun, and written there in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["as_begun", "as_json", "from_json", "settings_before", "without_later"]

Config = TypeVar("Config")


def settings_before(made_by: type) -> dict[str, Any]:
    """What was done before a setting came, by its name.

    Args:
        made_by: The dataclass of the settings; any other class has no such settings.
    """
    if not is_dataclass(made_by):
        return {}
    return {f.name: f.metadata["before"] for f in fields(made_by) if "before" in f.metadata}


def without_later(settings: Mapping[str, Any], made_by: type) -> dict[str, Any]:
    """Settings without those that came later and say what was done before.

    Args:
        settings: Values by name.
        made_by: The dataclass that they are of.
    """
    before = settings_before(made_by)
    return {
        name: value
        for name, value in settings.items()
        if name not in before or value != before[name]
    }


def as_json(config: Any) -> Any:
    """Settings as they are kept: JSON values, `without_later` throughout.

    Args:
        config: A dataclass, whose fields may be dataclasses, mappings and sequences of such; or
            JSON, which is returned as it is.
    """
    if is_dataclass(config) and not isinstance(config, type):
        values = {f.name: getattr(config, f.name) for f in fields(config)}
        config = without_later(values, type(config))
    if isinstance(config, Mapping):
        return {name: as_json(value) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [as_json(value) for value in config]
    return config


def as_begun(config: Config, found: Mapping[str, Any]) -> Config:
    """Settings for what was begun with others: what they leave open is as it was there.

    Args:
        config: A dataclass, whose fields may be dataclasses.
        found: What `as_json` has kept of the settings that it was begun with.

    Returns:
        ``config``, with what was done before a setting came where ``found`` does not name it and
        ``config`` has its default, and with what ``found`` has where a default was settled there.
    """
    changes: dict[str, Any] = {}
    for own in fields(config):  # type: ignore[arg-type]
        value = getattr(config, own.name)
        if is_dataclass(value) and isinstance(found.get(own.name), Mapping):
            changes[own.name] = as_begun(value, found[own.name])
        elif "before" in own.metadata and own.name not in found and value == own.default:
            changes[own.name] = own.metadata["before"]
        elif own.metadata.get("settled") and value == own.default:
            changes[own.name] = found.get(own.name, value)
    return replace(config, **changes)  # type: ignore[type-var]


def from_json(made_by: type[Config], values: Mapping[str, Any]) -> Config:
    """The dataclass that `as_json` has kept.

    What it does not name is what was done before that setting came, or its default.

    Args:
        made_by: The dataclass; its fields may be dataclasses, and mappings and tuples of values.
        values: What was kept.

    Raises:
        ValueError: If a value is of no field, or out of its range.
    """
    kinds = get_type_hints(made_by)
    if unknown := sorted(values.keys() - kinds.keys()):
        raise ValueError(
            f"expected settings of {made_by.__name__}, got {', '.join(unknown)} too. "
            "Were they written by a newer version?"
        )
    found = {name: _of_json(kinds[name], value) for name, value in values.items()}
    return made_by(**{**settings_before(made_by), **found})


def _of_json(kind: Any, value: Any) -> Any:
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if isinstance(value, Mapping):
        for each in kinds:
            if is_dataclass(each) and isinstance(each, type):
                return from_json(each, value)
            if get_origin(each) is dict:
                of_values = get_args(each)[1]
                return {name: _of_json(of_values, one) for name, one in value.items()}
    if isinstance(value, list) and any(get_origin(each) is tuple for each in kinds):
        return tuple(value)
    return value
