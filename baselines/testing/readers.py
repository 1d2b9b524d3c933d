"""The contract of readers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from baselines.data.dataset import Dataset
from baselines.data.readers import as_dataset
from baselines.data.sequences import SequenceSet
from baselines.testing.holding import holding
from semid.checks import ContractError

_holding = partial(holding, contract="readers")


def check_reader(reader: Callable[[], Any]) -> None:
    """Run a reader through every clause of the contract, calling it twice.

    ================  ===========================================================================
    clause            what holds
    ================  ===========================================================================
    ``result``        it returns a ``Dataset``, or tables of items and interactions to make one
    ``items``         the item of every event is in the catalogue
    ``held out``      no training sequence ends like a held-out one, target included
    ``determinism``   two calls give the same items in the same order, and the same sequences
    ================  ===========================================================================

    Args:
        reader: A function without arguments, as for ``--data package.module:function``.

    Raises:
        ContractError: At the first broken clause: its name, what was expected, what was found,
            and how to fix it.
    """
    name = getattr(reader, "__name__", type(reader).__name__)
    with _holding(name, "result", "a Dataset, or tables of items and interactions"):
        one, other = as_dataset(reader(), name), as_dataset(reader(), name)
    _check_items(one, name)
    _check_held_out(one, name)
    for what, hashes in (
        ("items in one order", [data.catalog.order_hash for data in (one, other)]),
        *((f"{part} sequences", _hashes(part, one, other)) for part in ("train", "valid", "test")),
    ):
        if hashes[0] != hashes[1]:
            message = f"expected the same {what} from two calls, got others. Sort, and seed draws."
            raise ContractError(name, "determinism", message, contract="readers")


def _hashes(part: str, *datasets: Dataset) -> list[str]:
    return [getattr(data.splits, part).content_hash() for data in datasets]


def _check_items(dataset: Dataset, name: str) -> None:
    for part in ("train", "valid", "test"):
        items = getattr(dataset.splits, part).items
        if not 0 <= items.min() <= items.max() < len(dataset.catalog):
            message = (
                f"expected rows of a catalogue of {len(dataset.catalog)} items in {part}, got "
                f"{items.min()} to {items.max()}. Make rows of ids by catalog.rows(ids)."
            )
            raise ContractError(name, "items", message, contract="readers")


def _check_held_out(dataset: Dataset, name: str) -> None:
    train = dataset.splits.train
    learned: dict[int, list[list[int]]] = {}
    for number, user in enumerate(train.users.tolist()):
        learned.setdefault(user, []).append(_sequence(train, number))
    for part in ("valid", "test"):
        held_out = getattr(dataset.splits, part)
        for number, user in enumerate(held_out.users.tolist()):
            whole = _sequence(held_out, number)
            if any(known[-len(whole) :] == whole for known in learned.get(user, [])):
                message = (
                    f"expected the {part} target of user {user} to be in no training sequence, got "
                    f"one that ends with the {len(whole)} items of its history and target. Cut "
                    "training sequences before what is held out."
                )
                raise ContractError(name, "held out", message, contract="readers")


def _sequence(data: SequenceSet, number: int) -> list[int]:
    sequence: list[int] = data.items[data.offsets[number] : data.offsets[number + 1]].tolist()
    return sequence
