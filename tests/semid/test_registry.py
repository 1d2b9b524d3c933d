"""Classes and functions by name."""

from __future__ import annotations

import pytest

from semid.registry import load_class, load_function

BUILT_IN = {"first": f"{__name__}:First", "add": f"{__name__}:add"}


class Base:
    pass


class First(Base):
    class Within(Base):
        pass


def add(a: int, b: int) -> int:
    return a + b


def find(name: str) -> type[Base]:
    return load_class(name, BUILT_IN, Base, what="thing", advice="Subclass it.")


def test_a_short_name_and_a_path_lead_to_the_same_class() -> None:
    assert find("first") is find(f"{__name__}:First") is First
    assert find(f"{__name__}:First.Within") is First.Within


def test_a_function_is_found_alike() -> None:
    assert load_function("add", BUILT_IN, what="sum")(1, 2) == 3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frist", r"out of \['add', 'first'\] or package.module:Class, got 'frist'.*first"),
        ("no_such_module:First", "No module named.*PYTHONPATH"),
        (f"{__name__}:Nothing", "Nothing.*PYTHONPATH"),
        (f"{__name__}:add", "subclass of .*Base, got .*not one. Subclass it."),
    ],
)
def test_a_name_that_leads_nowhere_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(name)


def test_what_cannot_be_called_is_no_function() -> None:
    with pytest.raises(ValueError, match="expected a sum that can be called"):
        load_function(f"{__name__}:BUILT_IN", {}, what="sum")
