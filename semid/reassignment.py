"""Collision strategies that give some of the colliding items other codes.

Both keep the prefix if possible and change the last level, which matters least. They work with any
scheme; if it defines no distances, all codes are equidistant.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from semid.paths import group_paths
from semid.tokenizers.sinkhorn import sinkhorn

__all__ = [
    "Costs",
    "Strategy",
    "assign_next_nearest",
    "assign_sinkhorn",
    "costs_of_paths",
    "num_holders",
]

Costs: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``costs(rows, prefix)``: distances from the items of some rows to each next code."""

Strategy: TypeAlias = Callable[
    [Tensor, tuple[int, ...], Costs | None, Tensor], tuple[Tensor, tuple[int, ...]]
]
"""Maps codes, sizes, costs and taken codes to new codes and sizes.

``taken`` may have one more level than ``codes``, which is then the last of ``sizes``.
"""

ROUNDS = 20
"""Rounds of `assign_sinkhorn`, as in LETTER's released code."""

_EQUAL_SHARES = 1e-6
"""Log shares that differ by no more than this count as equal."""

_MOST_COSTS = 1 << 24
"""Maximum number of distances in memory."""


def num_holders(codes: Tensor, taken: Tensor) -> Tensor:
    """Number of items with each item's path, counting itself and those of ``taken``.

    Args:
        codes: int64 ``(item, level)``.
        taken: int64 ``(other, level)``.

    Returns:
        int64 ``(item,)``.
    """
    _, group, sizes = group_paths(torch.cat([codes, taken]))
    holders: Tensor = sizes[group[: len(codes)]]
    return holders


def costs_of_paths(rows: Tensor, codes: Tensor, costs: Costs) -> Tensor:
    """Distance from each item to a complete path.

    Args:
        rows: int64 ``(row,)``.
        codes: int64 ``(row, level)``, a path for each.
        costs: As in `semid.collisions.resolve_collisions`.

    Returns:
        float64 ``(row,)``.
    """
    parts = []
    for part in torch.split(torch.arange(len(rows), device=codes.device), 1 << 14):
        of_codes = costs(rows[part], codes[part, :-1])
        parts.append(of_codes.gather(1, codes[part, -1:]).squeeze(1).double())
    return torch.cat(parts)


def assign_next_nearest(
    codes: Tensor, sizes: tuple[int, ...], costs: Costs | None, taken: Tensor
) -> tuple[Tensor, tuple[int, ...]]:
    """Give all items but one of each group the nearest free code.

    Of the items with the same path the closest keeps it, unless it is taken. The others are
    processed per prefix, in order of distance to the code they lose, and each takes the nearest
    last-level code that is free below the prefix. If a prefix is full, the remaining items back up
    by as few levels as needed, in the same order, and descend again as in encoding: at each level
    to the nearest code with a free path below it. Ties go to the earlier row and the lower code.

    Args:
        codes: int64 ``(item, level)``.
        sizes: Number of codes of each level.
        costs: As in `semid.collisions.resolve_collisions`.
        taken: int64 ``(other, level)``, paths that are not available.

    Returns:
        The codes, all distinct and none taken, and ``sizes``.

    Raises:
        ValueError: If there are more items than paths.
    """
    num_levels = codes.shape[1]
    held = taken[:, :num_levels]
    rows = (num_holders(codes, held) > 1).nonzero()[:, 0]
    if len(rows) == 0:
        return codes, sizes
    level_sizes = sizes[:num_levels]
    num_held = len(torch.unique(held, dim=0))
    if len(codes) + num_held > math.prod(level_sizes):
        raise ValueError(
            f"expected at most {math.prod(level_sizes)} items, as many as there are paths of sizes "
            f"{level_sizes}, got {len(codes)} and {num_held} paths that are taken. Choose larger "
            "sizes, or the collision strategy extra_level."
        )
    costs = costs or _equally_far(level_sizes)
    line = _line(rows, codes, costs, held)
    codes = codes.clone()
    left_over = _choose_below_prefix(codes, line, level_sizes, costs, held)
    if left_over:
        _choose_elsewhere(codes, left_over, level_sizes, costs, held)
    return codes, sizes


