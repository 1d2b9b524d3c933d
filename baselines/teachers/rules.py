"""Rules: which item follows which, counted in the training sequences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.data.streams import user_streams
from baselines.teachers.counting_config import RulesConfig
from baselines.teachers.evidence import EvidenceTeacher, SparseRows
from baselines.teachers.pairs import OwnPairs, pair_counts

_DIM = 128  # of item vectors
_ROUNDING = 1e-5  # of a sum in float32 from which parts were taken


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
    def evidence(self, histories: Histories, *, without: SequenceSet | None = None) -> Tensor:
        """Summed rules from the history, in units of the mean rule; float32 ``(batch, item)``.

        Without a user's own pairs, counts and sums are those of the other users; the unit stays.
        """
        past = histories.last(self.max_history).to(self.mean.device)
        weights, row_power = past.recency(self.config.decay), self.config.row_power
        if without is None:
            weights *= _scale(self.row_sums, row_power)[past.items]
            sums = self.counts.weighted_sums(past.items, weights)
            columns = _scale(self.column_sums, self.config.column_power)
            return sums.mul_(columns / self.mean)
        own = OwnPairs.of(past, without, self.config)
        rows = _left(self.row_sums, own.row_sums(self.counts.num_rows)).gather(1, past.items)
        weights *= _scale(rows, row_power)
        sums = own.subtracted_from(self.counts.weighted_sums(past.items, weights), past, weights)
        columns = _left(self.column_sums, own.column_sums(self.counts.num_rows))
        return sums.mul_(_scale(columns, self.config.column_power) / self.mean)

    def item_vectors(self) -> Tensor:
        """Vectors that are close for items that occur near each other, or near the same ones.

        The leading eigenvectors, times their eigenvalues, of ``I + D ** -0.5 (n + n.T) D ** -0.5``,
        with the row sums ``D`` of ``n + n.T``; the identity makes an item its own neighbour. On
        Beauty the 10 nearest items contain the next one for 8.3 % of validation targets, against
        7.6 % without the identity and 4.1 % with LSA vectors of texts.

        Returns:
            float32 ``(item, dim)``, ``dim`` at most 128; zero rows for items without rules.
        """
        from scipy.sparse import diags_array
        from sklearn.utils.extmath import randomized_svd

        counts = self.counts.matrix()
        both = counts + counts.T
        degrees = both.sum(axis=1)
        scale = diags_array(_scale(torch.from_numpy(degrees), 0.5).numpy())
        near = (scale @ both @ scale + diags_array((degrees > 0) * 1.0)).tocsr()
        left, values, _ = randomized_svd(near, min(_DIM, len(degrees)), random_state=0)
        return torch.from_numpy(left * values).float()

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


def _left(sums: Tensor, own: Tensor) -> Tensor:
    """``sums - own``, and 0 where only a rounding error is left."""
    left = sums - own
    return left.masked_fill_(left < _ROUNDING * sums, 0)
