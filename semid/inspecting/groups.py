"""What the items on one prefix have in common: categories, popularity, warm items."""

from __future__ import annotations

import torch
from torch import Tensor

from semid.paths import group_paths

__all__ = ["balance_by_level", "purity_by_level", "support_by_level"]


def purity_by_level(codes: Tensor, items: Tensor, labels: Tensor) -> list[float | None]:
    """For each level, share of the other items on an item's prefix that have its label, too.

    The mean over all labels of all items that are not alone on their prefix. Other items rather
    than all, so that prefixes of one item are not pure by themselves, and codes that split the
    catalogue differently can be compared.

    Args:
        codes: int64 ``(item, level)``.
        items: int64 ``(membership,)``, catalogue rows; an item may have several labels, or none.
        labels: int64 ``(membership,)``, not negative; no pair of item and label twice.

    Returns:
        One number per level; None if all items with a label are alone there.
    """
    purity = []
    for depth in range(1, codes.shape[1] + 1):
        _, prefix, counts = group_paths(codes[:, :depth])
        at = prefix[items]
        _, group, members = group_paths(torch.stack([at, labels], dim=1))
        others, alike = counts[at] - 1, members[group] - 1
        shared = others > 0
        mean = (alike[shared] / others[shared]).double().mean() if shared.any() else None
        purity.append(None if mean is None else float(mean))
    return purity


def balance_by_level(codes: Tensor, events: Tensor) -> list[float]:
    """For each level, how evenly the events are spread over the prefixes down to it.

    ``exp`` of the entropy of the events over prefixes, divided by the number of prefixes: 1 if all
    have equally many events, towards 0 if a few prefixes have nearly all.

    Args:
        codes: int64 ``(item, level)``.
        events: Number of events of each item, ``(item,)``, not negative, at least one positive.
    """
    balance = []
    for depth in range(1, codes.shape[1] + 1):
        paths, prefix, _ = group_paths(codes[:, :depth])
        mass = torch.zeros(len(paths), dtype=torch.float64).index_add_(0, prefix, events.double())
        entropy = torch.special.entr(mass / mass.sum()).sum()
        balance.append(float(entropy.exp()) / len(paths))
    return balance


def support_by_level(codes: Tensor, cold: Tensor, warm: Tensor) -> list[float]:
    """For each level, share of the cold items whose codes up to it some warm item has, too.

    A generator has learned to continue only such prefixes. The sum over levels is the mean number
    of leading codes that a cold item shares with the warm item closest to it.

    Args:
        codes: int64 ``(item, level)``.
        cold: int64, catalogue rows of the cold items, at least one.
        warm: int64, catalogue rows of the items in training, in any order, repeated or not.

    Raises:
        ValueError: If there is no cold item.
    """
    if not len(cold):
        raise ValueError("support is that of cold items, got none. Use the split cold:SHARE")
    shares = []
    for depth in range(1, codes.shape[1] + 1):
        paths, prefix, _ = group_paths(codes[:, :depth])
        is_warm = torch.zeros(len(paths), dtype=torch.bool)
        is_warm[prefix[warm]] = True
        shares.append(float(is_warm[prefix[cold]].double().mean()))
    return shares