def assign_sinkhorn(
    codes: Tensor, sizes: tuple[int, ...], costs: Costs | None, taken: Tensor
) -> tuple[Tensor, tuple[int, ...]]:
    """Repeatedly share the last level's codes evenly among the items of each group.

    LETTER's uniform mapping at indexing (arXiv:2405.07314, section 3.2.3, and its code): in each of
    up to 20 rounds, every item of a group with equal codes gets the code to which a transport plan
    assigns most of its mass (`semid.tokenizers.sinkhorn.sinkhorn`). Items with equal embeddings get
    equal codes, so some collisions may remain.

    There, an item that was alone at its codes moves when a reassigned one joins it. Here the codes
    of such items, and taken ones, are not available, so it stays. There, items that the plan does
    not distinguish move together; here they stay. A single item at taken codes gets the nearest
    code.

    The plan fills every code equally, so an item may have the same share of many codes up to
    rounding. There, rounding decides; here the nearest of them is chosen.

    Args:
        codes: int64 ``(item, level)``.
        sizes: Number of codes of each level.
        costs: As in `semid.collisions.resolve_collisions`.
        taken: int64 ``(other, level)``, paths that are not available.

    Returns:
        The codes and ``sizes``.
    """
    num_levels = codes.shape[1]
    held = taken[:, :num_levels]
    collides = num_holders(codes, held) > 1
    held = torch.cat([held, codes[~collides]])
    costs = costs or _equally_far(sizes[:num_levels])
    codes = codes.clone()
    movable = collides.nonzero()[:, 0]
    for _ in range(ROUNDS):
        rows = movable[num_holders(codes[movable], held) > 1]
        before = codes[rows]
        if len(rows) == 0:
            break
        _share_evenly(codes, rows, sizes[num_levels - 1], costs, held)
        if codes[rows].equal(before):
            break
    return codes, sizes


def _share_evenly(codes: Tensor, rows: Tensor, size: int, costs: Costs, held: Tensor) -> None:
    """One round: new last-level codes for the items of each group."""
    _, group_of_row = torch.unique(codes[rows], dim=0, return_inverse=True)
    order = torch.argsort(group_of_row, stable=True)
    groups = torch.split(rows[order], torch.bincount(group_of_row).tolist())
    held_below = _held_below(held, codes[rows, :-1])
    for batch in _batches(groups, size):
        together = torch.cat(batch)
        lengths = [len(group) for group in batch]
        for group, distances in zip(
            batch, torch.split(costs(together, codes[together, :-1]), lengths), strict=True
        ):
            free = torch.ones(size, dtype=torch.bool, device=codes.device)
            free[list(held_below.get(tuple(codes[group[0], :-1].tolist()), ()))] = False
            choices = free.nonzero()[:, 0]
            if len(choices) == 0:
                continue
            among = distances[:, choices]
            if len(group) > 1:
                shares = sinkhorn(among)
                largest = shares >= shares.amax(dim=1, keepdim=True) - _EQUAL_SHARES
                among = among.masked_fill(~largest, torch.inf)
            shared = choices[torch.from_numpy(among.cpu().numpy().argmin(axis=1)).to(codes.device)]
            if len(group) == 1 or bool((shared != shared[0]).any()):
                codes[group, -1] = shared


def _line(rows: Tensor, codes: Tensor, costs: Costs, held: Tensor) -> list[int]:
    """Items that must leave their codes, closest first, then by row."""
    own = costs_of_paths(rows, codes[rows], costs).cpu().numpy()
    closest_first = rows.cpu().numpy()[np.lexsort((rows.cpu().numpy(), own))].tolist()
    keeps = set(map(tuple, held.tolist()))
    line = []
    for row, path in zip(closest_first, codes[closest_first].tolist(), strict=True):
        if tuple(path) in keeps:
            line.append(row)
        keeps.add(tuple(path))
    return line


