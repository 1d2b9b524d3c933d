"""Settings that came later: what is on disk without them is read, and hashed, as it was."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from semid.settings import as_begun, as_json, settings_before, without_later


@dataclass(frozen=True, kw_only=True)
class Inner:
    width: int = 4
    loss: str = field(default="new", metadata={"before": "old"})


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "it"
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = field(default_factory=Inner)
    others: dict[str, Inner] = field(default_factory=dict)
    twice: bool = field(default=False, metadata={"before": False})


OLD: dict[str, Any] = {"name": "it", "sizes": [1, 2], "inner": {"width": 4}, "others": {}}
"""What a version has kept that knew neither ``loss`` nor ``twice``."""


def test_what_is_as_it_was_before_a_setting_came_is_kept_as_it_was() -> None:
    assert as_json(Outer(inner=Inner(loss="old"))) == OLD
    assert as_json(Outer())["inner"] == {"width": 4, "loss": "new"}
    assert as_json(Outer(twice=True))["twice"] is True
    many = Outer(others={"a": Inner(loss="old"), "b": Inner()})
    assert as_json(many)["others"] == {"a": {"width": 4}, "b": {"width": 4, "loss": "new"}}
    assert as_json(OLD) == OLD
    json.dumps(as_json(many))


def test_what_was_begun_before_a_setting_came_goes_on_as_it_was() -> None:
    begun = as_begun(Outer(), OLD)
    assert begun == Outer(inner=Inner(loss="old"))
    assert as_json(begun) == OLD, "and again"
    assert as_begun(Outer(name="other", inner=Inner(width=8)), OLD).inner == Inner(
        width=8, loss="old"
    )


def test_a_value_that_is_named_is_never_replaced() -> None:
    asked = Outer(inner=Inner(loss="another"))
    assert as_begun(asked, OLD) == asked
    assert as_begun(Outer(), as_json(Outer())) == Outer()
    assert as_begun(Outer(), as_json(asked)) == Outer(), "to be refused where both are compared"


def test_other_classes_have_no_settings_that_came_later() -> None:
    assert settings_before(dict) == {}
    assert without_later({"loss": "old"}, dict) == {"loss": "old"}
    assert settings_before(Inner) == {"loss": "old"}
    assert dataclasses.asdict(Inner()) == {"width": 4, "loss": "new"}
