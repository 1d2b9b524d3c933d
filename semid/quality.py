"""The quality of semantic IDs: use of codes, branching, and whether neighbours share codes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from semid.embed import CUT_TEXTS
from semid.ids import SemanticIds
from semid.inspecting.card import figures
from semid.inspecting.evidence import Evidence
from semid.inspecting.neighbours import nearest_by_cosine
from semid.provenance import require_same

if TYPE_CHECKING:
    from semid.embed import Embeddings

__all__ = ["id_quality"]


def id_quality(
    ids: SemanticIds,
    *,
    embeddings: Embeddings | None = None,
    cf_embeddings: Embeddings | None = None,
) -> dict[str, Any]:
    """Collisions, use and branching of each level, and agreement with neighbours.

    It finds collapse; it does not predict how well a recommender will do.
    `semid.inspecting.id_card` adds random IDs to compare with, and thresholds.

    Args:
        ids: The codes.
        embeddings: Vectors of the same items in the same order, such as the encoded ones.
        cf_embeddings: Collaborative vectors of the same items in the same order.

    Returns:
        JSON values, as `semid.inspecting.card.figures` returns them for what is given here; and
        ``cut_texts``, the number of items whose text the encoder truncated, if known.

    Raises:
        ProvenanceError: If vectors belong to other items or are in another order.
        ValueError: If vectors are given but fewer than two items have a nonzero one.
    """
    spaces = {"embeddings": embeddings, "cf_embeddings": cf_embeddings}
    given = {name: vectors for name, vectors in spaces.items() if vectors is not None}
    for name, vectors in given.items():
        require_same(
            f"item order of the {name}",
            ids.provenance.items,
            vectors.items,
            what_to_do="Bring them into the order of the ids' catalogue.",
        )
    neighbours = {
        name: nearest_by_cosine(torch.from_numpy(vectors.vectors))
        for name, vectors in given.items()
    }
    card = figures(ids.codes, ids.sizes, Evidence(spaces=neighbours))
    made = ids.provenance.config
    return {**card, **({CUT_TEXTS: made[CUT_TEXTS]} if CUT_TEXTS in made else {})}
