"""Collisions: several items that received equal codes, and what is done about them.

A strategy is a function of the codes and their sizes; `STRATEGIES` names the ones there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "STRATEGIES",
    "CollisionReport",
    "Resolution",
    "collision_report",
    "keep_collisions",
    "resolve_collisions",
    "resolve_extra_level",
]


@dataclass(frozen=True, kw_only=True)
class CollisionReport:
    """How many items share their codes with another.

    Attributes:
        items: Number of items.
        distinct: Number of distinct code paths.
        colliding_items: Items whose path is also another item's.
        largest_group: Items at the most crowded path; 1 if there are no collisions.
    """

    items: int
    distinct: int
    colliding_items: int
    largest_group: int


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Codes after a strategy, and the collisions there were before it.

    Attributes:
        codes: int64 ``(item, level)``; a tensor of its own.
        sizes: Number of codes of each level.
        before: The collisions that the strategy was given.
    """

    codes: Tensor
    sizes: tuple[int, ...]
    before: CollisionReport


def _groups(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Group of each item ``(item,)``, and how many items each group of equal codes has."""
    _, group_of_item, group_sizes = torch.unique(
        codes, dim=0, return_inverse=True, return_counts=True
    )
    return group_of_item, group_sizes


def collision_report(codes: Tensor) -> CollisionReport:
    """Count the collisions in codes, int64 ``(item, level)`` with at least one item."""
    _, group_sizes = _groups(codes)
    return CollisionReport(
        items=len(codes),
        distinct=len(group_sizes),
        colliding_items=int(group_sizes[group_sizes > 1].sum()),
        largest_group=int(group_sizes.max()),
    )


def keep_collisions(codes: Tensor, sizes: tuple[int, ...]) -> Resolution:
    """Leave equal codes equal: several items stand at one leaf and share its score."""
    return Resolution(codes=codes.clone(), sizes=sizes, before=collision_report(codes))


def resolve_extra_level(codes: Tensor, sizes: tuple[int, ...]) -> Resolution:
    """Append a level that numbers the items of each collision group in row order, from 0.

    The fourth token of TIGER (arXiv:2305.05065, section 3.1): 0 for an item that collides with
    none. Its size is the largest group. Where nothing collides no level is appended, as it would
    be a constant.

    Args:
        codes: int64 ``(item, level)``.
        sizes: Number of codes of each level.
    """
    report = collision_report(codes)
    if report.largest_group == 1:
        return Resolution(codes=codes.clone(), sizes=sizes, before=report)
    group_of_item, group_sizes = _groups(codes)
    rows = torch.argsort(group_of_item, stable=True)
    first_of_group = group_sizes.cumsum(0) - group_sizes
    rank = torch.empty_like(group_of_item)
    rank[rows] = torch.arange(len(codes), device=codes.device) - first_of_group[group_of_item[rows]]
    return Resolution(
        codes=torch.cat([codes, rank[:, None]], dim=1),
        sizes=(*sizes, report.largest_group),
        before=report,
    )


STRATEGIES: Mapping[str, Callable[[Tensor, tuple[int, ...]], Resolution]] = {
    "extra_level": resolve_extra_level,
    "keep": keep_collisions,
}


def resolve_collisions(codes: Tensor, sizes: tuple[int, ...], strategy: str) -> Resolution:
    """Apply the strategy of that name.

    Args:
        codes: int64 ``(item, level)``; left as it is.
        sizes: Number of codes of each level.
        strategy: A key of `STRATEGIES`.

    Raises:
        ValueError: If there is no such strategy.
    """
    if strategy not in STRATEGIES:
        raise ValueError(
            f"expected a collision strategy out of {sorted(STRATEGIES)}, got {strategy!r}."
        )
    return STRATEGIES[strategy](codes, sizes)
