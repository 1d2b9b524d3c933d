"""Collisions: several items that received equal codes, and what is done about them.

A strategy is a function of the codes, what the scheme knows of distances, and the codes that an
old catalogue holds already; `STRATEGIES` names the ones there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, filterfalse
from typing import Any

import torch
from torch import Tensor

from semid.reassignment import (
    Costs,
    Strategy,
    costs_of_paths,
    num_holders,
)
from semid.registry import load_function
from semid.tokenizers.base import ContractError
from semid.tokenizers.checks import code_flaw

__all__ = [
    "CONTRACT",
    "STRATEGIES",
    "CollisionReport",
    "Costs",
    "Resolution",
    "collision_report",
    "load_strategies",
    "require_result",
    "resolve_collisions",
]

CONTRACT = "collision strategies"
"""What a `ContractError` of a strategy from outside calls its contract."""


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
    """Codes after a strategy, the collisions before and after it, and its price.

    Attributes:
        codes: int64 ``(item, level)``; a tensor of its own.
        sizes: Number of codes of each level.
        before: The collisions that the strategy was given; paths that are taken count as other
            items'.
        after: Those that it left.
        moved: Items that have another path than the scheme gave them.
        numbered: Items that an extra level gave a number other than 0.
        reconstruction_lost: By how much the mean squared distance between items and what their
            codes say about them grew, as a share of what it was; 0 where no item moved, None where
            the scheme knows no distances.
    """

    codes: Tensor
    sizes: tuple[int, ...]
    before: CollisionReport
    after: CollisionReport
    moved: int
    numbered: int
    reconstruction_lost: float | None


def collision_report(codes: Tensor, taken: Tensor | None = None) -> CollisionReport:
    """Count the collisions in codes.

    Args:
        codes: int64 ``(item, level)`` with at least one item.
        taken: int64 ``(other, level)``, codes of other items with which these may collide too;
            the report is about ``codes``.
    """
    holders = num_holders(codes, codes[:0] if taken is None else taken)
    return CollisionReport(
        items=len(codes),
        distinct=len(torch.unique(codes, dim=0)),
        colliding_items=int((holders > 1).sum()),
        largest_group=int(holders.max()),
    )


def _keep(
    codes: Tensor, sizes: tuple[int, ...], costs: Costs | None, taken: Tensor
) -> tuple[Tensor, tuple[int, ...]]:
    """Leave equal codes equal: several items stand at one leaf and share its score."""
    return codes, sizes


def _extra_level(
    codes: Tensor, sizes: tuple[int, ...], costs: Costs | None, taken: Tensor
) -> tuple[Tensor, tuple[int, ...]]:
    """Append a level that numbers the items of each collision group in row order, from 0.

    The fourth token of TIGER (arXiv:2305.05065, section 3.1): 0 for an item that collides with
    none. Its size is the largest group. Where nothing collides no level is appended, as it would
    be a constant. Where an old catalogue has such a level, items take the lowest numbers that are
    free in it.
    """
    num_levels = codes.shape[1]
    if len(sizes) > num_levels:
        return torch.cat([codes, _free_numbers(codes, sizes, taken)], dim=1), sizes
    report = collision_report(codes, taken)
    if report.colliding_items == 0:
        return codes, sizes
    if len(taken):
        raise ValueError(
            f"expected ids with an extra level to number {report.colliding_items} new items of "
            f"equal codes, got {num_levels} levels that are all the scheme's. Take the collision "
            "strategy next_nearest."
        )
    _, group_of_item, group_sizes = torch.unique(
        codes, dim=0, return_inverse=True, return_counts=True
    )
    rows = torch.argsort(group_of_item, stable=True)
    first_of_group = group_sizes.cumsum(0) - group_sizes
    rank = torch.empty_like(group_of_item)
    rank[rows] = torch.arange(len(codes), device=codes.device) - first_of_group[group_of_item[rows]]
    return torch.cat([codes, rank[:, None]], dim=1), (*sizes, report.largest_group)


def _free_numbers(codes: Tensor, sizes: tuple[int, ...], taken: Tensor) -> Tensor:
    """The lowest number that is free at each item's codes; int64 ``(item, 1)``."""
    held: dict[tuple[int, ...], set[int]] = {}
    for *path, number in taken.tolist():
        held.setdefault(tuple(path), set()).add(number)
    numbers = []
    for row, path in enumerate(codes.tolist()):
        here = held.setdefault(tuple(path), set())
        numbers.append(next(filterfalse(here.__contains__, count())))
        if numbers[-1] >= sizes[-1]:
            raise ValueError(
                f"expected a free number among the {sizes[-1]} of the extra level for new item "
                f"row {row}, got none at codes {tuple(path)}. Take the collision strategy "
                "next_nearest, or build the ids of the whole catalogue anew."
            )
        here.add(numbers[-1])
    return torch.tensor(numbers, device=codes.device)[:, None]


STRATEGIES: Mapping[str, str] = {
    "extra_level": f"{__name__}:_extra_level",
    "keep": f"{__name__}:_keep",
    "next_nearest": "semid.reassignment:assign_next_nearest",
    "sinkhorn": "semid.reassignment:assign_sinkhorn",
}
"""``package.module:function`` of the strategies that ship with the package, by short name."""


