"""Settings newer than artefacts on disk: keeping their hashes and files valid.

``field(metadata={"before": value})`` marks a setting added after artefacts were written, with the
value they were made with. At that value the setting is omitted from hashes and files, which thus
stay valid; when it is missing from a file, it has that value, whatever the default is now.

``field(default="auto", metadata={"settled": True})`` marks a default that is resolved when a run
begins; the resolved value is then written in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

__all__ = ["as_begun", "as_json", "from_json", "settings_before", "without_later"]

Config = TypeVar("Config")


def settings_before(made_by: type) -> dict[str, Any]:
    """The values in effect before each later setting was added, by name.

    Args:
        made_by: The settings dataclass; any other class has no such settings.
    """
    if not is_dataclass(made_by):
        return {}
    return {f.name: f.metadata["before"] for f in fields(made_by) if "before" in f.metadata}


def without_later(settings: Mapping[str, Any], made_by: type) -> dict[str, Any]:
    """Drop later settings that have their earlier value.

    Args:
        settings: Values by name.
        made_by: Their dataclass.
    """
    before = settings_before(made_by)
    return {
        name: value
        for name, value in settings.items()
        if name not in before or value != before[name]
    }


def as_json(config: Any) -> Any:
    """Settings as stored: JSON values, with `without_later` applied throughout.

    Args:
        config: A dataclass, possibly with nested dataclasses, mappings and sequences; or JSON,
            which is returned unchanged.
    """
    if is_dataclass(config) and not isinstance(config, type):
        values = {f.name: getattr(config, f.name) for f in fields(config)}
        config = without_later(values, type(config))
    if isinstance(config, Mapping):
        return {name: as_json(value) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [as_json(value) for value in config]
    return config


def as_begun(config: Config, stored: Mapping[str, Any]) -> Config:
    """Fill settings left open from those that a run was begun with.

    Args:
        config: A dataclass, whose fields may be dataclasses.
        stored: The settings of the run, from `as_json`.

    Returns:
        ``config``, in which a setting at its default takes its earlier value if ``stored`` lacks
        it, or the value that was resolved in ``stored``.
    """
    changes: dict[str, Any] = {}
    for field in fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if is_dataclass(value) and isinstance(stored.get(field.name), Mapping):
            changes[field.name] = as_begun(value, stored[field.name])
        elif "before" in field.metadata and field.name not in stored and value == field.default:
            changes[field.name] = field.metadata["before"]
        elif field.metadata.get("settled") and value == field.default:
            changes[field.name] = stored.get(field.name, value)
    return replace(config, **changes)  # type: ignore[type-var]


def from_json(made_by: type[Config], values: Mapping[str, Any]) -> Config:
    """Restore a dataclass from the output of `as_json`.

    Missing settings take their earlier value, or their default.

    Args:
        made_by: The dataclass; its fields may be dataclasses, and mappings and tuples of values.
        values: The stored values.

    Raises:
        ValueError: If a value belongs to no field, is missing or is out of range.
    """
    kinds = get_type_hints(made_by)
    if unknown := sorted(values.keys() - kinds.keys()):
        raise ValueError(
            f"expected settings of {made_by.__name__}, got {', '.join(unknown)} too. "
            "Were they written by a newer version?"
        )
    found = {name: _of_json(kinds[name], value) for name, value in values.items()}
    found = {**settings_before(made_by), **found}
    required = {f.name for f in fields(made_by) if f.default is f.default_factory is MISSING}  # type: ignore[arg-type]
    if missing := sorted(required - found.keys()):
        raise ValueError(f"expected {', '.join(missing)} of {made_by.__name__}, got none")
    return made_by(**found)


def _of_json(kind: Any, value: Any) -> Any:
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if isinstance(value, Mapping):
        for each in kinds:
            if is_dataclass(each) and isinstance(each, type):
                return from_json(each, value)
            if get_origin(each) is dict:
                of_values = get_args(each)[1]
                return {name: _of_json(of_values, one) for name, one in value.items()}
    if isinstance(value, list):
        for each in kinds:
            if get_origin(each) is tuple:
                return tuple(_of_json(get_args(each)[0], one) for one in value)
    return value
