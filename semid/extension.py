"""New items: a frozen tokenizer encodes them; existing ids do not change."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from semid.collisions import Costs, resolve_collisions
from semid.ids import TEXT_ENCODER_FOLDER, TOKENIZER_FOLDER, SemanticIds, resolution_record
from semid.provenance import Provenance, require_same
from semid.tokenizers.base import SemanticIdTokenizer
from semid.tokenizers.fields import fields_of

if TYPE_CHECKING:
    from semid.catalog import Catalog
    from semid.embed import Embeddings
    from semid.text_encoder import CatalogEncoder

__all__ = [
    "costs_of",
    "extend_from_texts",
    "extend_semantic_ids",
    "load_extendable",
    "load_text_encoder",
    "load_tokenizer",
]

logger = logging.getLogger(__name__)

_LEAST_AGREEMENT = 0.9


def costs_of(tokenizer: SemanticIdTokenizer, embeddings: Tensor) -> Costs:
    """Distances from items to codes, for `semid.collisions.resolve_collisions`.

    Args:
        tokenizer: A fitted tokenizer.
        embeddings: Float ``(item, dim)``, one row per item.
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
    """Extend ids with ids for the items of a catalogue that have none yet.

    Existing codes and sizes do not change, even for items that are no longer in the catalogue. The
    new items follow the old ones in row order, as `semid.add_items` expects.

    Args:
        ids: Made by ``tokenizer``, or extended already.
        tokenizer: The tokenizer that made them; `load_tokenizer` reads it.
        embeddings: Vectors of the catalogue's items from the original encoder: a fitted one, or one
            that needs no fit. Old items whose codes would now differ are reported in the log.
        catalog: Old and new items, or new ones alone.
        collisions: As in `semid.collisions.load_strategies`; applied to the new items, with the
            codes of the old ones reserved. ``extra_level`` uses free numbers of the ids' extra
            level.

    Returns:
        The old and new ids; ``ids`` itself if no item is new.

    Raises:
        ProvenanceError: If the tokenizer did not make the ids, or the embeddings belong to another
            catalogue or order.
        ValueError: If item ids are text on one side and numbers on the other, or no code is free
            for a new item.
    """
    _require_extendable(ids, tokenizer, embeddings, catalog)
    vectors = torch.from_numpy(embeddings.vectors)
    codes = tokenizer.encode(vectors, fields=fields_of(tokenizer.uses_fields, catalog))
    row_of_old = {item: row for row, item in enumerate(ids.item_ids)}
    old_rows = [row_of_old.get(item, -1) for item in catalog.item_ids]
    is_new = torch.tensor(old_rows) < 0
    if not is_new.all():
        _warn_unless_same(ids.codes[[row for row in old_rows if row >= 0], 0], codes[~is_new, 0])
    if not is_new.any():
        return ids
    resolution = resolve_collisions(
        codes[is_new],
        ids.sizes,
        collisions,
        costs=costs_of(tokenizer, vectors[is_new]),
        taken=ids.codes,
    )
    known, earlier = ids.provenance, ids.provenance.config.get("extended", [])
    new_items = [catalog.item_ids[row] for row in is_new.nonzero()[:, 0].tolist()]
    lineage = {"semantic_ids": known.content, "new_embeddings": embeddings.provenance.content}
    record = resolution_record(collisions, resolution)
    return replace(ids, tokenizer=tokenizer).with_codes(
        [*ids.item_ids, *new_items],
        torch.cat([ids.codes, resolution.codes]),
        ids.sizes,
        inputs={**known.inputs, **lineage},
        config={**known.config, "extended": [*earlier, record]},
    )


