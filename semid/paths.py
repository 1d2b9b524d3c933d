"""Equal code paths, grouped."""

from __future__ import annotations

import torch
from torch import Tensor

_MOST = 1 << 62  # what a key may reach, below the range of int64


def group_paths(codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct paths in lexicographic order, as ``torch.unique(codes, dim=0)`` but faster.

    Args:
        codes: int64 ``(item, level)``, not negative, with at least one item and level.

    Returns:
        int64: the paths ``(path, level)``, the path of each item ``(item,)``, and the number of
        items of each ``(path,)``.
    """
    _, group, counts = torch.unique(_keys(codes), return_inverse=True, return_counts=True)
    rows = torch.arange(len(codes), device=codes.device)
    first = torch.full_like(counts, len(codes)).scatter_reduce_(0, group, rows, "amin")
    return codes[first], group, counts


def count_paths(codes: Tensor) -> Tensor:
    """Number of items of each distinct path, int64 ``(path,)``, as the last of `group_paths`."""
    counts: Tensor = torch.unique(_keys(codes), return_counts=True)[1]
    return counts


def _keys(codes: Tensor) -> Tensor:
    """A number for each item, int64 ``(item,)``, in the order of the paths."""
    key, reach = codes[:, 0], int(codes[:, 0].max()) + 1
    for level in range(1, codes.shape[1]):
        size = int(codes[:, level].max()) + 1
        if reach > _MOST // size:
            distinct, key = torch.unique(key, return_inverse=True)
            reach = len(distinct)
        key, reach = key * size + codes[:, level], reach * size
    return key
