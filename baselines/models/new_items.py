"""New items for a trained model, coded from their texts without retraining."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from baselines.models.items import ModelItems
from baselines.models.trained import TrainedModel
from semid.catalog import Catalog
from semid.columns import as_ids
from semid.extension import extend_from_texts, load_extendable
from semid.ids import SemanticIds
from semid.tokenizers.base import load_tokenizer_class

_ITEM_ID = "item_id"


def with_new_items(
    model: TrainedModel,
    table: pl.DataFrame | Sequence[Mapping[str, Any]],
    *,
    tokenizer: str | None = None,
) -> TrainedModel:
    """The same model with new items appended; existing codes do not change.

    Args:
        model: The model, on any device; not modified.
        table: One row per new item: ``item_id``, and columns of the catalogue; missing columns
            are taken as empty.
        tokenizer: Class path of the ID scheme, if it is not built in.

    Raises:
        ValueError: If an item is already known or given twice, the codes came from a file or from
            vectors, no free code is left, the model has a second set of IDs, or it reads from or
            is fused with another one, which does not know the new items.
    """
    _require_alone(model)
    catalog = model.items.catalog
    new = _new_items(pl.DataFrame(table), catalog)
    both = Catalog(
        item_ids=[*catalog.item_ids, *new.item_ids],
        fields=pl.concat([catalog.fields, new.fields], how="diagonal_relaxed"),
    )
    ids = extend_from_texts(_extendable(model.items, tokenizer), new).for_catalog(both)
    backbone = model.spec.build(ids, both)
    backbone.take_over(model.backbone)
    backbone.to(model.backbone.paths.device)
    return dataclasses.replace(
        model, backbone=backbone.eval(), items=model.items.extended(both, ids)
    )


def _new_items(table: pl.DataFrame, known: Catalog) -> Catalog:
    columns = [name for name in known.fields.columns if name in table.columns]
    if _ITEM_ID not in table.columns or not table.height or not columns:
        raise ValueError(
            f"expected a row with {_ITEM_ID} and texts (out of {', '.join(known.fields.columns)}) "
            f"for each new item, got {table.height} rows with "
            f"{', '.join(table.columns) or 'no columns'}"
        )
    given = as_ids(table[_ITEM_ID])
    rows = known.find(given)
    ids = given.cast(known.ids.dtype, strict=False)
    if ids.has_nulls():
        row = int(ids.is_null().arg_max() or 0)
        raise ValueError(
            f"expected {_ITEM_ID} of {known.ids.dtype} in each row of the new items, got "
            f"{given[row]!r} in row {row}"
        )
    for name in columns:
        expected, got = known.fields.schema[name], table.schema[name]
        if expected.is_nested() != got.is_nested() and got != pl.Null:
            raise ValueError(f"expected {name} of new items as {expected}, got {got}")
    fields = pl.concat([known.fields.clear(), table.select(columns)], how="diagonal_relaxed")
    new = Catalog(item_ids=ids.to_list(), fields=fields)
    old = [item for item, row in zip(new.item_ids, rows, strict=True) if row >= 0]
    if old:
        raise ValueError(
            f"expected items that are new, got {old[0]!r}, which the model has ({len(old)} such in "
            "all). Leave them out: what a model knows of an item stays as it was trained."
        )
    return new


def _extendable(items: ModelItems, tokenizer: str | None) -> SemanticIds:
    """The semantic IDs with the tokenizer and encoder that code new items."""
    if items.folder is None:
        return items.ids
    if tokenizer is None:
        return load_extendable(items.folder)
    return load_extendable(items.folder, load_tokenizer_class(tokenizer))


def _require_alone(model: TrainedModel) -> None:
    label = model.backbone.label
    if model.spec.backbone_class.needs_teacher:
        raise ValueError(
            f"{label} reads its teacher's vectors of items, and there are none of new ones. Train "
            "it anew, or take a backbone that reads codes or titles alone."
        )
    if model.items.second is not None:
        raise ValueError(
            f"{label} also learned a second set of semantic IDs, which new items have none of. "
            "Train it on one scheme to add items later, or train it anew with them."
        )
    if model.content is not None:
        raise ValueError(
            f"{label} fills reserved slots by content, which knows nothing of new items. Rank it "
            "again with slots 0, and add them there."
        )
    if model.partner is not None:
        raise ValueError(
            f"{label} ranks together with another model, which knows nothing of new items. Pick "
            "the row of the generator alone, and add them there."
        )
