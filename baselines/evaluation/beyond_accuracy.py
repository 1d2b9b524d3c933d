"""Metrics beyond accuracy: what all recommended lists are like together, whatever they hit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from baselines.evaluation.metrics import ListMetric, Metric
from semid.arrays import FloatArray, IntArray

_LISTS_AT_ONCE = 1 << 14


class Coverage(ListMetric):
    """Share of the catalogue that is in at least one user's list."""

    symbol = "coverage"

    def of_lists(self, items: IntArray, popularity: IntArray) -> float:
        """In [0, 1]."""
        return len(np.unique(items[items >= 0])) / len(popularity)


class Gini(ListMetric):
    """Gini index of how often each item of the catalogue is listed (Adomavicius & Kwon, 2012).

    ``sum_i (2 i - n - 1) c_i / (n sum_i c_i)`` over the counts ``c`` in ascending order, ``i`` from
    1 to the number ``n`` of items. Items that no list holds count as 0.
    """

    symbol = "gini"

    def of_lists(self, items: IntArray, popularity: IntArray) -> float:
        """In [0, 1): 0 if all items are listed equally often, or nothing is listed."""
        num_items = len(popularity)
        counts = np.sort(np.bincount(items[items >= 0], minlength=num_items)).astype(np.float64)
        weights = 2 * np.arange(1, num_items + 1) - num_items - 1
        return float(weights @ counts / (num_items * max(counts.sum(), 1.0)))


class Novelty(ListMetric):
    """Mean self-information of the listed items, ``-log2 p(item)`` (Zhou et al., 2010).

    ``p`` is an item's share of the training events, with add-one smoothing, so that an item
    without events has a finite value.
    """

    symbol = "novelty"

    def of_lists(self, items: IntArray, popularity: IntArray) -> float:
        """In bits; 0 if nothing is listed."""
        counts = popularity + 1.0
        listed = items[items >= 0]
        return float(-np.log2(counts[listed] / counts.sum()).mean()) if len(listed) else 0.0


class Cold(ListMetric):
    """Share of the listed items that have no training event."""

    symbol = "cold"

    def of_lists(self, items: IntArray, popularity: IntArray) -> float:
        """In [0, 1]; 0 if nothing is listed."""
        listed = items[items >= 0]
        return float((popularity[listed] == 0).mean()) if len(listed) else 0.0


class Diversity(Metric):
    """Intra-list diversity (Ziegler et al., 2005): how unlike the texts of listed items are.

    The mean over lists of the mean of ``1 - cosine`` over the pairs of different items in a list.
    """

    symbol = "diversity"

    def of_vectors(self, items: IntArray, vectors: Any) -> float:
        """Value for a run.

        Args:
            items: int64 ``(target, cutoff)``, as in `ListMetric.of_lists`.
            vectors: scipy CSR array ``(item, dim)``, rows of length 1, or 0 for an item that is
                like no other.

        Returns:
            In [0, 2], and in [0, 1] if no component is negative; 0 if no list has two items.
        """
        values = [value for part in _parts(items) for value in _diversities(part, vectors)]
        return float(np.mean(values)) if values else 0.0


def _parts(items: IntArray) -> Iterator[IntArray]:
    for start in range(0, len(items), _LISTS_AT_ONCE):
        yield items[start : start + _LISTS_AT_ONCE]


def _diversities(items: IntArray, vectors: Any) -> FloatArray:
    """The diversity of each list of at least two items.

    The cosines of all ordered pairs of a list sum to ``|sum v|^2 - sum |v|^2``.
    """
    from scipy.sparse import csr_array

    sizes = (items >= 0).sum(axis=1)
    listed, sizes = items[sizes > 1], sizes[sizes > 1]
    rows = listed[listed >= 0]
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    members = csr_array((np.ones(len(rows)), rows, bounds), shape=(len(sizes), vectors.shape[0]))
    cosines = _squares(members @ vectors) - members @ _squares(vectors)
    diversities: FloatArray = 1 - cosines / (sizes * (sizes - 1))
    return diversities


def _squares(vectors: Any) -> FloatArray:
    """Squared length of each row."""
    squares: FloatArray = vectors.astype(np.float64).power(2).sum(axis=1)
    return squares
