"""Whether items that are near each other in some space share the beginnings of their paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semid.paths import group_paths

__all__ = ["NEIGHBOURS", "Neighbours", "agreement", "items_to_compare", "nearest_by_cosine"]

NEIGHBOURS = 10
"""Nearest items that an item is compared with."""

MOST_COMPARED, SAMPLED = 100_000, 2_000
"""Catalogues larger than the first are judged by a sample of the second size."""

_BLOCK = 1024
"""Rows compared with the catalogue at once, to bound memory."""

_MOST_SIMILARITIES = 1 << 26
_SEED = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Neighbours:
    """Items and their nearest others in one space.

    Attributes:
        items: int64 ``(pair,)``, catalogue rows.
        others: int64 ``(pair,)``, a neighbour of each, never the item itself.
        k: Most neighbours of one item.
        sampled: Whether the items are a sample.
    """

    items: Tensor
    others: Tensor
    k: int
    sampled: bool = False


def items_to_compare(num_items: int) -> Tensor:
    """Rows of the items whose neighbours are looked up, int64, ascending.

    All of them, or a seeded sample of 2,000 if there are more than 100,000.
    """
    if num_items <= MOST_COMPARED:
        return torch.arange(num_items)
    drawn = torch.randperm(num_items, generator=torch.Generator().manual_seed(_SEED))
    return drawn[:SAMPLED].sort().values


def nearest_by_cosine(vectors: Tensor) -> Neighbours:
    """The 10 nearest others by exact cosine of each of `items_to_compare`.

    Zero vectors are not compared, but may be neighbours of last resort.

    Args:
        vectors: Finite float ``(item, dim)``.

    Raises:
        ValueError: If fewer than two items have a nonzero vector.
    """
    num_items = len(vectors)
    has_vector = vectors.any(dim=1)
    if num_items < 2 or int(has_vector.sum()) < 2:
        raise ValueError(
            f"expected at least two items with a vector, to be neighbours, got "
            f"{int(has_vector.sum())} of {num_items}. Leave the vectors out."
        )
    compared = items_to_compare(num_items)
    asked = compared[has_vector[compared]]
    unit, k = F.normalize(vectors, dim=1), min(NEIGHBOURS, num_items - 1)
    nearest = []
    for rows in torch.split(asked, min(_BLOCK, max(1, _MOST_SIMILARITIES // num_items))):
        similarity = unit[rows] @ unit.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf
        nearest.append(similarity.topk(k, dim=1).indices)
    return Neighbours(
        items=asked.repeat_interleave(k),
        others=torch.cat(nearest).flatten(),
        k=k,
        sampled=len(compared) < num_items,
    )


def agreement(codes: Tensor, neighbours: Neighbours) -> dict[str, Any]:
    """How often neighbours have equal codes, next to how often random other items do.

    Args:
        codes: int64 ``(item, level)``, at least two items.
        neighbours: Pairs of their rows.

    Returns:
        JSON values:

        - ``k``: most neighbours of an item; ``items``: number of items compared;
        - ``share``: for each level, share of the neighbours that have the item's codes down to and
          including it; ``random``: the same for all other items in place of neighbours;
        - ``auc``: probability that a neighbour shares a longer prefix with the item than a random
          other item does, ties counted half; 0.5 for codes unrelated to the space;
        - ``sampled``: true, if the items compared are a sample; else absent.
    """
    same = (codes[neighbours.items] == codes[neighbours.others]).long().cumprod(dim=1)
    depth, reached = same.sum(dim=1), _reached_by_chance(codes)
    longer_or_equal = reached[neighbours.items, depth] + reached[neighbours.items, depth + 1]
    asked = torch.unique(neighbours.items)
    return {
        "k": neighbours.k,
        "items": len(asked),
        "share": same.double().mean(dim=0).tolist(),
        "random": reached[asked, 1:-1].mean(dim=0).tolist(),
        "auc": float((1 - longer_or_equal / 2).mean()),
        **({"sampled": True} if neighbours.sampled else {}),
    }


def _reached_by_chance(codes: Tensor) -> Tensor:
    """Share of the other items with the same first ``depth`` codes as an item.

    float64 ``(item, level + 2)``, by depth: 1 at depth 0, and 0 below the last level.
    """
    num_items, num_levels = codes.shape
    reached = torch.zeros(num_items, num_levels + 2, dtype=torch.float64)
    reached[:, 0] = 1
    for depth in range(1, num_levels + 1):
        _, prefix, counts = group_paths(codes[:, :depth])
        reached[:, depth] = (counts[prefix] - 1) / (num_items - 1)
    return reached
