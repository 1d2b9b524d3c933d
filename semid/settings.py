"""Settings that came later than artefacts: how their hashes and files are read all the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["settings_before", "without_later"]


def settings_before(made_by: type) -> dict[str, Any]:
    """The settings that came after artefacts had been made, with what was done before they came.

    A dataclass says so of a field by ``field(metadata={"before": value})``. An artefact that does
    not name the setting was made with that value, whatever the default is now.

    Args:
        made_by: The dataclass of the settings; any other class has no such fields.

    Returns:
        Values by name.
    """
    if not is_dataclass(made_by):
        return {}
    return {f.name: f.metadata["before"] for f in fields(made_by) if "before" in f.metadata}


def without_later(settings: Mapping[str, Any], made_by: type) -> dict[str, Any]:
    """Settings as they are hashed: without those of `settings_before` that have its value.

    So the hash of what is made as it always was stays what it was.

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