def _choose_below_prefix(
    codes: Tensor, line: Sequence[int], sizes: tuple[int, ...], costs: Costs, held: Tensor
) -> list[int]:
    """Assign new last-level codes below the same prefixes; returns rows for which none was free."""
    waiting: dict[tuple[int, ...], list[int]] = {}
    for row, prefix in zip(line, codes[line, :-1].tolist(), strict=True):
        waiting.setdefault(tuple(prefix), []).append(row)
    held_below = _held_below(torch.cat([codes, held]), codes[line, :-1])
    served, left_over = [], set()
    for prefix, rows in waiting.items():
        room = sizes[-1] - len(held_below[prefix])
        left_over.update(rows[room:])
        if room:
            served.append(torch.tensor(rows[:room], device=codes.device))
    for batch in _batches(served, sizes[-1]):
        together = torch.cat(batch)
        distances = costs(together, codes[together, :-1]).cpu().numpy()
        for row, prefix, to_code in zip(
            together.tolist(), codes[together, :-1].tolist(), distances, strict=True
        ):
            taken_here = held_below[tuple(prefix)]
            free = np.setdiff1d(np.arange(sizes[-1]), list(taken_here), assume_unique=True)
            code = int(free[to_code[free].argmin()])
            codes[row, -1] = code
            taken_here.add(code)
    return [row for row in line if row in left_over]


def _choose_elsewhere(
    codes: Tensor, rows: Sequence[int], sizes: tuple[int, ...], costs: Costs, held: Tensor
) -> None:
    """Assign new paths to items whose prefixes are full."""
    stays = torch.ones(len(codes), dtype=torch.bool, device=codes.device)
    stays[list(rows)] = False
    num_levels = len(sizes)
    paths = set(map(tuple, torch.cat([codes[stays], held]).tolist()))
    num_held = Counter(path[:length] for path in paths for length in range(num_levels + 1))

    def is_full(prefix: tuple[int, ...]) -> bool:
        return num_held[prefix] >= math.prod(sizes[len(prefix) :])

    for row in rows:
        path = tuple(codes[row, :-1].tolist())
        while is_full(path):
            path = path[:-1]
        for size in sizes[len(path) :]:
            prefix = torch.tensor([path], dtype=torch.int64, device=codes.device)
            to_code = costs(torch.tensor([row], device=codes.device), prefix)[0].cpu().numpy()
            free = [code for code in range(size) if not is_full((*path, code))]
            path = (*path, free[int(to_code[free].argmin())])
        codes[row] = torch.tensor(path, device=codes.device)
        num_held.update(path[:length] for length in range(num_levels + 1))


def _held_below(held: Tensor, prefixes: Tensor) -> dict[tuple[int, ...], set[int]]:
    """Last-level codes held below each of some prefixes."""
    if prefixes.shape[1]:  # skip the many paths below other prefixes before looping
        _, which = torch.unique(torch.cat([prefixes, held[:, :-1]]), dim=0, return_inverse=True)
        held = held[torch.isin(which[len(prefixes) :], which[: len(prefixes)])]
    below: dict[tuple[int, ...], set[int]] = {}
    for *prefix, code in held.tolist():
        below.setdefault(tuple(prefix), set()).add(code)
    return below


def _batches(groups: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Batches of groups whose distances to ``size`` codes fit into memory."""
    batches: list[list[Tensor]] = []
    filled = 0
    for group in groups:
        if not batches or (filled + len(group)) * size > _MOST_COSTS:
            batches.append([])
            filled = 0
        batches[-1].append(group)
        filled += len(group)
    return batches


def _equally_far(sizes: tuple[int, ...]) -> Costs:
    def costs(rows: Tensor, prefix: Tensor) -> Tensor:
        return torch.zeros(len(rows), sizes[prefix.shape[1]], device=rows.device)

    return costs
