"""The contract of collision strategies, clause by clause."""

from __future__ import annotations

import torch
from torch import Tensor

from semid.checks import ContractError
from semid.collisions import CONTRACT, require_result
from semid.reassignment import Costs, Strategy, num_holders
from semid.testing.watching import holding, random_state, set_random_state, watched

__all__ = ["check_collisions"]

_SIZES = (4, 5)
_NUM_ITEMS = 13


def check_collisions(strategy: Strategy) -> None:
    """Check a collision strategy against every clause of its contract, on small random codes.

    ======================  =====================================================================
    clause                  what holds
    ======================  =====================================================================
    ``call``                it takes codes, sizes, costs or None, and the paths that are taken
    ``result``              it returns a pair of codes and sizes
    ``sizes``               the sizes it was given, with at most one level more; where paths of an
                            old catalogue are taken, those it was given
    ``dtype``, ``shape``,   codes are int64 ``(item, level)`` of these sizes, level ``l`` in
    ``device``, ``range``   ``[0, sizes[l])``
    ``determinism``         two calls agree, in any state of the global generators
    ``global randomness``   global generators of torch, NumPy and Python stay as they are
    ``inputs untouched``    codes and taken paths are not written to
    ``others stay``         items that collide with none keep their codes
    ``taken``               no item is moved to a path that is taken
    ======================  =====================================================================

    Args:
        strategy: Called as ``strategy(codes, sizes, costs, taken)``; see
            `semid.reassignment.Strategy`. It may raise ``ValueError`` for too few codes if paths
            are taken.

    Raises:
        ContractError: At the first violated clause: its name, what was expected, what was found,
            and how to fix it.
    """
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(_NUM_ITEMS, *_SIZES, generator=generator)

    def costs(rows: Tensor, prefix: Tensor) -> Tensor:
        means = distances[rows].mean(dim=2)
        return means if prefix.shape[1] == 0 else distances[rows, prefix[:, 0]]

    codes = torch.stack([torch.randint(3, (_NUM_ITEMS,), generator=generator) for _ in _SIZES], 1)
    apart = torch.cartesian_prod(*(torch.arange(size) for size in _SIZES))[:_NUM_ITEMS]
    none = codes.new_empty(0, len(_SIZES))
    for given, how_far, taken in (
        (codes, costs, none),
        (codes, None, none),
        (apart, costs, none),
        (apart[[0, 0, 1, 2]], costs, apart[::4]),
    ):
        _check(strategy, given, how_far, taken)


def _check(strategy: Strategy, codes: Tensor, costs: Costs | None, taken: Tensor) -> None:
    name = _name_of(strategy)
    found = _resolved(strategy, codes, costs, taken)
    before = random_state()
    try:
        torch.rand(7)
        again = _resolved(strategy, codes, costs, taken)
    finally:
        set_random_state(before)
    if found is None or again is None:
        return
    if not torch.equal(found, again):
        raise ContractError(
            name,
            "determinism",
            "expected two calls to agree, got other codes. Draw from a torch.Generator with a seed "
            "of your own, if at all.",
            contract=CONTRACT,
        )
    levels = codes.shape[1]
    moved = (found[:, :levels] != codes).any(dim=1)
    alone = num_holders(codes, taken) == 1
    if (moved & alone).any():
        row = int((moved & alone).nonzero()[0])
        raise ContractError(
            name,
            "others stay",
            f"expected item row {row}, which collides with none, to keep its codes "
            f"{codes[row].tolist()}, got {found[row].tolist()}. Change only items that collide.",
            contract=CONTRACT,
        )
    held = {tuple(path) for path in taken.tolist()}
    for row in moved.nonzero()[:, 0].tolist():
        if tuple(path := found[row].tolist()) in held:
            raise ContractError(
                name,
                "taken",
                f"expected a free path for item row {row}, got {path}, which is taken. Look "
                "through the paths that are taken first.",
                contract=CONTRACT,
            )


def _resolved(
    strategy: Strategy, codes: Tensor, costs: Costs | None, taken: Tensor
) -> Tensor | None:
    """The returned codes, checked; None if it finds too few codes besides the taken ones."""
    name = _name_of(strategy)
    cure = "Write strategy(codes, sizes, costs, taken) -> (codes, sizes); costs may be None."
    with holding(name, "call", "codes and sizes", cure, contract=CONTRACT):
        try:
            result = watched(
                name,
                "a call",
                [codes, taken],
                lambda: strategy(codes, _SIZES, costs, taken),
                contract=CONTRACT,
            )
        except ContractError:
            raise
        except ValueError:
            if len(taken):
                return None
            raise
    require_result(name, result, codes, _SIZES, taken)
    return result[0]


def _name_of(strategy: Strategy) -> str:
    return getattr(strategy, "__name__", type(strategy).__name__)