def _require_extendable(
    ids: SemanticIds, tokenizer: SemanticIdTokenizer, embeddings: Embeddings, catalog: Catalog
) -> None:
    require_same(
        "the tokenizer of the semantic ids",
        ids.provenance.inputs.get("tokenizer"),
        tokenizer.provenance.content,
        what_to_do="Load the one that was saved with them.",
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


def extend_from_texts(
    ids: SemanticIds,
    catalog: Catalog,
    *,
    collisions: str = "next_nearest",
    cache_dir: str | os.PathLike[str] | None = None,
) -> SemanticIds:
    """Extend ids with new items from their texts alone; see `extend_semantic_ids`.

    Args:
        ids: Ids with tokenizer and text encoder, as read by `load_extendable`.
        catalog: Old and new items, or new ones alone, with the columns of the encoder's template.
        collisions: As in `extend_semantic_ids`.
        cache_dir: Cache folder of embeddings, see `semid.embed.embed_catalog`.

    Returns:
        The old ids, unchanged, followed by the new ones.

    Raises:
        ValueError: If the codes came from a file or the ids have no text encoder, or as
            `extend_semantic_ids`.
    """
    if ids.tokenizer is None:
        if ids.scheme.startswith("file:"):
            raise ValueError(
                f"the codes of {ids.scheme.removeprefix('file:')} came from a file: bring codes "
                "for the new items too, in one file with the old ones."
            )
        raise ValueError(
            f"expected semantic ids with their tokenizer, got {ids.scheme} without. Load them with "
            "load_extendable(folder)."
        )
    if ids.text_encoder is None:
        raise ValueError(
            f"expected semantic ids with a text encoder, got {ids.scheme} without: they were made "
            "from vectors, or by an older version. Pass vectors of the new items to "
            "extend_semantic_ids."
        )
    embeddings = ids.text_encoder.embed(catalog, cache_dir=cache_dir)
    return extend_semantic_ids(ids, ids.tokenizer, embeddings, catalog, collisions=collisions)


def load_extendable(
    folder: str | os.PathLike[str],
    made_by: type[SemanticIdTokenizer] = SemanticIdTokenizer,
) -> SemanticIds:
    """Load semantic ids with their tokenizer and text encoder, if saved.

    Args:
        folder: Where `SemanticIds.save` wrote the ids.
        made_by: As in `load_tokenizer`.

    Returns:
        The ids with tokenizer and text encoder. Codes from a file have neither; codes of ready-made
        vectors have no text encoder.

    Raises:
        FileNotFoundError: If the folder is not a complete artefact.
        ValueError: As `SemanticIds.load`, `load_tokenizer` and `load_text_encoder`.
    """
    ids = SemanticIds.load(folder)
    has_tokenizer = (Path(folder) / TOKENIZER_FOLDER).is_dir()
    tokenizer = load_tokenizer(folder, made_by) if has_tokenizer else None
    return replace(ids, tokenizer=tokenizer, text_encoder=load_text_encoder(folder))


def load_text_encoder(folder: str | os.PathLike[str]) -> CatalogEncoder | None:
    """Load the text encoder saved with semantic ids; None if there is none.

    Args:
        folder: Where `SemanticIds.save` wrote the ids.

    Raises:
        ProvenanceError: If it did not make the ids, or was changed.
    """
    from semid.text_encoder import CatalogEncoder

    path = Path(folder) / TEXT_ENCODER_FOLDER
    if not path.is_dir():
        return None
    return CatalogEncoder.load(path, embeddings=Provenance.read(folder).inputs["embeddings"])


def load_tokenizer(
    folder: str | os.PathLike[str],
    made_by: type[SemanticIdTokenizer] = SemanticIdTokenizer,
) -> SemanticIdTokenizer:
    """Load the tokenizer saved with semantic ids.

    Args:
        folder: Where `SemanticIds.save` wrote the ids.
        made_by: Its class, unless it is built in: a class is never imported because a file names
            it.

    Raises:
        FileNotFoundError: If there is none, as for codes read from a file.
        ProvenanceError: If it is not the one that made the ids.
        ValueError: If its class is neither built in nor ``made_by``, or a file is malformed.
    """
    if not (Path(folder) / TOKENIZER_FOLDER).is_dir():
        raise FileNotFoundError(
            f"expected a tokenizer with the semantic ids in {folder}, got none. Were their codes "
            "read from a file? Build them with a scheme, which can encode new items."
        )
    tokenizer = made_by.from_pretrained(Path(folder) / TOKENIZER_FOLDER)
    require_same(
        f"the tokenizer of the semantic ids in {folder}",
        Provenance.read(folder).inputs.get("tokenizer"),
        tokenizer.provenance.content,
        what_to_do="Build the ids again.",
    )
    return tokenizer


def _warn_unless_same(held: Tensor, found: Tensor) -> None:
    """Warn if old items now get other codes, a sign of another encoder."""
    share = float((held == found).float().mean())
    if share < _LEAST_AGREEMENT:
        logger.warning(
            "of %d items that have ids, %.0f %% now get another first code: are the embeddings "
            "from the encoder that the tokenizer was fitted with?",
            len(held),
            100 * (1 - share),
        )
