"""The ID quality card: code utilisation, branching, and whether neighbours share codes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from semid.collisions import collision_report
from semid.embed import CUT_TEXTS
from semid.ids import SemanticIds
from semid.paths import group_paths
from semid.provenance import require_same

if TYPE_CHECKING:
    from semid.embed import Embeddings

__all__ = ["id_quality"]

_NEIGHBOURS = 10
_BLOCK = 1024
"""Rows compared with the catalogue at once, to bound memory."""


def id_quality(
    ids: SemanticIds,
    *,
    embeddings: Embeddings | None = None,
    cf_embeddings: Embeddings | None = None,
) -> dict[str, Any]:
    """Collisions, utilisation and branching of each level, and agreement with neighbours.

    It finds collapse; it does not predict how well a recommender will do.

    Args:
        ids: The codes.
        embeddings: Vectors of the same items in the same order, such as the encoded ones.
        cf_embeddings: Collaborative vectors of the same items in the same order.

    Returns:
        JSON values. ``items``, ``distinct``, ``colliding_items`` and ``largest_group`` as in
        `semid.collisions.CollisionReport`, and ``levels``, for each level a dict:

        - ``size``: number of codes; ``used``: those with an item; ``utilisation``: their ratio;
        - ``perplexity``: ``exp`` of the entropy of its codes over items, in ``[1, used]``;
        - ``prefixes``: distinct paths down to and including this level;
        - ``max_children``: most distinct codes of this level below one prefix.

        ``cut_texts``: items whose text the encoder truncated, if known.

        If vectors are given, also ``neighbours``: under ``embeddings`` and ``cf_embeddings`` a dict
        comparing each item with its 10 nearest others by exact cosine, excluding zero vectors.

        - ``k``: neighbours per item; ``items``: number of items compared;
        - ``share``: for each level, share of the neighbours that have the item's codes down to and
          including it; ``random``: the same for all other items in place of neighbours;
        - ``auc``: probability that a neighbour shares a longer prefix with the item than a random
          other item does, ties counted half; 0.5 for codes unrelated to the space.

    Raises:
        ProvenanceError: If vectors belong to other items or are in another order.
        ValueError: If vectors are given but fewer than two items have a nonzero one.
    """
    card = {
        **asdict(collision_report(ids.codes)),
        "levels": [_level(ids.codes, level, size) for level, size in enumerate(ids.sizes)],
    }
    if CUT_TEXTS in ids.provenance.config:
        card[CUT_TEXTS] = ids.provenance.config[CUT_TEXTS]
    spaces = {"embeddings": embeddings, "cf_embeddings": cf_embeddings}
    given = {name: vectors for name, vectors in spaces.items() if vectors is not None}
    for name, vectors in given.items():
        require_same(
            f"item order of the {name}",
            ids.provenance.items,
            vectors.items,
            what_to_do="Bring them into the order of the ids' catalogue.",
        )
    if given:
        card["neighbours"] = {
            name: _neighbours(ids.codes, torch.from_numpy(vectors.vectors))
            for name, vectors in given.items()
        }
    return card


def _level(codes: Tensor, level: int, size: int) -> dict[str, Any]:
    counts = torch.unique(codes[:, level], return_counts=True)[1]
    share = counts.double() / len(codes)
    used = len(counts)
    prefixes, _, _ = group_paths(codes[:, : level + 1])
    children = group_paths(prefixes[:, :level])[2] if level else counts.new_tensor([used])
    return {
        "size": size,
        "used": used,
        "utilisation": used / size,
        "perplexity": float(torch.special.entr(share).sum().exp()),
        "prefixes": len(prefixes),
        "max_children": int(children.max()),
    }


def _neighbours(codes: Tensor, vectors: Tensor) -> dict[str, Any]:
    num_items, num_levels = codes.shape
    unit = F.normalize(vectors, dim=1)
    asked = vectors.any(dim=1).nonzero()[:, 0]
    if num_items < 2 or len(asked) < 2:
        raise ValueError(
            f"expected at least two items with a vector, to be neighbours, got {len(asked)} of "
            f"{num_items}. Leave the vectors out."
        )
    k = min(_NEIGHBOURS, num_items - 1)
    reached = _reached_by_chance(codes)
    share = torch.zeros(num_levels, dtype=torch.float64)
    won = 0.0
    for rows in torch.split(asked, _BLOCK):
        similarity = unit[rows] @ unit.T
        similarity[torch.arange(len(rows)), rows] = -torch.inf
        nearest = similarity.topk(k, dim=1).indices
        same = (codes[rows, None] == codes[nearest]).long().cumprod(dim=-1)  # item, k, level
        share += same.sum(dim=(0, 1))
        depth = same.sum(dim=-1)
        won += float(
            (1 - (reached[rows].gather(1, depth) + reached[rows].gather(1, depth + 1)) / 2).sum()
        )
    return {
        "k": k,
        "items": len(asked),
        "share": (share / (len(asked) * k)).tolist(),
        "random": reached[asked, 1:-1].mean(dim=0).tolist(),
        "auc": won / (len(asked) * k),
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
