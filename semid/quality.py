"""The ID quality card: how well a set of semantic ids uses its codes, and how it branches."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from semid.collisions import collision_report
from semid.ids import SemanticIds

__all__ = ["id_quality"]


def id_quality(ids: SemanticIds) -> dict[str, Any]:
    """Collisions, and the use and branching of each level.

    None of this says how well a recommender will do: use of codes was seen to predict nothing. It
    finds collapse, and shows what the trie will look like.

    Returns:
        JSON values. ``items``, ``distinct``, ``colliding_items`` and ``largest_group`` as in
        `semid.collisions.CollisionReport`, and ``levels``, for each level a dict:

        - ``size``: its codes; ``used``: those that some item has; ``utilisation``: their ratio;
        - ``perplexity``: ``exp`` of the entropy of its codes over items, in ``[1, used]``;
        - ``prefixes``: distinct paths down to and including this level;
        - ``max_children``: most distinct codes of this level below one prefix.
    """
    return {
        **asdict(collision_report(ids.codes)),
        "levels": [_level(ids.codes, level, size) for level, size in enumerate(ids.sizes)],
    }


def _level(codes: Tensor, level: int, size: int) -> dict[str, Any]:
    counts = torch.bincount(codes[:, level], minlength=size)
    share = counts.double() / len(codes)
    used = int((counts > 0).sum())
    prefixes = torch.unique(codes[:, : level + 1], dim=0)
    parents = prefixes[:, :level]
    children = (
        torch.unique(parents, dim=0, return_counts=True)[1] if level else counts.new_tensor([used])
    )
    return {
        "size": size,
        "used": used,
        "utilisation": used / size,
        "perplexity": float(torch.special.entr(share).sum().exp()),
        "prefixes": len(prefixes),
        "max_children": int(children.max()),
    }
