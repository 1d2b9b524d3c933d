"""New items: a frozen tokenizer encodes them; existing ids do not change."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from semid.collisions import Costs, resolve_collisions
from semid.generations import Generation, LostItems, Step, mean_shift, prefix_shares
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

_MOST_REENCODED = 0.1


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
    drop_missing: bool = False,
) -> SemanticIds:
    """Extend ids with ids for the items of a catalogue that have none yet.

    Existing codes and sizes do not change. The new items follow the old ones in row order. The
    result's ``generation`` says how it was made and how well the new items fit (a poor fit is
    reported in the log), and its ``next_trie`` updates a trie.

    Args:
        ids: Made by ``tokenizer``, or extended already.
        tokenizer: The tokenizer that made them; `load_tokenizer` reads it.
        embeddings: Vectors of the catalogue's items from the original encoder: a fitted one, or one
            that needs no fit. Old items whose codes would now differ are reported in the log.
        catalog: Old and new items, or new ones alone.
        collisions: As in `semid.collisions.load_strategies`; applied to the new items, with the
            codes of the old ones reserved. ``extra_level`` uses free numbers of the ids' extra
            level.
        drop_missing: Whether items that the catalogue lacks leave the table. Their codes stay
            reserved, and are theirs again when they come back.

    Returns:
        The old and new ids; ``ids`` itself if no item is new or lost.

    Raises:
        ProvenanceError: If the tokenizer did not make the ids, or the embeddings belong to another
            catalogue or order.
        ValueError: If item ids are text on one side and numbers on the other, no code is free for
            a new item, or no item would be kept.
    """
    _require_extendable(ids, tokenizer, embeddings, catalog)
    vectors = torch.from_numpy(embeddings.vectors)
    codes = tokenizer.encode(vectors, fields=fields_of(tokenizer.uses_fields, catalog))
    change = _Change.of(ids, catalog, drop_missing=drop_missing)
    is_old, is_new = change.old_rows >= 0, change.is_new
    reencoded = _share_reencoded(ids.codes[change.old_rows[is_old], 0], codes[is_old, 0])
    if is_old.all() and not change.lost_rows:
        return ids
    new_codes, record = _new_codes(change, tokenizer, vectors[is_new], codes[is_new], collisions)
    unseen, alone = prefix_shares(ids.codes, new_codes, codes.shape[1])
    step = Step(
        parent=ids.provenance.content,
        parent_items=str(ids.provenance.items),
        new=len(new_codes),
        returned=int((~is_old & ~is_new).sum()),
        lost=len(change.lost_rows),
        unseen_prefixes=unseen,
        alone_on_prefix=alone,
        reencoded=reencoded,
        shift=mean_shift(vectors[is_old], vectors[is_new]),
    )
    for warning in step.warnings:
        logger.warning(warning)
    return change.applied(new_codes, step, record, tokenizer, embeddings.provenance.content)


def _new_codes(
    change: _Change,
    tokenizer: SemanticIdTokenizer,
    vectors: Tensor,
    codes: Tensor,
    collisions: str,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Codes of the new items after the collision strategy, and its record; none if there are none.

    Args:
        change: The change that they are part of.
        tokenizer: The tokenizer that encoded them.
        vectors: Float ``(new, dim)``.
        codes: int64 ``(new, level)``, as encoded.
        collisions: The strategy.
    """
    ids = change.ids
    if not len(codes):
        return ids.codes[:0], []
    resolution = resolve_collisions(
        codes,
        ids.sizes,
        collisions,
        costs=costs_of(tokenizer, vectors),
        taken=torch.cat([ids.codes, change.lost.codes]),
    )
    return resolution.codes, [resolution_record(collisions, resolution)]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Change:
    """The difference between a table of ids and a catalogue.

    Attributes:
        ids: The table.
        catalog: The catalogue.
        old_rows: int64 ``(item,)``, row in the table of each item of the catalogue, or -1.
        is_new: Bool ``(item,)``, whether it has never had a code.
        lost_rows: Rows of the table that are dropped, ascending.
        lost: Items that were lost before.
    """

    ids: SemanticIds
    catalog: Catalog
    old_rows: Tensor
    is_new: Tensor
    lost_rows: list[int]
    lost: LostItems

    @classmethod
    def of(cls, ids: SemanticIds, catalog: Catalog, *, drop_missing: bool) -> _Change:
        lost = LostItems.none(ids.num_levels) if ids.generation is None else ids.generation.lost
        row_of_old = {item: row for row, item in enumerate(ids.item_ids)}
        old_rows = torch.tensor([row_of_old.get(item, -1) for item in catalog.item_ids])
        reserved = set(lost.item_ids)
        is_reserved = torch.tensor([item in reserved for item in catalog.item_ids])
        kept = set(old_rows.tolist())
        if drop_missing and kept == {-1}:
            raise ValueError(
                f"expected a catalogue with some of the {len(ids)} items that have ids, got "
                f"{len(catalog)} others. Leave drop_missing out if they are the new items alone."
            )
        return cls(
            ids=ids,
            catalog=catalog,
            old_rows=old_rows,
            is_new=(old_rows < 0) & ~is_reserved,
            lost_rows=[row for row in range(len(ids)) if row not in kept] if drop_missing else [],
            lost=lost,
        )

    def applied(
        self,
        new_codes: Tensor,
        step: Step,
        record: list[dict[str, Any]],
        tokenizer: SemanticIdTokenizer,
        embedded: str,
    ) -> SemanticIds:
        """The ids after the change.

        Args:
            new_codes: int64 ``(new, level)``, codes of the new items in catalogue order.
            step: How they fit.
            record: What the collision strategy did, if any item is new.
            tokenizer: The tokenizer that made them.
            embedded: Content hash of the catalogue's embeddings.
        """
        ids, known = self.ids, self.ids.provenance
        item_ids, codes = self._table(new_codes)
        extended = replace(ids, tokenizer=tokenizer).with_codes(
            item_ids,
            codes,
            ids.sizes,
            inputs={**known.inputs, "semantic_ids": known.content, "new_embeddings": embedded},
            config={**known.config, "extended": [*known.config.get("extended", []), *record]},
        )
        steps = (*(() if ids.generation is None else ids.generation.steps), step)
        dropped = [ids.item_ids[row] for row in self.lost_rows]
        lost = self.lost.followed_by(dropped, ids.codes[self.lost_rows], self.lost_rows, len(steps))
        return replace(extended, generation=Generation(steps=steps, lost=lost))

    def _table(self, new_codes: Tensor) -> tuple[list[Any], Tensor]:
        is_added = self.old_rows < 0
        added = [self.catalog.item_ids[row] for row in is_added.nonzero()[:, 0].tolist()]
        codes = self.ids.codes.new_empty(len(added), self.ids.num_levels)
        is_new, reserved = self.is_new[is_added], self.lost.codes_of_item
        codes[is_new] = new_codes
        for row in (~is_new).nonzero()[:, 0].tolist():
            codes[row] = reserved[added[row]]
        stays = torch.ones(len(self.ids), dtype=torch.bool)
        stays[self.lost_rows] = False
        kept = [self.ids.item_ids[row] for row in stays.nonzero()[:, 0].tolist()]
        return [*kept, *added], torch.cat([self.ids.codes[stays], codes])


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
    drop_missing: bool = False,
) -> SemanticIds:
    """Extend ids with new items from their texts alone; see `extend_semantic_ids`.

    Args:
        ids: Ids with tokenizer and text encoder, as read by `load_extendable`.
        catalog: Old and new items, or new ones alone, with the columns of the encoder's template.
        collisions: As in `extend_semantic_ids`.
        cache_dir: Cache folder of embeddings, see `semid.embed.embed_catalog`.
        drop_missing: As in `extend_semantic_ids`.

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
    return extend_semantic_ids(
        ids,
        ids.tokenizer,
        embeddings,
        catalog,
        collisions=collisions,
        drop_missing=drop_missing,
    )


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


def _share_reencoded(held: Tensor, found: Tensor) -> float | None:
    """Share of old items that now get another first code; a warning if another encoder is likely.

    None if there are none.
    """
    if not len(held):
        return None
    share = float((held != found).double().mean())
    if share > _MOST_REENCODED:
        logger.warning(
            "of %d items that have ids, %.0f %% now get another first code: are the embeddings "
            "from the encoder that the tokenizer was fitted with?",
            len(held),
            100 * share,
        )
    return share
