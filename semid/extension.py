"""New items: a frozen tokenizer encodes them beside ids that stay as they are."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from semid.collisions import Costs, resolve_collisions
from semid.ids import TOKENIZER_FOLDER, SemanticIds, resolution_record
from semid.provenance import Provenance, require_same
from semid.tokenizers.base import SemanticIdTokenizer

if TYPE_CHECKING:
    from semid.catalog import Catalog
    from semid.embed import Embeddings

__all__ = ["costs_of", "extend_semantic_ids", "load_tokenizer"]

logger = logging.getLogger(__name__)

_LEAST_AGREEMENT = 0.9


def costs_of(tokenizer: SemanticIdTokenizer, embeddings: Tensor) -> Costs:
    """How far items are from codes, for `semid.collisions.resolve_collisions`.

    Args:
        tokenizer: A fitted one.
        embeddings: Float ``(item, dim)``, a row for each item whose codes collide.
    """

    def costs(rows: Tensor, prefix: Tensor) -> Tensor:
        return tokenizer.costs(embeddings[rows], prefix)

    return costs


def extend_semantic_ids(
    ids: SemanticIds,
    tokenizer: SemanticIdTokenizer,
    embeddings: Embeddings,
    catalog: Catalog,
    *,
    collisions: str = "next_nearest",
) -> SemanticIds:
    """Give the items of a catalogue that have no id yet one, beside the ids there are.

    No item's codes and no level's size change; also items that the catalogue no longer holds keep
    theirs. The new items follow the old ones in row order, as `semid.add_items` wants them.

    Args:
        ids: Made by ``tokenizer``, or extended already.
        tokenizer: As it was fitted then; `load_tokenizer` reads it.
        embeddings: Of the catalogue's items, from the encoder of the time: a fitted one, or one
            that always gives a text the same vector. Old items of the catalogue that now encode
            otherwise are reported in the log.
        catalog: Old and new items, or new ones alone.
        collisions: Keys of `semid.collisions.STRATEGIES`, joined by ``+``; applied to the new
            items, with the codes of the old ones taken. ``extra_level`` takes free numbers of the
            level that the ids have.

    Returns:
        The old ids and the new ones; ``ids`` itself if no item is new.

    Raises:
        ProvenanceError: If the tokenizer did not make the ids, or the embeddings are of another
            catalogue or order.
        ValueError: If item ids are text here and numbers there, or the strategy finds no free code
            for a new item.
    """
    require_same(
        "the tokenizer of the semantic ids",
        ids.provenance.inputs.get("tokenizer"),
        tokenizer.provenance.content,
        what_to_do="Load the one that was saved beside them.",
    )
    require_same(
        "item order of the embeddings",
        catalog.order_hash,
        embeddings.items,
        what_to_do="Embed this catalogue, or load its own embeddings.",
    )
    if type(ids.item_ids[0]) is not type(catalog.item_ids[0]):
        raise ValueError(
            f"expected item ids of one kind, got {ids.item_ids[0]!r} in the semantic ids and "
            f"{catalog.item_ids[0]!r} in the catalogue. Convert the catalogue's."
        )
    vectors = torch.from_numpy(embeddings.vectors)
    codes = tokenizer.encode(vectors)
    row_of_old = {item: row for row, item in enumerate(ids.item_ids)}
    old_rows = [row_of_old.get(item, -1) for item in catalog.item_ids]
    is_new = torch.tensor(old_rows) < 0
    if not is_new.all():
        held = ids.codes[[row for row in old_rows if row >= 0], 0]
        _warn_unless_same(held, codes[~is_new, 0])
    if not is_new.any():
        return ids
    resolution = resolve_collisions(
        codes[is_new],
        ids.sizes,
        collisions,
        costs=costs_of(tokenizer, vectors[is_new]),
        taken=ids.codes,
    )
    new_items = [catalog.item_ids[row] for row in is_new.nonzero()[:, 0].tolist()]
    earlier = ids.provenance.config.get("extended", [])
    return SemanticIds.of(
        [*ids.item_ids, *new_items],
        torch.cat([ids.codes, resolution.codes]),
        ids.sizes,
        scheme=ids.scheme,
        inputs={
            **ids.provenance.inputs,
            "semantic_ids": ids.provenance.content,
            "new_embeddings": embeddings.provenance.content,
        },
        config={
            **ids.provenance.config,
            "extended": [*earlier, resolution_record(collisions, resolution)],
        },
        seen=ids.provenance.seen,
        tokenizer=tokenizer,
    )


def load_tokenizer(
    folder: str | os.PathLike[str],
    made_by: type[SemanticIdTokenizer] = SemanticIdTokenizer,
) -> SemanticIdTokenizer:
    """The tokenizer that was saved beside semantic ids.

    Args:
        folder: Where `SemanticIds.save` wrote the ids.
        made_by: Its class, where that is not built in: code is not run because a file names it.

    Raises:
        FileNotFoundError: If it wrote none, as no scheme of ours made the codes.
        ProvenanceError: If it is not the one that made the ids.
        ValueError: If its class is neither built in nor ``made_by``, or a file has another form.
    """
    if not (Path(folder) / TOKENIZER_FOLDER).is_dir():
        raise FileNotFoundError(
            f"expected a tokenizer beside the semantic ids in {folder}, got none. Were their codes "
            "read from a file? Build them with a scheme, which can encode new items."
        )
    tokenizer = made_by.from_pretrained(Path(folder) / TOKENIZER_FOLDER)
    require_same(
        f"the tokenizer beside the semantic ids in {folder}",
        Provenance.read(folder).inputs.get("tokenizer"),
        tokenizer.provenance.content,
        what_to_do="Build the ids again.",
    )
    return tokenizer


def _warn_unless_same(held: Tensor, found: Tensor) -> None:
    """Old items should fall where they fell, or the vectors come from another encoder."""
    share = float((held == found).float().mean())
    if share < _LEAST_AGREEMENT:
        logger.warning(
            "of %d items that have ids, %.0f %% now get another first code: are the embeddings "
            "from the encoder that the tokenizer was fitted with?",
            len(held),
            100 * (1 - share),
        )
