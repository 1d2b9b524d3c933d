"""Turn any failure while checking a clause into a broken clause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from semid.checks import ContractError

__all__ = ["ContractError", "holding"]


@contextmanager
def holding(name: str, clause: str, expected: str, *, contract: str) -> Iterator[None]:
    """Report any exception in the body as a violation of this clause.

    Args:
        name: Name of the part that is checked.
        clause: Name of the clause.
        expected: What was expected, for the error message.
        contract: Name of the contract, such as ``"teachers"``.

    Raises:
        ContractError: If the body raises.
    """
    try:
        yield
    except ContractError:
        raise
    except Exception as error:  # from user code
        message = f"expected {expected}, got {type(error).__name__}: {error}"
        raise ContractError(name, clause, message, contract=contract) from error
