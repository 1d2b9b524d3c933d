"""Cold items in results: their part of the lists, and how far known items lead to them."""

from __future__ import annotations

import numpy as np
import torch

from semid.arrays import IntArray
from semid.ids import SemanticIds


def share_of_lists(top: IntArray, items: IntArray) -> float:
    """Share of the recommended items that are among ``items``; 0 if nothing is recommended.

    Args:
        top: int64 ``(target, k)``, recommended items; -1 for an empty place, which is not counted.
        items: int64, catalogue rows.
    """
    listed = top[top >= 0]
    return float(np.isin(listed, items).mean()) if len(listed) else 0.0


def support_by_level(ids: SemanticIds, cold: IntArray, warm: IntArray) -> list[float]:
    """For each level, share of the cold items whose codes up to it some warm item has, too.

    A generator has learned to continue only such prefixes. The sum over levels is the mean number
    of leading codes that a cold item shares with the warm item closest to it.

    Args:
        ids: Semantic IDs of the catalogue.
        cold: int64, catalogue rows of the cold items, at least one.
        warm: int64, catalogue rows of the items in training, in any order, repeated or not.

    Raises:
        ValueError: If there is no cold item.
    """
    if not len(cold):
        raise ValueError("support is that of cold items, got none. Use the split cold:SHARE")
    shares = []
    for depth in range(1, ids.codes.shape[1] + 1):
        _, prefix = torch.unique(ids.codes[:, :depth].cpu(), dim=0, return_inverse=True)
        supported = np.isin(prefix.numpy()[cold], prefix.numpy()[warm])
        shares.append(float(supported.mean()))
    return shares
