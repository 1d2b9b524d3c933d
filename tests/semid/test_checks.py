"""Checks of settings: what they let through, what they refuse, and the line they give."""

from __future__ import annotations

from typing import Any

import pytest

from semid.checks import (
    require_bool,
    require_choice,
    require_int,
    require_ints,
    require_real,
    require_text,
)


@pytest.mark.parametrize("value", [1, 2, 10**30])
def test_whole_numbers_from_the_lower_bound_on_pass(value: int) -> None:
    require_int("epochs", value, 1)


@pytest.mark.parametrize("value", [0, -1, 1.0, 1.5, True, None, "3", [1], float("nan")])
def test_anything_else_is_no_whole_number_of_at_least_one(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^epochs must be a whole number of at least 1, got "):
        require_int("epochs", value, 1)


def test_an_upper_bound_of_whole_numbers_is_named() -> None:
    require_int("beam", 8, 1, 8)
    with pytest.raises(ValueError, match=r"^beam must be a whole number from 1 to 8, got 9$"):
        require_int("beam", 9, 1, 8)


def test_a_list_of_whole_numbers_names_the_one_that_is_none() -> None:
    require_ints("offsets", [0, 256], 0)
    require_ints("offsets", (), 0)
    with pytest.raises(ValueError, match=r"^offsets must be a list of whole numbers, got 256$"):
        require_ints("offsets", 256, 0)
    with pytest.raises(ValueError, match=r"^offsets\[1\] must be a whole number of at least 0"):
        require_ints("offsets", [0, -1], 0)


@pytest.mark.parametrize("value", [0, 0.0, 0.5, 0.999])
def test_real_numbers_within_the_bounds_pass(value: float) -> None:
    require_real("dropout", value, low=0, below=1)


@pytest.mark.parametrize(
    "value",
    [-0.1, 1, 1.0, True, None, "0.5", float("nan"), float("inf"), -float("inf"), 10**400],
)
def test_real_numbers_outside_and_what_is_no_finite_number_are_refused(value: Any) -> None:
    expected = r"^dropout must be a number of at least 0 and below 1, got "
    with pytest.raises(ValueError, match=expected):
        require_real("dropout", value, low=0, below=1)


def test_open_bounds_leave_out_their_own_value() -> None:
    require_real("tau", 1e-9, above=0)
    with pytest.raises(ValueError, match=r"^tau must be a number above 0 and of at most 2, got 0$"):
        require_real("tau", 0, above=0, high=2)


def test_without_bounds_a_number_must_still_be_finite() -> None:
    require_real("shift", -7.5)
    with pytest.raises(ValueError, match=r"^shift must be a finite number, got inf$"):
        require_real("shift", float("inf"))


def test_numbers_and_words_are_not_taken_for_true() -> None:
    require_bool("balanced", False)
    for value in (1, "true", None):
        with pytest.raises(ValueError, match=r"^balanced must be true or false, got "):
            require_bool("balanced", value)


def test_a_misspelt_choice_names_the_one_that_was_meant() -> None:
    require_choice("scheme", "rqvae", ("rqkmeans", "rqvae"))
    expected = r"^scheme must be one of rqkmeans, rqvae, got 'rqkmean'\. Did you mean rqkmeans\?$"
    with pytest.raises(ValueError, match=expected):
        require_choice("scheme", "rqkmean", ("rqkmeans", "rqvae"))
    with pytest.raises(ValueError, match=r"got None\.$"):
        require_choice("scheme", None, ("rqkmeans", "rqvae"))


@pytest.mark.parametrize("value", ["", " ", None, 3])
def test_a_text_must_be_there(value: Any) -> None:
    require_text("scheme", "rqvae")
    with pytest.raises(ValueError, match=r"^scheme must be a text that is not empty, got "):
        require_text("scheme", value)
