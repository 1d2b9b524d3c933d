"""What fails while a clause is looked at breaks that clause."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from semid.checks import ContractError

__all__ = ["ContractError", "holding"]


@contextmanager
def holding(name: str, clause: str, expected: str, *, contract: str) -> Iterator[None]:
    """Whatever fails within breaks this clause.

    Args:
        name: Of the part that is checked.
        clause: Name of the clause.
        expected: What should have come, for the error.
        contract: Whose contract it is, such as ``"teachers"``.

    Raises:
        ContractError: If anything fails.
    """
    try:
        yield
    except ContractError:
        raise
    except Exception as error:  # of code from outside
        message = f"expected {expected}, got {type(error).__name__}: {error}"
        raise ContractError(name, clause, message, contract=contract) from error
