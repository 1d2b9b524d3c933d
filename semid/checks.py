"""Checks of settings: each refuses an invalid value, by name and in one line.

For the ``__post_init__`` of a settings class, so that errors appear before anything is read,
trained or written. Types are checked too, since settings come from YAML and command lines: ``True``
is not a number, and ``1.0`` is not a whole number.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from difflib import get_close_matches

__all__ = [
    "MOST_CODES",
    "ContractError",
    "did_you_mean",
    "is_finite",
    "require_bool",
    "require_choice",
    "require_int",
    "require_ints",
    "require_real",
    "require_sizes",
    "require_text",
]


MOST_CODES = 2**31 - 1
"""Largest number of codes per level: a trie stores tokens as int32."""


class ContractError(ValueError):
    """External code violates a clause of the contract that `semid.testing` lists.

    Attributes:
        clause: Name of the clause.
    """

    def __init__(
        self, name: str, clause: str, message: str, *, contract: str = "id schemes"
    ) -> None:
        line = " ".join(message.split())  # one line, whatever another library's error was
        super().__init__(f"{name} breaks the contract of {contract}, clause {clause!r}: {line}")
        self.clause = clause


def require_int(name: str, value: object, low: int, high: int | None = None) -> None:
    """Require an ``int`` in ``[low, high]``; without ``high`` there is no upper bound.

    Raises:
        ValueError: Such as ``epochs must be a whole number of at least 1, got 1.5``.
    """
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < low or (high is not None and value > high):  # type: ignore[operator]
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {bounds}, got {value!r}")


def require_ints(name: str, values: object, low: int, high: int | None = None) -> None:
    """Require a possibly empty list or tuple of ``int``, each as in `require_int`.

    Raises:
        ValueError: Such as ``offsets must be a list of whole numbers, got 256``.
    """
    if not isinstance(values, (list, tuple)):
        raise ValueError(f"{name} must be a list of whole numbers, got {values!r}")
    for place, value in enumerate(values):
        require_int(f"{name}[{place}]", value, low, high)


def require_sizes(name: str, sizes: object) -> None:
    """Require the number of codes of at least one level, each from 1 to `MOST_CODES`.

    Raises:
        ValueError: If there is none, or one is not such a number.
    """
    require_ints(name, sizes, 1, MOST_CODES)
    if not sizes:
        raise ValueError(f"{name} must name at least one level, got none")


def require_real(
    name: str,
    value: object,
    *,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
    below: float | None = None,
) -> None:
    """Require a finite ``int`` or ``float`` within bounds.

    Args:
        name: Name of the setting.
        value: The given value.
        low: Smallest value allowed, if any.
        above: The value must be greater than this.
        high: Largest value allowed, if any.
        below: The value must be less than this.

    Raises:
        ValueError: Such as ``dropout must be a number of at least 0 and below 1, got nan``.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and is_finite(value)
    within = number and (
        (low is None or value >= low)  # type: ignore[operator]
        and (above is None or value > above)  # type: ignore[operator]
        and (high is None or value <= high)  # type: ignore[operator]
        and (below is None or value < below)  # type: ignore[operator]
    )
    if not within:
        named = {"of at least": low, "above": above, "of at most": high, "below": below}
        bounds = " and ".join(f"{word} {b:g}" for word, b in named.items() if b is not None)
        kind = f"a number {bounds}" if bounds else "a finite number"
        raise ValueError(f"{name} must be {kind}, got {value!r}")


def require_bool(name: str, value: object) -> None:
    """Require ``True`` or ``False``.

    Raises:
        ValueError: If it is anything else, numbers and text included.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def require_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Require one of several names.

    Raises:
        ValueError: If it is none of them; a similar name is suggested.
    """
    if not isinstance(value, str) or value not in choices:
        hint = did_you_mean(value, choices)
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.{hint}")


def require_text(name: str, value: object) -> None:
    """Require non-empty text.

    Raises:
        ValueError: If it is empty, only whitespace, or not a string.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text that is not empty, got {value!r}")


def did_you_mean(value: object, choices: Collection[str]) -> str:
    """`` Did you mean rqkmeans?`` for the end of an error; empty if no choice is similar."""
    near = get_close_matches(str(value), choices, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def is_finite(value: float) -> bool:
    """Whether a number is finite as a float."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an int too large for a float
        return False
