"""Rules: which item follows which, counted in the training sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.data.streams import user_streams
from baselines.teachers.counting_config import RulesConfig
from baselines.teachers.evidence import EvidenceTeacher, SparseRows


class Rules(EvidenceTeacher):
    """The evidence for an item is the sum of its rules from the items of the history.

    Every pair of a user's events at most ``window`` apart, item ``a`` and then ``b``, adds
    ``gap ** -gap_power`` to the count ``n[a, b]``, and ``backward`` times that to ``n[b, a]``. Each
    event counts once, also where it is in several windows of its user. The rule from ``a`` to ``b``
    is ``n[a, b] r[a] ** -row_power c[b] ** -column_power`` with the sums ``r`` of the rows of ``n``
    and ``c`` of its columns, divided by the mean of all non-zero rules. The ``a``-th item from the
    end of the history has weight ``decay ** a``.

    Exact: no pair is left out. Counts and their sums are kept apart, without powers.
    """

    label = "Rules"

    @classmethod
    def build(cls, dataset: Dataset, seed: int, config: RulesConfig) -> Rules:
        """Count a data set's training part."""
        rules = cls(config, len(dataset.catalog))
        rules.count(dataset.splits.train)
        return rules

    def __init__(self, config: RulesConfig, num_items: int) -> None:
        """Without counts, to be counted or loaded."""
        super().__init__()
        self.config = config
        self.max_history = config.max_history
        self.smoothing = config.smoothing
        self.counts = SparseRows(num_items)
        self.row_sums = nn.Parameter(torch.zeros(num_items), requires_grad=False)
        self.column_sums = nn.Parameter(torch.zeros(num_items), requires_grad=False)
        self.mean = nn.Parameter(torch.ones(()), requires_grad=False)

    def count(self, train: SequenceSet) -> None:
        """Count training sequences; earlier counts are dropped."""
        self._keep(pair_counts(user_streams(train), self.counts.num_rows, self.config))

    def update(self, arrived: SequenceSet) -> None:
        """Add the pairs that end at new events.

        Args:
            arrived: For each user with new events, the last ``window`` events before them, and the
                new ones as targets. The result is that of counting everything at once.
        """
        new = pair_counts(arrived, self.counts.num_rows, self.config)
        self._keep(self.counts.matrix() + new)

    @torch.inference_mode()
    def evidence(self, histories: Histories) -> Tensor:
        """Summed rules from the history, in units of the mean rule; float32 ``(batch, item)``."""
        past = histories.last(self.max_history).to(self.mean.device)
        weights = past.recency(self.config.decay)
        weights *= _scale(self.row_sums, self.config.row_power)[past.items]
        columns = _scale(self.column_sums, self.config.column_power)
        return self.counts.weighted_sums(past.items, weights).mul_(columns / self.mean)

    def _keep(self, counts: Any) -> None:
        self.counts.fill(counts)
        with torch.no_grad():
            for sums, axis in ((self.row_sums, 1), (self.column_sums, 0)):
                sums.copy_(torch.from_numpy(counts.sum(axis=axis)))
            of_row = _scale(self.row_sums, self.config.row_power).double().cpu().numpy()
            of_column = _scale(self.column_sums, self.config.column_power).double().cpu().numpy()
            self.mean.fill_(of_row @ (counts @ of_column) / counts.nnz if counts.nnz else 1.0)


def _scale(sums: Tensor, power: float) -> Tensor:
    """Each sum to the power ``-power``; 0 where there is nothing to scale."""
    return torch.where(sums > 0, sums**-power, 0.0)


def pair_counts(data: SequenceSet, num_items: int, config: RulesConfig) -> Any:
    """Weighted counts of pairs of events.

    Args:
        data: Sequences; a pair is counted if its later event is a target.
        num_items: Size of the catalogue.
        config: How pairs are weighted.

    Returns:
        The ``n`` of ``Rules``: scipy CSR array, float64 ``(item, item)``.
    """
    from scipy.sparse import csr_array

    sequence = np.repeat(np.arange(len(data)), data.lengths)
    is_target = np.arange(len(sequence)) - data.offsets[sequence] >= data.first_target[sequence]
    counts = csr_array((num_items, num_items), dtype=np.float64)
    for gap in range(1, min(config.window, int(data.lengths.max(initial=1)) - 1) + 1):
        pair = np.flatnonzero((sequence[gap:] == sequence[:-gap]) & is_target[gap:])
        weight = np.full(len(pair), gap**-config.gap_power)
        ends = data.items[pair], data.items[pair + gap]
        counts += csr_array((weight, ends), shape=counts.shape)
    return counts + config.backward * counts.T.tocsr()
