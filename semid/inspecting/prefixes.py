"""The prefixes of a catalogue's codes: how many items begin with each, and which are typical."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semid.paths import group_paths

__all__ = ["TYPICAL", "Prefix", "prefixes_at"]

TYPICAL = 3
"""Most items that are named as typical of a prefix."""


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The first codes of some items.

    Attributes:
        path: The codes.
        items: Number of items that begin with them.
        children: Distinct codes that follow; 0 at the last level.
        typical: Catalogue rows of at most `TYPICAL` of the items.
    """

    path: tuple[int, ...]
    items: int
    children: int
    typical: tuple[int, ...]


def prefixes_at(codes: Tensor, depth: int, order: Tensor) -> list[Prefix]:
    """All prefixes of a length, those of most items first, equal ones by their codes.

    Args:
        codes: int64 ``(item, level)``, at least one item.
        depth: Number of codes of a prefix, from 1 to the number of levels.
        order: int64 ``(item,)``, all catalogue rows; the first ones of a prefix are its typical
            items.
    """
    paths, prefix, counts = group_paths(codes[:, :depth])
    children = torch.zeros_like(counts)
    if depth < codes.shape[1]:
        longer = group_paths(codes[:, : depth + 1])[0]
        children = group_paths(longer[:, :depth])[2]
    together = order[prefix[order].argsort(stable=True)].tolist()
    begins, by_size = counts.cumsum(dim=0) - counts, counts.argsort(descending=True, stable=True)
    described = (of_each[by_size].tolist() for of_each in (paths, counts, children, begins))
    return [
        Prefix(
            path=tuple(path),
            items=items,
            children=following,
            typical=tuple(together[begin : begin + min(items, TYPICAL)]),
        )
        for path, items, following, begin in zip(*described, strict=True)
    ]
