"""From sequences to padded tensors: length-grouped training batches and evaluation histories."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.data.sequences import SequenceSet
from semid.arrays import IntArray
from semid.provenance import hash_arrays


@dataclass(frozen=True, kw_only=True)
class Histories:
    """Left-padded item histories, oldest first.

    Attributes:
        items: int64 ``(batch, pos)``, catalogue rows; arbitrary where ``mask`` is False.
        mask: bool ``(batch, pos)``, True at real items; the last position is always real.
        users: int64 ``(batch,)``, dense user numbers.
    """

    items: Tensor
    mask: Tensor
    users: Tensor

    @classmethod
    def alone(cls, items: Tensor) -> Histories:
        """One single-item history for each of int64 ``(batch,)``, all of user 0."""
        column = items.unsqueeze(1)
        real = torch.ones_like(column, dtype=torch.bool)
        return cls(items=column, mask=real, users=torch.zeros_like(items))

    def last(self, length: int) -> Histories:
        """The same histories cut to their last ``length`` items."""
        return Histories(
            items=self.items[:, -length:], mask=self.mask[:, -length:], users=self.users
        )

    def recency(self, decay: float) -> Tensor:
        """``decay`` to the number of later items, 0 in the padding; float32 ``(batch, pos)``."""
        age = torch.arange(self.items.shape[1] - 1, -1, -1, device=self.items.device)
        return decay ** age.float() * self.mask

    def without_last(self) -> Histories:
        """The same histories without their last item."""
        return Histories(items=self.items[:, :-1], mask=self.mask[:, :-1], users=self.users)

    def to(self, device: torch.device) -> Histories:
        """The same histories on ``device``."""
        return Histories(
            items=self.items.to(device), mask=self.mask.to(device), users=self.users.to(device)
        )


@dataclass(frozen=True, kw_only=True)
class ItemLabels:
    """A teacher's distribution over whole items for each target of a batch.

    Attributes:
        items: int64 ``(target, best)``, catalogue rows with a probability of their own.
        p: float32 ``(target, best)``, that probability.
        rest: float32 ``(target,)``, the probability of each other item.
        alpha: Weight of the teacher in the soft labels; the target has the rest.
    """

    items: Tensor
    p: Tensor
    rest: Tensor
    alpha: float = 1.0

    def select(self, chosen: Tensor) -> ItemLabels:
        """The labels of some targets, int64 ``(n,)``."""
        items, p, rest = self.items[chosen], self.p[chosen], self.rest[chosen]
        return ItemLabels(items=items, p=p, rest=rest, alpha=self.alpha)


@dataclass(frozen=True, kw_only=True)
class TrainBatch:
    """Windows of sequences with their target positions.

    Attributes:
        windows: Left-padded windows; each ends with a target item.
        target_row: int64 ``(target,)``, the window of each target.
        target_pos: int64 ``(target,)``, its position there; everything before it is its history.
        target_id: int64 ``(target,)``, the target's number in its ``SequenceSet``.
        progress: Share of the training completed before this batch, in ``[0, 1)``.
        since_epoch: Share of the training completed since this epoch began.
        part: Index of this part if the batch was split.
        divisible: Maximum number of parts it can be split into. With several processes, the same on
            all of them, so that they run the same number of parts.
        item_labels: A teacher's labels of the targets as whole items; None without any.
    """

    windows: Histories
    target_row: Tensor
    target_pos: Tensor
    target_id: Tensor
    progress: float = 0.0
    since_epoch: float = 0.0
    part: int = 0
    divisible: int = 1
    item_labels: ItemLabels | None = None

    @property
    def target_items(self) -> Tensor:
        """int64 ``(target,)``, catalogue rows."""
        return self.windows.items[self.target_row, self.target_pos]

    def to(self, device: torch.device) -> TrainBatch:
        """The same batch on ``device``."""
        return dataclasses.replace(
            self,
            windows=self.windows.to(device),
            target_row=self.target_row.to(device),
            target_pos=self.target_pos.to(device),
            target_id=self.target_id.to(device),
        )

    def select_targets(self, chosen: Tensor) -> TrainBatch:
        """The same windows with only some of the targets, int64 ``(n,)``."""
        return dataclasses.replace(
            self,
            target_row=self.target_row[chosen],
            target_pos=self.target_pos[chosen],
            target_id=self.target_id[chosen],
            item_labels=None if self.item_labels is None else self.item_labels.select(chosen),
        )

    def histories(self) -> Histories:
        """What is before each target in its window, one history per target."""
        items, mask = self.windows.items, self.windows.mask
        width, row = items.shape[1] - 1, self.target_row[:, None]
        pos = torch.arange(width, device=items.device) + self.target_pos[:, None] - width
        is_real = (pos >= 0) & mask[row, pos.clamp_min(0)]
        return Histories(
            items=items[row, pos.clamp_min(0)],
            mask=is_real,
            users=self.windows.users[self.target_row],
        )

    def split(self, number: int) -> Iterator[TrainBatch]:
        """Split the windows into at most ``number`` non-empty parts."""
        number = min(number, self.divisible)
        if number == 1:
            yield self
            return
        for part in range(number):
            mine = self.target_row % number == part
            yield dataclasses.replace(
                self,
                windows=Histories(
                    items=self.windows.items[part::number],
                    mask=self.windows.mask[part::number],
                    users=self.windows.users[part::number],
                ),
                target_row=self.target_row[mine] // number,
                target_pos=self.target_pos[mine],
                target_id=self.target_id[mine],
                part=part,
                divisible=1,
            )


@dataclass(frozen=True, eq=False)
class Windows:
    """Slices of sequences; the events ``first`` to ``stop - 1`` of each slice are its targets.

    Attributes:
        data: The sequences.
        start: int64 ``(window,)``, first event.
        first: int64 ``(window,)``, first event that is a target.
        stop: int64 ``(window,)``, one past the last target.
        first_id: int64 ``(window,)``, target id of ``first``.
        sequence: int64 ``(window,)``, the sequence of each window.
        width: Events to which every window is padded; None pads to the longest of a batch.
    """

    data: SequenceSet
    start: IntArray
    first: IntArray
    stop: IntArray
    first_id: IntArray
    sequence: IntArray
    width: int | None = None

    @classmethod
    def per_target(cls, data: SequenceSet, max_history: int) -> Windows:
        """One window per target: its last ``max_history`` items and itself. Cached per set."""

        def make() -> Windows:
            sequence, event = data.targets()
            start = np.maximum(data.offsets[sequence], event - max_history)
            return cls(data, start, event, event + 1, np.arange(len(event)), sequence)

        return data.derive(("windows per target", max_history), make)

    @classmethod
    def per_sequence(cls, data: SequenceSet, max_history: int) -> Windows:
        """All targets of a sequence in one window, for models that learn from every position.

        Longer sequences are cut into overlapping windows of ``max_history + 1`` events, with a
        stride of half a window. Each target is in exactly one of them, and targets of later windows
        still have at least half a window of history. Cached per set.
        """
        key = ("windows per sequence", max_history)
        return data.derive(key, lambda: cls._per_sequence(data, max_history))

    @classmethod
    def _per_sequence(cls, data: SequenceSet, max_history: int) -> Windows:
        stride = max(max_history // 2, 1)
        lengths = data.lengths
        num_windows = 1 + np.maximum(-(-(lengths - 1 - max_history) // stride), 0)
        sequence = np.repeat(np.arange(len(data)), num_windows)
        turn = np.arange(len(sequence)) - (np.cumsum(num_windows) - num_windows)[sequence]
        full = max_history + 1 + turn * stride
        stop = np.minimum(full, lengths[sequence])
        first = np.maximum(data.first_target[sequence], np.where(turn > 0, full - stride, 0))
        start = np.maximum(stop - 1 - max_history, 0)
        counts = np.maximum(lengths - data.first_target, 0)
        first_id = (np.cumsum(counts) - counts)[sequence] + first - data.first_target[sequence]
        begin = data.offsets[sequence]
        keep = first < stop
        columns = (begin + start, begin + first, begin + stop, first_id, sequence)
        return cls(data, *(column[keep] for column in columns))

    def __len__(self) -> int:
        return len(self.start)

    def last_of_users(self) -> Windows:
        """Only the last window of each user."""
        users = self.data.users[self.sequence]
        last = len(users) - 1 - np.unique(users[::-1], return_index=True)[1]
        return self.select(np.sort(last))

    def select(self, chosen: IntArray) -> Windows:
        """The chosen windows, in that order; a number may occur more than once."""
        names = ("start", "first", "stop", "first_id", "sequence")
        return dataclasses.replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def padded_to(self, width: int) -> Windows:
        """The same windows, all padded to ``width`` events, at least as many as any of them has.

        Batches then have equal numbers of windows of any length.
        """
        return dataclasses.replace(self, width=width)

    @property
    def lengths(self) -> IntArray:
        """int64 ``(window,)``: number of events in each window, without padding."""
        return self.stop - self.start

    @property
    def _widths(self) -> IntArray:
        """int64 ``(window,)``: number of events that each window takes in a batch of its kind."""
        return self.lengths if self.width is None else np.full(len(self), self.width)

    def batch(self, chosen: IntArray) -> TrainBatch:
        """A left-padded batch of the chosen windows."""
        lengths = self.lengths[chosen]
        width = int(lengths.max()) if self.width is None else self.width
        offset = np.arange(width) - (width - lengths[:, None])  # negative in the padding
        event = self.start[chosen, None] + np.maximum(offset, 0)
        is_target = offset >= (self.first - self.start)[chosen, None]
        row, pos = np.nonzero(is_target)
        target_id = self.first_id[chosen][row] + event[row, pos] - self.first[chosen][row]
        return TrainBatch(
            windows=Histories(
                items=torch.from_numpy(self.data.items[event]),
                mask=torch.from_numpy(offset >= 0),
                users=torch.from_numpy(self.data.users[self.sequence[chosen]]),
            ),
            target_row=torch.from_numpy(row),
            target_pos=torch.from_numpy(pos),
            target_id=torch.from_numpy(target_id),
            divisible=len(chosen),
        )

    def epoch(
        self,
        batch_events: int,
        rng: np.random.Generator,
        *,
        process: int = 0,
        num_processes: int = 1,
    ) -> Iterator[TrainBatch]:
        """All windows once, in shuffled batches of similar length.

        Windows are shuffled, stably sorted by length, cut into batches of about ``batch_events``
        events, and the batches shuffled, so that little is computed on padding.

        With several processes, each gets its share of the windows of every batch. A batch with
        fewer windows than processes goes whole to each of them, which leaves its mean unchanged.
        """
        order = rng.permutation(len(self))
        order = order[np.argsort(self._widths[order], kind="stable")]
        cuts = _cuts(self._widths[order], batch_events)
        for index in rng.permutation(len(cuts) - 1):
            chosen = order[cuts[index] : cuts[index + 1]]
            if len(chosen) >= num_processes:
                batch = self.batch(chosen[process::num_processes])
                yield dataclasses.replace(batch, divisible=len(chosen) // num_processes)
            else:
                yield self.batch(chosen)

    def num_batches(self, batch_events: int) -> int:
        """Number of batches in each ``epoch``."""
        return len(_cuts(np.sort(self._widths), batch_events)) - 1


def histories_of_targets(
    data: SequenceSet, max_history: int, batch_size: int, subset: IntArray | None = None
) -> Iterator[tuple[IntArray, Histories]]:
    """Histories of targets, in batches of similar length.

    Args:
        data: Sequences with targets.
        max_history: Maximum number of history items.
        batch_size: Histories per batch.
        subset: Target ids; all by default.

    Returns:
        Positions in ``subset``, int64 ``(batch,)``, and their left-padded histories. Each target
        occurs exactly once, shorter histories first. Cached for the next call if they take about as
        much memory as the sequences, as with one target per sequence; else computed lazily.
    """
    windows = Windows.per_target(data, max_history)
    ids = np.arange(len(windows)) if subset is None else subset
    lengths = windows.lengths[ids]

    def batches() -> Iterator[tuple[IntArray, Histories]]:
        order = np.argsort(lengths, kind="stable")
        for begin in range(0, len(order), batch_size):
            positions = order[begin : begin + batch_size]
            window = windows.batch(ids[positions]).windows
            yield positions, window.without_last()

    if lengths.sum() > 2 * len(data.items):
        return batches()
    key = ("histories", max_history, batch_size, hash_arrays(ids))
    return iter(data.derive(key, lambda: list(batches())))


def _cuts(sorted_lengths: IntArray, batch_events: int) -> list[int]:
    cuts = [0]
    while cuts[-1] < len(sorted_lengths):
        begin = cuts[-1]
        rows = max(1, batch_events // int(sorted_lengths[begin]))
        end = min(begin + rows, len(sorted_lengths))
        rows = max(1, batch_events // int(sorted_lengths[end - 1]))  # the longest decides
        cuts.append(min(begin + rows, len(sorted_lengths)))
    return cuts
