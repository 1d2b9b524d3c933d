"""Teachers that add up sparse evidence for items, and the sparse matrix they keep it in."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet
from baselines.teachers.model import TeacherModel

_ENTRIES_AT_ONCE = 1 << 20  # matrix entries in memory while rows are summed


class EvidenceTeacher(TeacherModel):
    """A teacher whose score is ``log(evidence + smoothing)``, so that its softmax is usable.

    The evidence for an item is at least 0, in units of the mean entry of the teacher's matrix. An
    item without evidence keeps the probability that ``smoothing`` gives it.
    """

    smoothing: float

    @abstractmethod
    def evidence(self, histories: Histories, *, without: SequenceSet | None = None) -> Tensor:
        """Evidence for every item, at least 0.

        Args:
            histories: The histories.
            without: The sequences that were counted, to leave out those of each row's user.

        Returns:
            float32 ``(batch, item)``, owned by the caller.
        """

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """Logarithms of the smoothed evidence; float32 ``(batch, item)``."""
        return self.evidence(histories).add_(self.smoothing).log_()

    @torch.inference_mode()
    def score_without_own(self, histories: Histories, train: SequenceSet) -> Tensor:
        """The same without the training events of each row's user; float32 ``(batch, item)``."""
        return self.evidence(histories, without=train).add_(self.smoothing).log_()


class SparseRows(nn.Module):
    """A square sparse matrix whose rows are summed with weights, on any device.

    Its parameters have no size until it is filled or loaded.

    Attributes:
        num_rows: Number of rows, and of columns.
        offsets: int64 ``(row + 1,)``; row ``r`` has the entries ``offsets[r]`` to
            ``offsets[r + 1] - 1``.
        columns: int32 ``(entry,)``.
        values: float32 ``(entry,)``.
    """

    def __init__(self, num_rows: int) -> None:
        super().__init__()
        self.num_rows = num_rows
        self.offsets: nn.Parameter = _unfilled(torch.int64)
        self.columns: nn.Parameter = _unfilled(torch.int32)
        self.values: nn.Parameter = _unfilled(torch.float32)

    def fill(self, matrix: Any) -> None:
        """Take the entries of a scipy CSR array ``(row, row)``, in its order of columns."""
        device = self.values.device
        for name, array, dtype in (
            ("offsets", matrix.indptr, np.int64),
            ("columns", matrix.indices, np.int32),
            ("values", matrix.data, np.float32),
        ):
            entries = torch.from_numpy(np.array(array, dtype=dtype)).to(device)
            setattr(self, name, nn.Parameter(entries, requires_grad=False))

    def matrix(self) -> Any:
        """The entries as a scipy CSR array, float64 ``(row, row)``."""
        from scipy.sparse import csr_array

        offsets, columns, values = (
            each.detach().cpu().numpy() for each in (self.offsets, self.columns, self.values)
        )
        shape = (self.num_rows, self.num_rows)
        return csr_array((values.astype(np.float64), columns, offsets), shape=shape)

    def weighted_sums(self, rows: Tensor, weights: Tensor) -> Tensor:
        """Sums of rows of the matrix.

        Args:
            rows: int64 ``(batch, pos)``.
            weights: float32 ``(batch, pos)``; rows of weight 0 cost nothing.

        Returns:
            float32 ``(batch, column)``: for each ``b``, ``sum_p weights[b, p] matrix[rows[b, p]]``.
        """
        sums = weights.new_zeros(len(rows), self.num_rows)
        batch, pos = weights.nonzero().unbind(1)
        row, weight, first = rows[batch, pos], weights[batch, pos], batch * self.num_rows
        begin = self.offsets[row]
        count = self.offsets[row + 1] - begin
        sizes = torch.bincount(count.cumsum(0) // _ENTRIES_AT_ONCE).tolist()
        parts = (torch.split(each, sizes) for each in (begin, count, weight, first))
        for begin, count, weight, first in zip(*parts, strict=True):
            owner = torch.repeat_interleave(count)
            entry = (begin - count.cumsum(0) + count)[owner]
            entry += torch.arange(len(owner), device=owner.device)
            place = first[owner].add_(self.columns[entry])
            sums.view(-1).scatter_add_(0, place, self.values[entry].mul_(weight[owner]))
        return sums


def _unfilled(dtype: torch.dtype) -> nn.Parameter:
    return UninitializedParameter(requires_grad=False, dtype=dtype)  # type: ignore[call-arg,return-value]
