"""Which items the same users have."""

from __future__ import annotations

import numpy as np

from baselines.data.sequences import SequenceSet
from semid.arrays import Float32Array, IntArray

_ROWS_AT_ONCE = 2048


def nearest_cooccurring(
    train: SequenceSet,
    num_items: int,
    *,
    count: int,
    shrinkage: float = 0.0,
    of: IntArray | None = None,
) -> tuple[IntArray, Float32Array]:
    """The items that most often share users with an item.

    The similarity of two items is ``n_ij / (sqrt(n_i n_j) + shrinkage)``, with ``n_ij`` the number
    of users who have both, and ``n_i`` of those who have item ``i``. Exact: all co-occurring pairs
    are counted. Ties go to the lower row.

    Args:
        train: Sequences; all of a user's items are taken together.
        num_items: Size of the catalogue.
        count: Most neighbours per item.
        shrinkage: Lowers the similarity of items with few users; at least 0.
        of: int64 ``(row,)``, the catalogue rows to find neighbours of; None for all.

    Returns:
        Rows int64 and similarities float32 ``(row, count)``, most similar first; padded with row 0
        at similarity 0.
    """
    from scipy.sparse import csr_array

    owner = np.repeat(train.users, train.lengths)
    pairs = np.unique(owner * num_items + train.items)
    shape = (int(train.users.max()) + 1, num_items)
    has = csr_array((np.ones(len(pairs)), (pairs // num_items, pairs % num_items)), shape=shape)
    has_transposed, popularity = has.T.tocsr(), np.asarray(has.sum(axis=0))
    of = np.arange(num_items) if of is None else of
    rows = np.zeros((len(of), count), dtype=np.int64)
    similarities = np.zeros((len(of), count), dtype=np.float32)
    for begin in range(0, len(of), _ROWS_AT_ONCE):
        asked = of[begin : begin + _ROWS_AT_ONCE]
        together = (has_transposed[asked] @ has).tocoo()
        place, other = together.row, together.col
        item = asked[place]
        value = together.data / (np.sqrt(popularity[item] * popularity[other]) + shrinkage)
        keep = item != other
        place, other, value = place[keep] + begin, other[keep], value[keep]
        order = np.lexsort((other, -value, place))
        place, other, value = place[order], other[order], value[order]
        rank = np.arange(len(place)) - np.searchsorted(place, place)
        keep = rank < count
        rows[place[keep], rank[keep]] = other[keep]
        similarities[place[keep], rank[keep]] = value[keep]
    return rows, similarities
