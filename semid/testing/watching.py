"""Calls to external code: checking for side effects, and reporting errors as violated clauses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from semid.checks import ContractError

__all__ = ["ContractError", "holding", "random_state", "set_random_state", "watched"]

T = TypeVar("T")


def watched(
    name: str,
    doing: str,
    inputs: Sequence[Tensor],
    call: Callable[[], T],
    *,
    contract: str = "id schemes",
) -> T:
    """Return ``call()``, checking that it leaves its inputs and the global generators alone.

    Args:
        name: Name of the tested object in an error.
        doing: What the call does, for the error.
        inputs: Tensors that ``call`` passes to it.
        call: The call to check.
        contract: Name of the contract.

    Raises:
        ContractError: For the clause ``global randomness`` or ``inputs untouched``.
    """
    copies, before = [values.clone() for values in inputs], random_state()
    result = call()
    if _differ(before, random_state()):
        set_random_state(before)
        raise ContractError(
            name,
            "global randomness",
            f"expected {doing} to leave global generators alone, got another state after it. "
            "Draw from a torch.Generator of your own.",
            contract=contract,
        )
    if not all(torch.equal(a, b) for a, b in zip(copies, inputs, strict=True)):
        for original, values in zip(copies, inputs, strict=True):
            values.copy_(original)
        raise ContractError(
            name,
            "inputs untouched",
            f"expected {doing} to leave its inputs as they are, got other values after it. "
            "Work on a copy: in-place methods end in an underscore.",
            contract=contract,
        )
    return result


def random_state() -> tuple[Tensor, dict[str, Any], Any]:
    """State of the global generators of torch, NumPy and Python."""
    state: Any = np.random.get_state(legacy=False)
    return torch.get_rng_state(), state, random.getstate()


def set_random_state(state: tuple[Tensor, dict[str, Any], Any]) -> None:
    """Restore the state returned by `random_state`."""
    torch.set_rng_state(state[0])
    np.random.set_state(state[1])
    random.setstate(state[2])


def _differ(
    before: tuple[Tensor, dict[str, Any], Any], after: tuple[Tensor, dict[str, Any], Any]
) -> bool:
    ours, theirs = before[1]["state"], after[1]["state"]
    numpy_differs = ours["pos"] != theirs["pos"] or not np.array_equal(ours["key"], theirs["key"])
    return numpy_differs or not torch.equal(before[0], after[0]) or before[2] != after[2]


@contextmanager
def holding(
    name: str, clause: str, expected: str, cure: str, *, contract: str = "id schemes"
) -> Iterator[None]:
    """Turn any error except a violated clause into a violation of this clause."""
    try:
        yield
    except ContractError:
        raise
    except Exception as error:
        raise ContractError(
            name,
            clause,
            f"expected {expected}, got {type(error).__name__}: {error}. {cure}",
            contract=contract,
        ) from error
