"""Collisions: items with equal codes, and strategies to resolve them.

A strategy is a function of the codes, the scheme's distances, and the codes already taken by an old
catalogue; `STRATEGIES` lists the built-in ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, filterfalse
from typing import Any

import torch
from torch import Tensor

from semid.paths import count_paths, group_paths
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
"""Name of the contract in a `ContractError` of an external strategy."""


@dataclass(frozen=True, kw_only=True)
class CollisionReport:
    """Number of items that share their codes with others.

    Attributes:
        items: Number of items.
        distinct: Number of distinct code paths.
        colliding_items: Items that share their path with another.
        largest_group: Largest number of items with the same path; 1 if there are no collisions.
    """

    items: int
    distinct: int
    colliding_items: int
    largest_group: int


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Codes after a strategy, the collisions before and after it, and its cost.

    Attributes:
        codes: int64 ``(item, level)``; a new tensor.
        sizes: Number of codes of each level.
        before: Collisions before the strategy, taken paths included.
        after: Collisions after it.
        moved: Number of items whose path differs from the scheme's.
        numbered: Number of items with a nonzero code in an extra level.
        reconstruction_lost: Relative increase of the mean squared reconstruction error; 0 if no
            item moved, None if the scheme defines no distances.
    """

    codes: Tensor
    sizes: tuple[int, ...]
    before: CollisionReport
    after: CollisionReport
    moved: int
    numbered: int
    reconstruction_lost: float | None


def collision_report(codes: Tensor, taken: Tensor | None = None) -> CollisionReport:
    """Count collisions.

    Args:
        codes: int64 ``(item, level)`` with at least one item.
        taken: int64 ``(other, level)``, codes of other items with which these may collide too; only
            the items of ``codes`` are counted.
    """
    counts = count_paths(codes)
    if taken is None or not len(taken):
        colliding, largest = counts[counts > 1].sum(), counts.max()
    else:
        holders = num_holders(codes, taken)
        colliding, largest = (holders > 1).sum(), holders.max()
    return CollisionReport(
        items=len(codes),
        distinct=len(counts),
        colliding_items=int(colliding),
        largest_group=int(largest),
    )


def _keep(
    codes: Tensor, sizes: tuple[int, ...], costs: Costs | None, taken: Tensor
) -> tuple[Tensor, tuple[int, ...]]:
    """Leave equal codes equal: such items share a leaf and its score."""
    return codes, sizes


def _extra_level(
    codes: Tensor, sizes: tuple[int, ...], costs: Costs | None, taken: Tensor
) -> tuple[Tensor, tuple[int, ...]]:
    """Append a level that numbers the items of each collision group in row order, from 0.

    The fourth token of TIGER (arXiv:2305.05065, section 3.1): 0 for an item without collisions. Its
    size is that of the largest group. Without any collisions no level is appended, since it would
    be constant. If an old catalogue has such a level, items take its lowest free numbers.
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
    _, group_of_item, group_sizes = group_paths(codes)
    rows = torch.argsort(group_of_item, stable=True)
    first_of_group = group_sizes.cumsum(0) - group_sizes
    rank = torch.empty_like(group_of_item)
    rank[rows] = torch.arange(len(codes), device=codes.device) - first_of_group[group_of_item[rows]]
    return torch.cat([codes, rank[:, None]], dim=1), (*sizes, report.largest_group)


def _free_numbers(codes: Tensor, sizes: tuple[int, ...], taken: Tensor) -> Tensor:
    """The lowest free number at each item's codes; int64 ``(item, 1)``."""
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
                f"row {row}, got none at codes {tuple(path)}. Take --ids.collisions "
                "next_nearest, or rebuild the ids of the whole catalogue."
            )
        here.add(numbers[-1])
    return torch.tensor(numbers, device=codes.device)[:, None]


STRATEGIES: Mapping[str, str] = {
    "extra_level": f"{__name__}:_extra_level",
    "keep": f"{__name__}:_keep",
    "next_nearest": "semid.reassignment:assign_next_nearest",
    "sinkhorn": "semid.reassignment:assign_sinkhorn",
}
"""``package.module:function`` of the built-in strategies, by short name."""


def load_strategies(strategy: str) -> dict[str, Strategy]:
    """Load the functions named by a setting such as ``--ids.collisions``, in order.

    Args:
        strategy: Keys of `STRATEGIES`, or ``package.module:function``, joined by ``+``.

    Raises:
        ValueError: If a strategy is unknown (the error lists the names and the most similar) or
            named twice.
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
    """Apply one or more strategies in order, such as ``"sinkhorn+next_nearest"``.

    - ``keep``: equal codes stay equal.
    - ``extra_level``: a further code numbers the items of equal codes, in row order.
    - ``sinkhorn``: `semid.reassignment.assign_sinkhorn`; some collisions may be left.
    - ``next_nearest``: `semid.reassignment.assign_next_nearest`; none is left.

    Only colliding items change. Ties between items are broken by row order alone.

    Args:
        codes: int64 ``(item, level)``; not modified.
        sizes: Number of codes of each level; one more than the levels of ``codes`` if ``taken`` has
            an extra level.
        strategy: As in `load_strategies`.
        costs: Maps rows int64 ``(row,)`` and their prefixes int64 ``(row, level)`` to the distance
            of each next code, finite float ``(row, code)``, as a tokenizer's
            `semid.tokenizers.SemanticIdTokenizer.costs`. None if unknown: all codes are then
            equidistant.
        taken: int64 ``(other, level)`` below ``sizes``: paths of an old catalogue, not available.

    Raises:
        ValueError: If a strategy is unknown, or there are not enough codes to tell all items apart.
        ContractError: If an external strategy returns anything but codes and their sizes.
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
    """Check that an external strategy returned codes and their sizes.

    Args:
        name: Name of the strategy.
        result: Its return value for ``codes``, ``sizes`` and ``taken``.
        codes: int64 ``(item, level)``.
        sizes: As in `resolve_collisions`.
        taken: int64 ``(other, level)``.

    Raises:
        ContractError: Names the violated clause.
    """
    if flaw := _flaw(result, codes, sizes, taken):
        raise ContractError(name, *flaw, contract=CONTRACT)


def _flaw(
    result: Any, codes: Tensor, sizes: tuple[int, ...], taken: Tensor
) -> tuple[str, str] | None:
    """The first flaw in the return value of a strategy; None if there is none."""
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
