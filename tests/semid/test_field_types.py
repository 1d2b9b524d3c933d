"""Fields of a dataclass held against their annotations."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from semid.field_types import choices_of, described, require_types


@dataclass
class Inner:
    size: int = 1


@dataclass
class Settings:
    count: int = 1
    share: float = 0.5
    name: str = "x"
    wanted: bool = False
    kind: Literal["one", "two"] = "one"
    most: int | None = None
    temperature: float | Literal["auto"] = 1.0
    seeds: tuple[int, ...] = (0,)
    betas: tuple[float, float] = (0.9, 0.99)
    inner: Inner = field(default_factory=Inner)
    named: dict[str, Inner] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"share": 1},
        {"most": 3},
        {"temperature": "auto"},
        {"temperature": 2},
        {"seeds": []},
        {"seeds": [1, 2]},
        {"betas": [0, 1]},
        {"named": {"x": Inner()}},
        {"rest": {"x": object()}},
    ],
)
def test_what_an_annotation_says_passes(values: dict[str, Any]) -> None:
    require_types(Settings(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.0}, "count must be a whole number, got 1.0"),
        ({"count": True}, "count must be a whole number, got True"),
        ({"share": float("inf")}, "share must be a finite number, got inf"),
        ({"share": True}, "share must be a finite number, got True"),
        ({"name": None}, "name must be text, got None"),
        ({"wanted": 1}, "wanted must be true or false, got 1"),
        ({"kind": "twa"}, "kind must be one of one, two, got 'twa'. Did you mean two?"),
        ({"kind": ["one"]}, r"kind must be one of one, two, got \['one'\]"),
        ({"most": "3"}, "most must be a whole number or left out, got '3'"),
        ({"temperature": "autos"}, "a finite number or one of auto, got 'autos'. Did you mean"),
        ({"seeds": 3}, "seeds must be a list, each a whole number, got 3"),
        ({"seeds": "12"}, "seeds must be a list"),
        ({"seeds": [False]}, "seeds must be a list"),
        ({"betas": [0.9]}, "betas must be a list of 2, each a finite number"),
        ({"inner": {"size": 1}}, "inner must be a mapping of settings"),
        ({"named": {"x": 5}}, "named must be a mapping, each value a mapping of settings"),
        ({"rest": {1: 2}}, "rest must be a mapping"),
        ({"name": 5 * [10**50]}, "name must be text, got"),
    ],
)
def test_anything_else_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_types(Settings(**values))


def test_an_annotation_is_said_in_words() -> None:
    assert described(int | None) == "a whole number or left out"
    assert described(tuple[float, ...]) == "a list, each a finite number"
    assert choices_of(tuple[Literal["a", "b"], ...]) == ["a", "b"]
    assert choices_of(float | Literal["auto"]) == ["auto"]
    assert choices_of(int) == []
