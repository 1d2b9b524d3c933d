"""Cold items in results: their part of the lists."""

from __future__ import annotations

import numpy as np

from semid.arrays import IntArray


def share_of_lists(top: IntArray, items: IntArray) -> float:
    """Share of the recommended items that are among ``items``; 0 if nothing is recommended.

    Args:
        top: int64 ``(target, k)``, recommended items; -1 for an empty place, which is not counted.
        items: int64, catalogue rows.
    """
    listed = top[top >= 0]
    return float(np.isin(listed, items).mean()) if len(listed) else 0.0
