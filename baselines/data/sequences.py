"""Sequences of items with their targets: the common form of all splits."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from semid.arrays import IntArray
from semid.provenance import hash_arrays

Derived = TypeVar("Derived")


@dataclass(frozen=True, kw_only=True, eq=False)
class SequenceSet:
    """Item sequences, oldest first, each with a suffix of positions that are prediction targets.

    Position ``p`` of sequence ``s`` is a target when ``first_target[s] <= p < length[s]``; its
    history is everything before it in the same sequence. One form serves all protocols:
    leave-one-out training (every position from the second on), held-out evaluation (the last
    position), time splits (the positions after the cut) and given windows (the last position).

    Targets are numbered sequence by sequence, position by position: the *target id*.

    Attributes:
        items: int64 ``(event,)``, catalogue rows, all sequences concatenated.
        offsets: int64 ``(sequence + 1,)``; sequence ``s`` is ``items[offsets[s]:offsets[s + 1]]``.
        first_target: int64 ``(sequence,)``, at least 1, since a target needs a history.
        users: int64 ``(sequence,)``, the dense user number of each sequence.
    """

    items: IntArray
    offsets: IntArray
    first_target: IntArray
    users: IntArray
    _derived: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        lengths = np.diff(self.offsets)
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.items) or (lengths < 0).any():
            raise ValueError("offsets must run from 0 to the number of events without decreasing")
        if not len(lengths) == len(self.first_target) == len(self.users):
            raise ValueError("offsets, first_target and users must describe equally many sequences")
        if (self.first_target < 1).any():
            raise ValueError("first_target must be at least 1: every target needs a history")

    def __len__(self) -> int:
        return len(self.first_target)

    def derive(self, key: Hashable, make: Callable[[], Derived]) -> Derived:
        """What ``make`` computes from these sequences, computed once and kept as long as they are.

        Args:
            key: Names it, with everything else that it depends on.
            make: Computes it; nobody may change the result.
        """
        if key not in self._derived:
            self._derived[key] = make()
        derived: Derived = self._derived[key]
        return derived

    def select(self, chosen: NDArray[np.bool_]) -> SequenceSet:
        """Some of the sequences, in the same order; targets are numbered anew.

        Args:
            chosen: bool ``(sequence,)``.
        """
        lengths = self.lengths
        return SequenceSet(
            items=self.items[np.repeat(chosen, lengths)],
            offsets=np.concatenate([[0], np.cumsum(lengths[chosen])]).astype(np.int64),
            first_target=self.first_target[chosen],
            users=self.users[chosen],
        )

    def events_of(self, users: IntArray) -> tuple[IntArray, IntArray]:
        """The events of some users, in all their sequences.

        Args:
            users: int64 ``(row,)``, dense user numbers; a user without sequences has no events.

        Returns:
            Two int64 arrays ``(event,)``: the row of ``users``, and the item.
        """
        order = self.derive("by user", lambda: np.argsort(self.users, kind="stable"))
        owners = self.users[order]
        first, stop = (np.searchsorted(owners, users, side) for side in ("left", "right"))
        sequence = order[_ranges(first, stop - first)]
        row = np.repeat(np.arange(len(users)), stop - first)
        lengths = self.lengths[sequence]
        return np.repeat(row, lengths), self.items[_ranges(self.offsets[sequence], lengths)]

    @property
    def lengths(self) -> IntArray:
        """int64 ``(sequence,)``."""
        return np.diff(self.offsets)

    @property
    def num_targets(self) -> int:
        """Number of prediction targets over all sequences."""
        return int(np.maximum(self.lengths - self.first_target, 0).sum())

    def targets(self) -> tuple[IntArray, IntArray]:
        """Sequence and event of every target, in the order of target ids.

        Returns:
            Two int64 arrays ``(target,)``: the sequence number, and the event index into ``items``.
        """
        counts = np.maximum(self.lengths - self.first_target, 0)
        sequence = np.repeat(np.arange(len(self)), counts)
        first_id = np.cumsum(counts) - counts
        within = np.arange(len(sequence)) - first_id[sequence]
        return sequence, self.offsets[sequence] + self.first_target[sequence] + within

    def repeated_targets(self) -> NDArray[np.bool_]:
        """Bool ``(target,)``: whether the target's item is in its own history, by target id."""
        sequence = np.repeat(np.arange(len(self)), self.lengths)
        order = np.lexsort((self.items, sequence))  # stable: earlier events first
        equal = np.diff(sequence[order]) == 0
        equal &= np.diff(self.items[order]) == 0
        repeated = np.zeros(len(self.items), dtype=np.bool_)
        repeated[order[1:]] = equal
        return repeated[self.targets()[1]]

    def content_hash(self) -> str:
        """Hash of everything that a model can read from these sequences."""
        return hash_arrays(self.items, self.offsets, self.first_target, self.users)


def _ranges(begin: IntArray, lengths: IntArray) -> IntArray:
    """``begin[i], begin[i] + 1, …`` for ``lengths[i]`` numbers, one range after another."""
    first = np.cumsum(lengths) - lengths
    found: IntArray = np.arange(int(lengths.sum())) + np.repeat(begin - first, lengths)
    return found
