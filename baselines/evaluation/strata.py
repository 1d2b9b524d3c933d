"""Strata: groups of targets, by how often and where their item occurred before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from baselines.data.sequences import SequenceSet
from semid.arrays import IntArray

FREQUENCIES = (1, 6, 21)
"""Smallest target frequency of each band; below the first, an item is unseen in training."""

LENGTHS = (6, 11, 21)
"""Smallest history length of each band but the first, which begins at 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stratum:
    """A group of targets.

    Attributes:
        kind: What the targets are divided by: ``target frequency``, ``history length`` or
            ``repetition``.
        name: The band, such as ``1-5``.
        targets: bool ``(target,)``, the members; at least one.
    """

    kind: str
    name: str
    targets: NDArray[np.bool_]


def strata_of(test: SequenceSet, events: IntArray) -> list[Stratum]:
    """Divide targets by target frequency, history length, and whether the target is repeated.

    The frequency of a target is the number of training events of its item. The length of a history
    is the number of events before the target. A target is repeated if its item is in its history.

    Args:
        test: Sequences with targets.
        events: int64 ``(item,)``, training events of each item (`training_events`).

    Returns:
        The strata of each kind, which contain every target once. Empty ones are left out.
    """
    sequence, event = test.targets()
    frequency = events[test.items[event]]
    length = event - test.offsets[sequence]
    bands = {
        "target frequency": (np.digitize(frequency, FREQUENCIES), _names(0, FREQUENCIES)),
        "history length": (np.digitize(length, LENGTHS), _names(1, LENGTHS)),
        "repetition": (test.repeated_targets().astype(np.int64), ("new", "repeated")),
    }
    return [
        Stratum(kind=kind, name=name, targets=band == number)
        for kind, (band, names) in bands.items()
        for number, name in enumerate(names)
        if (band == number).any()
    ]


def training_events(train: SequenceSet, num_items: int) -> IntArray:
    """Number of training events of each item, int64 ``(item,)``.

    If a user has several sequences, which are windows of one history and so may overlap, every
    user counts once for an item.
    """
    if len(np.unique(train.users)) == len(train):
        return np.bincount(train.items, minlength=num_items)
    pairs = np.repeat(train.users, train.lengths) * num_items + train.items
    return np.bincount(np.unique(pairs) % num_items, minlength=num_items)


def _names(least: int, begins: tuple[int, ...]) -> tuple[str, ...]:
    """Names of the bands from ``least`` up to each beginning, and of the last, which is open."""
    starts = (least, *begins)
    closed = [
        "unseen" if stop == 1 else f"{start}-{stop - 1}"
        for start, stop in zip(starts, begins, strict=False)
    ]
    return (*closed, f"{begins[-1]}+")
