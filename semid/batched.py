"""IDs of catalogues that are too large to embed at once.

Text encoder and tokenizer are fitted on some of the items. All items are then encoded a batch at a
time by a pure function, whose result for an item does not depend on the other items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from semid.catalog import Catalog
from semid.ids import SemanticIds
from semid.provenance import hash_ids, hash_json
from semid.tokenizers.base import SemanticIdTokenizer
from semid.tokenizers.fields import fields_of

if TYPE_CHECKING:
    from semid.collisions import Costs
    from semid.text_encoder import CatalogEncoder

__all__ = ["encode_batch", "encode_in_batches", "hash_texts", "sample_of", "text_costs"]

BATCH = 1 << 14
"""Items embedded at a time."""

_SEED = 0


def encode_batch(items: Catalog, encoder: CatalogEncoder, tokenizer: SemanticIdTokenizer) -> Tensor:
    """Codes of items from their texts, collisions left; int64 ``(item, level)``.

    Args:
        items: The items, with the columns of the encoder's template and of ``uses_fields``.
        encoder: Embeds a text by itself.
        tokenizer: A fitted tokenizer.

    Raises:
        ValueError: If a column is missing, or the tokenizer refuses a vector or field.
    """
    vectors = torch.from_numpy(encoder.encode(items.texts(encoder.template)))
    return tokenizer.encode(vectors, fields=fields_of(tokenizer.uses_fields, items))


def encode_in_batches(
    ids: SemanticIds,
    catalog: Catalog,
    *,
    on_batch: Callable[[int], None] | None = None,
) -> SemanticIds:
    """Codes of all items of a catalogue, by the encoder and tokenizer of some of them.

    Args:
        ids: Of the items that both were fitted on, with ``tokenizer`` and ``text_encoder``.
        catalog: All items.
        on_batch: Called with the number of items of each finished batch.

    Returns:
        The ids of all items, before collisions are resolved; their provenance records the hash of
        all texts, and how many items were fitted.
    """
    encoder, tokenizer = ids.text_encoder, ids.tokenizer
    assert encoder is not None
    assert tokenizer is not None
    codes = []
    for part in _batches(catalog):
        codes.append(encode_batch(part, encoder, tokenizer))
        if on_batch is not None:
            on_batch(len(part))
    made = ids.provenance
    return ids.with_codes(
        catalog.item_ids,
        torch.cat(codes),
        tokenizer.codebook_sizes,
        inputs={**made.inputs, "texts": hash_texts(catalog, encoder.template)},
        config={**made.config, "fitted_items": len(ids)},
    )


def sample_of(catalog: Catalog, fit_items: int) -> Catalog:
    """The items of a catalogue that encoder and tokenizer are fitted on, in row order.

    Args:
        catalog: All items.
        fit_items: How many are drawn, uniformly and always the same; all if there are fewer.
    """
    if fit_items >= len(catalog):
        return catalog
    rows = np.sort(np.random.default_rng(_SEED).choice(len(catalog), fit_items, replace=False))
    return catalog.take(rows)


def text_costs(catalog: Catalog, encoder: CatalogEncoder, tokenizer: SemanticIdTokenizer) -> Costs:
    """As `semid.extension.costs_of`, from texts that are embedded on demand.

    Args:
        catalog: The items.
        encoder: Embeds a text by itself.
        tokenizer: A fitted tokenizer.
    """

    def costs(rows: Tensor, prefix: Tensor) -> Tensor:
        found = [
            tokenizer.costs(_embedded(catalog, part, encoder), some)
            for part, some in zip(torch.split(rows, BATCH), torch.split(prefix, BATCH), strict=True)
        ]
        return torch.cat(found)

    return costs


def hash_texts(catalog: Catalog, template: str) -> str:
    """Hash of the texts of all items in row order, computed a batch at a time."""
    return hash_json([hash_ids(part.texts(template)) for part in _batches(catalog)])


def _batches(catalog: Catalog) -> Iterator[Catalog]:
    rows = np.arange(len(catalog))
    for begin in range(0, len(catalog), BATCH):
        yield catalog.take(rows[begin : begin + BATCH])


def _embedded(catalog: Catalog, rows: Tensor, encoder: CatalogEncoder) -> Tensor:
    texts = catalog.take(rows.numpy()).texts(encoder.template)
    return torch.from_numpy(encoder.encode(texts))
