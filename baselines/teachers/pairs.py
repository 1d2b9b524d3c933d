"""Pairs of events of one user, weighted by their distance: of all users, and of some."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet
from baselines.data.streams import user_streams
from baselines.teachers.counting_config import RulesConfig
from semid.arrays import IntArray


def pair_counts(data: SequenceSet, num_items: int, config: RulesConfig) -> Any:
    """Weighted counts of pairs of events.

    Args:
        data: Sequences; a pair is counted if its later event is a target.
        num_items: Size of the catalogue.
        config: How pairs are weighted.

    Returns:
        Scipy CSR array, float64 ``(item, item)``.
    """
    from scipy.sparse import csr_array

    counts = csr_array((num_items, num_items), dtype=np.float64)
    for gap, pair in _pairs(data, config.window):
        weight = np.full(len(pair), gap**-config.gap_power)
        ends = data.items[pair], data.items[pair + gap]
        counts += csr_array((weight, ends), shape=counts.shape)
    return counts + config.backward * counts.T.tocsr()


def _pairs(data: SequenceSet, window: int) -> Iterator[tuple[int, IntArray]]:
    """For each gap, the earlier events of the pairs whose later event is a target."""
    sequence = np.repeat(np.arange(len(data)), data.lengths)
    is_target = np.arange(len(sequence)) - data.offsets[sequence] >= data.first_target[sequence]
    for gap in range(1, min(window, int(data.lengths.max(initial=1)) - 1) + 1):
        yield gap, np.flatnonzero((sequence[gap:] == sequence[:-gap]) & is_target[gap:])


@dataclass(frozen=True, kw_only=True)
class OwnPairs:
    """What the users of some histories have added to the counts.

    Attributes:
        batch: Number of histories.
        row: int64 ``(pair,)``, the history whose user has the pair.
        first: int64 ``(pair,)``, the row of the counts.
        second: int64 ``(pair,)``, their column.
        count: float32 ``(pair,)``, what was added.
    """

    batch: int
    row: Tensor
    first: Tensor
    second: Tensor
    count: Tensor

    @classmethod
    def of(cls, past: Histories, train: SequenceSet, config: RulesConfig) -> OwnPairs:
        """The pairs that ``pair_counts`` counted in ``train``, for each row's user."""
        own = user_streams(train).of_users(past.users.cpu().numpy())
        row = np.repeat(own.users, own.lengths)
        found = [
            (row[at], own.items[at], own.items[at + gap], np.full(len(at), gap**-config.gap_power))
            for gap, at in _pairs(own, config.window)
        ] or [(row[:0], row[:0], row[:0], np.zeros(0))]
        of, earlier, later, count = (np.concatenate(each) for each in zip(*found, strict=True))
        both = (
            np.concatenate([of, of]),
            np.concatenate([earlier, later]),
            np.concatenate([later, earlier]),
            np.concatenate([count, config.backward * count]).astype(np.float32),
        )
        rows, first, second, counts = (torch.from_numpy(e).to(past.items.device) for e in both)
        return cls(batch=len(past.items), row=rows, first=first, second=second, count=counts)

    def row_sums(self, num_items: int) -> Tensor:
        """float32 ``(batch, item)``."""
        return self._sums(self.first, num_items)

    def column_sums(self, num_items: int) -> Tensor:
        """float32 ``(batch, item)``."""
        return self._sums(self.second, num_items)

    def _sums(self, item: Tensor, num_items: int) -> Tensor:
        sums = self.count.new_zeros(self.batch, num_items)
        return sums.index_put_((self.row, item), self.count, accumulate=True)

    def subtracted_from(self, sums: Tensor, past: Histories, weights: Tensor) -> Tensor:
        """``sums`` of rows by ``weights`` without these pairs; at least 0."""
        of_item = torch.zeros_like(sums).scatter_add_(1, past.items, weights)
        own = of_item[self.row, self.first] * self.count
        return sums.index_put_((self.row, self.second), -own, accumulate=True).clamp_min_(0)
