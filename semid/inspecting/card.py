"""The ID card: all figures of semantic IDs, beside those of random IDs of the same shape."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from semid.collisions import collision_report
from semid.embed import CUT_TEXTS
from semid.inspecting.advice import checks
from semid.inspecting.evidence import Evidence
from semid.inspecting.groups import balance_by_level, purity_by_level, support_by_level
from semid.inspecting.levels import level_figures, search_cost
from semid.inspecting.neighbours import agreement
from semid.inspecting.reconstruction import reconstruction_error
from semid.provenance import require_same

if TYPE_CHECKING:
    from semid.embed import Embeddings
    from semid.ids import SemanticIds

__all__ = ["CONTROL_SEED", "figures", "id_card", "random_codes"]

CONTROL_SEED = 0
"""Seed of the random IDs."""


def id_card(
    ids: SemanticIds, evidence: Evidence, *, name: str, embeddings: Embeddings | None = None
) -> dict[str, Any]:
    """All figures of semantic IDs, of random ones of the same shape, and what they advise.

    Args:
        ids: The IDs.
        evidence: What is known of their items.
        name: Name of the IDs.
        embeddings: Vectors of the items. Those that the IDs were made from are reconstructed from
            the codes, if the IDs have their tokenizer.

    Returns:
        JSON values: ``name``, ``scheme``, ``sizes``; what `figures` returns, and under ``control``
        the same for uniformly random codes with these sizes; ``before``, the collisions before they
        were resolved, as in `semid.collisions.CollisionReport`, None if not known;
        ``extra_level``, whether the last level only numbers items of equal codes;
        ``reconstruction``, see `semid.inspecting.reconstruction`, None if not known;
        ``cut_texts``, the number of items whose text the encoder truncated, if known; and
        ``checks``, see `semid.inspecting.advice`.
    """
    made = ids.provenance.config
    record = made.get("collisions")
    counted = ("items", "distinct", "colliding_items", "largest_group")
    card = {
        "name": name,
        "scheme": ids.scheme,
        "sizes": list(ids.sizes),
        "before": None if record is None else {name: record[name] for name in counted},
        "extra_level": record is not None and record["numbered"] > 0,
        **({CUT_TEXTS: made[CUT_TEXTS]} if CUT_TEXTS in made else {}),
        **figures(ids.codes, ids.sizes, evidence),
        "reconstruction": _reconstruction(ids, embeddings),
        "control": figures(random_codes(len(ids), ids.sizes), ids.sizes, evidence),
    }
    return {**card, "checks": [asdict(check) for check in checks(card)]}


def figures(codes: Tensor, sizes: tuple[int, ...], evidence: Evidence) -> dict[str, Any]:
    """The figures of codes.

    Args:
        codes: int64 ``(item, level)``, level ``l`` in ``[0, sizes[l])``.
        sizes: Number of codes of each level.
        evidence: What is known of their items.

    Returns:
        JSON values: ``items``, ``distinct``, ``colliding_items`` and ``largest_group`` as in
        `semid.collisions.CollisionReport`; ``levels`` and ``search_cost``, see
        `semid.inspecting.levels`. With evidence also

        - ``neighbours``: by space, see `semid.inspecting.neighbours.agreement`;
        - ``categories``: ``items`` that have one, and ``purity`` of each level;
        - ``popularity``: number of ``events``, and their ``balance`` at each level;
        - ``cold``: ``items`` without any event, and their ``support`` at each level; only if there
          are cold and warm items. For all three see `semid.inspecting.groups`.
    """
    card: dict[str, Any] = {
        **asdict(collision_report(codes)),
        "levels": level_figures(codes, sizes),
        "search_cost": search_cost(codes),
    }
    if evidence.spaces:
        card["neighbours"] = {
            name: agreement(codes, neighbours) for name, neighbours in evidence.spaces.items()
        }
    if evidence.labels is not None:
        items, labels = evidence.labels
        purity = purity_by_level(codes, items, labels)
        card["categories"] = {"items": len(torch.unique(items)), "purity": purity}
    if evidence.events is not None and evidence.events.any():
        balance = balance_by_level(codes, evidence.events)
        card["popularity"] = {"events": int(evidence.events.sum()), "balance": balance}
        cold, warm = (evidence.events == 0).nonzero()[:, 0], evidence.events.nonzero()[:, 0]
        if len(cold):
            card["cold"] = {"items": len(cold), "support": support_by_level(codes, cold, warm)}
    return card


def random_codes(num_items: int, sizes: tuple[int, ...]) -> Tensor:
    """Uniformly random codes, int64 ``(item, level)``, the same for the same arguments."""
    generator = torch.Generator().manual_seed(CONTROL_SEED)
    return torch.stack(
        [torch.randint(size, (num_items,), generator=generator) for size in sizes], dim=1
    )


def _reconstruction(ids: SemanticIds, embeddings: Embeddings | None) -> float | None:
    made_from = ids.provenance.inputs.get("embeddings")
    if embeddings is None or ids.tokenizer is None or embeddings.provenance.content != made_from:
        return None
    require_same(
        "item order of the embeddings",
        ids.provenance.items,
        embeddings.items,
        what_to_do="Bring them into the order of the ids' catalogue.",
    )
    return reconstruction_error(ids.codes, ids.tokenizer, torch.from_numpy(embeddings.vectors))
