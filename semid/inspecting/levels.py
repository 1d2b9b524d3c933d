"""Figures of codes alone: how each level is used, and how the paths branch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from semid.paths import group_paths

__all__ = ["gini", "items_by_rank", "level_figures", "search_cost"]


def level_figures(codes: Tensor, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Use and branching of each level.

    Args:
        codes: int64 ``(item, level)``, level ``l`` in ``[0, sizes[l])``.
        sizes: Number of codes of each level.

    Returns:
        For each level a dict of JSON values:

        - ``size``: number of codes; ``used``: those with an item; ``utilisation``: their ratio;
        - ``perplexity``: ``exp`` of the entropy of its codes over items, in ``[1, used]``;
        - ``gini``: inequality of the number of items per code, unused codes included; 0 if all
          have equally many, towards 1 if one code has them all;
        - ``prefixes``: distinct paths down to and including this level;
        - ``mean_children``, ``max_children``: mean and most distinct codes of this level below
          one prefix;
        - ``forced``: share of the items whose prefix leaves a single code at this level, so that
          a generator has nothing to choose and a masked loss nothing to learn.
    """
    figures = []
    for level, size in enumerate(sizes):
        counts = torch.unique(codes[:, level], return_counts=True)[1]
        share, used = counts.double() / len(codes), len(counts)
        children, children_of_item = _children(codes, level)
        figures.append(
            {
                "size": size,
                "used": used,
                "utilisation": used / size,
                "perplexity": float(torch.special.entr(share).sum().exp()),
                "gini": gini(counts, size),
                "prefixes": int(children.sum()),
                "mean_children": float(children.double().mean()),
                "max_children": int(children.max()),
                "forced": float((children_of_item == 1).double().mean()),
            }
        )
    return figures


def search_cost(codes: Tensor) -> float:
    """Mean over items of the number of tokens to compare on the way to the item.

    These are the children of each prefix of its path, added up: what greedy decoding inside the
    trie chooses from. A flat list of ``n`` items costs ``n``.

    Args:
        codes: int64 ``(item, level)``.
    """
    levels = range(codes.shape[1])
    return float(sum(_children(codes, level)[1].double().mean() for level in levels))


def items_by_rank(codes: Tensor, size: int) -> Tensor:
    """Number of items with each code of a level, most used code first, int64 ``(size,)``.

    Args:
        codes: int64 ``(item,)``, those of one level, in ``[0, size)``.
        size: Number of codes of the level.
    """
    return torch.bincount(codes, minlength=size).sort(descending=True).values


def gini(counts: Tensor, size: int) -> float:
    """Gini coefficient of ``size`` amounts: ``counts`` and zeros.

    ``G = sum_i sum_j |x_i - x_j| / (2 n sum_i x_i)``.

    Args:
        counts: Positive ``(amount,)``, at most ``size`` of them.
        size: Number of amounts, zeros included.
    """
    amounts = counts.double().sort().values
    rank = torch.arange(size - len(amounts) + 1, size + 1, dtype=torch.float64)
    return float(2 * (rank * amounts).sum() / (size * amounts.sum()) - (size + 1) / size)


def _children(codes: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Number of distinct codes at ``level`` below each prefix, and below that of each item.

    int64 ``(prefix,)`` and ``(item,)``; the only prefix at level 0 is the empty one.
    """
    paths, _, _ = group_paths(codes[:, : level + 1])
    if level == 0:
        children = torch.tensor([len(paths)])
        return children, children.expand(len(codes))
    _, _, children = group_paths(paths[:, :level])
    _, prefix, _ = group_paths(codes[:, :level])
    return children, children[prefix]