def load_strategies(strategy: str) -> dict[str, Strategy]:
    """The functions that a setting such as ``--ids.collisions`` names, in turn.

    Args:
        strategy: Keys of `STRATEGIES`, or ``package.module:function``, joined by ``+``.

    Raises:
        ValueError: If there is no such strategy, with the names there are and the nearest, or one
            is named twice.
    """
    names = strategy.split("+")
    if len(set(names)) < len(names):
        raise ValueError(
            f"expected each collision strategy once, got {strategy!r}. The second finds nothing "
            "that the first has left it: leave it out."
        )
    try:
        return {name: load_function(name, STRATEGIES, what="collision strategy") for name in names}
    except ValueError as error:
        joined = "" if strategy in names else f" The whole setting was {strategy!r}."
        raise ValueError(f"{error}{joined}") from error


def resolve_collisions(
    codes: Tensor,
    sizes: tuple[int, ...],
    strategy: str,
    *,
    costs: Costs | None = None,
    taken: Tensor | None = None,
) -> Resolution:
    """Apply the strategy of that name, or several in turn: ``"sinkhorn+next_nearest"``.

    - ``keep``: equal codes stay equal.
    - ``extra_level``: a further code numbers the items of equal codes, in row order.
    - ``sinkhorn``: `semid.reassignment.assign_sinkhorn`; some collisions may be left.
    - ``next_nearest``: `semid.reassignment.assign_next_nearest`; none is left.

    Where nothing collides, none of them changes anything; where something does, no item changes
    but those that collide. What items of equal merit get depends on their row order alone.

    Args:
        codes: int64 ``(item, level)``; left as it is.
        sizes: Number of codes of each level; one more than ``codes`` has levels where ``taken``
            has an extra level.
        strategy: As in `load_strategies`.
        costs: Given rows int64 ``(row,)`` and their prefixes int64 ``(row, level)``, how far each
            next code is, finite float ``(row, code)``; a tokenizer's
            `semid.tokenizers.SemanticIdTokenizer.costs`. None where nobody knows: all codes are
            then equally far.
        taken: int64 ``(other, level)`` below ``sizes``: paths of an old catalogue, which no item
            may get.

    Raises:
        ValueError: If there is no such strategy, or not enough codes to tell all items apart.
        ContractError: If a strategy from outside returns anything but codes and their sizes.
    """
    num_levels = codes.shape[1]
    taken = codes.new_empty(0, len(sizes)) if taken is None else taken
    resolved, resolved_sizes = codes.clone(), sizes
    for name, resolve in load_strategies(strategy).items():
        result = resolve(resolved, resolved_sizes, costs, taken)
        if name not in STRATEGIES:
            require_result(name, result, resolved, resolved_sizes, taken)
        resolved, resolved_sizes = result
    if resolved.shape[1] < len(resolved_sizes):  # an extra level that no strategy has filled
        resolved = torch.cat([resolved, resolved.new_zeros(len(resolved), 1)], dim=1)
    moved = (resolved[:, :num_levels] != codes).any(dim=1)
    return Resolution(
        codes=resolved,
        sizes=resolved_sizes,
        before=collision_report(codes, taken[:, :num_levels]),
        after=collision_report(resolved, taken if len(taken) else None),
        moved=int(moved.sum()),
        numbered=int((resolved[:, num_levels:] > 0).any(dim=1).sum()),
        reconstruction_lost=_reconstruction_lost(codes, resolved[:, :num_levels], moved, costs),
    )


def require_result(
    name: str, result: Any, codes: Tensor, sizes: tuple[int, ...], taken: Tensor
) -> None:
    """Refuse what a strategy from outside returned, unless it is codes and their sizes.

    Args:
        name: Of the strategy.
        result: What it returned for ``codes``, ``sizes`` and ``taken``.
        codes: int64 ``(item, level)``.
        sizes: As in `resolve_collisions`.
        taken: int64 ``(other, level)``.

    Raises:
        ContractError: With the clause that is broken.
    """
    if flaw := _flaw(result, codes, sizes, taken):
        raise ContractError(name, *flaw, contract=CONTRACT)


def _flaw(
    result: Any, codes: Tensor, sizes: tuple[int, ...], taken: Tensor
) -> tuple[str, str] | None:
    """The first thing that is wrong with what a strategy returned; None if nothing is."""
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], tuple):
        return "result", (
            f"expected a pair of codes and sizes, got a {type(result).__name__}. Return "
            "(codes, sizes), sizes as a tuple."
        )
    found, found_sizes = result
    if len(taken) and found_sizes != sizes:
        return "sizes", (
            f"expected the sizes {sizes} of an old catalogue to stay, got {found_sizes}. Choose "
            "codes within them."
        )
    levels = codes.shape[1]
    if found_sizes[:levels] != sizes[:levels] or len(found_sizes) > max(len(sizes), levels + 1):
        return "sizes", (
            f"expected sizes {sizes} and at most one level more, got {found_sizes}. Append one "
            "level, or none."
        )
    open_level = isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] == levels
    held_sizes = found_sizes[:levels] if open_level and len(sizes) > levels else found_sizes
    return code_flaw(found, held_sizes, len(codes), codes.device)


def _reconstruction_lost(
    before: Tensor, after: Tensor, moved: Tensor, costs: Costs | None
) -> float | None:
    if not moved.any():
        return 0.0
    if costs is None:
        return None
    old = costs_of_paths(torch.arange(len(before), device=before.device), before, costs)
    rows = moved.nonzero()[:, 0]
    lost = costs_of_paths(rows, after[rows], costs) - old[rows]
    total = float(old.sum())
    return float(lost.sum()) / total if total else None
