"""IDs of catalogues that are too large to embed at once.

Text encoder and tokenizer are fitted on some of the items. All items are then encoded a batch at a
time by a pure function, whose result for an item does not depend on the other items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from torch import Tensor

from semid.arrays import Float32Array, IntArray
from semid.catalog import Catalog
from semid.catalog_vectors import CatalogVectors
from semid.config import RayConfig
from semid.embed import VECTORS, Embeddings
from semid.ids import SemanticIds
from semid.provenance import Provenance, hash_ids, hash_json, require_same
from semid.tokenizers.base import SemanticIdTokenizer
from semid.tokenizers.fields import fields_of

if TYPE_CHECKING:
    from semid.collisions import Costs
    from semid.text_encoder import CatalogEncoder

__all__ = [
    "BatchSource",
    "EncodeRows",
    "TextSource",
    "VectorSource",
    "costs_in_batches",
    "encode_batch",
    "encode_in_batches",
    "hash_texts",
    "sample_of",
    "sample_rows",
]

BATCH = 1 << 14
"""Items embedded or read at a time."""

VECTOR = "vector"
"""Column of the vectors of items that are not embedded from texts."""

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


@dataclass(frozen=True, eq=False)
class EncodeRows:
    """Items in, codes out: a function of rows, for one process or many workers.

    Attributes:
        tokenizer: A fitted tokenizer.
        text_encoder: Embeds a text by itself; None if the rows have vectors.
    """

    tokenizer: SemanticIdTokenizer
    text_encoder: CatalogEncoder | None = None

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Encode items, whose codes do not depend on the other rows.

        Args:
            rows: A column ``item_id``; the columns of the encoder's template or, without encoder,
                ``vector``, a list of floats; and those of the tokenizer's ``uses_fields``.

        Returns:
            Columns ``item_id`` and ``codes``, a list of int64, collisions left; in the same order.

        Raises:
            ValueError: If a column is missing, or the tokenizer refuses a vector or field.
        """
        items = Catalog.from_table(cast(pl.DataFrame, pl.from_arrow(rows)))
        if self.text_encoder is not None:
            codes = encode_batch(items, self.text_encoder, self.tokenizer)
        else:
            fields = fields_of(self.tokenizer.uses_fields, items)
            codes = self.tokenizer.encode(_vectors_of(items), fields=fields)
        coded = pl.DataFrame([items.ids.alias("item_id"), pl.Series("codes", codes.numpy())])
        return coded.to_arrow()


def _vectors_of(items: Catalog) -> Tensor:
    if VECTOR not in items.fields.columns:
        raise ValueError(f"expected a column {VECTOR}, got {', '.join(items.fields.columns)}")
    lists = items.fields[VECTOR]
    if lists.dtype == pl.List:
        lists = lists.list.to_array(int(lists.list.len()[0]))
    return torch.from_numpy(lists.to_numpy(writable=True)).float()


class BatchSource(Protocol):
    """Where the vectors of a catalogue's items come from, some rows at a time."""

    @property
    def text_encoder(self) -> CatalogEncoder | None:
        """The encoder of the items' texts; None if their vectors exist already."""

    def vectors(self, rows: IntArray) -> Float32Array:
        """Finite float32 ``(item, dim)`` of some rows of the catalogue, int64 ``(item,)``."""

    def embeddings(self, rows: IntArray) -> Embeddings:
        """Those vectors with their lineage."""

    def table(self, rows: IntArray) -> pa.Table:
        """Some rows of the catalogue, as `EncodeRows` reads them."""

    def inputs(self) -> dict[str, str]:
        """Content hashes of what the ids of all items are made from."""


@dataclass(frozen=True)
class TextSource:
    """The texts of a catalogue, embedded when they are asked for.

    Attributes:
        catalog: The items.
        text_encoder: Embeds a text by itself.
    """

    catalog: Catalog
    text_encoder: CatalogEncoder

    def vectors(self, rows: IntArray) -> Float32Array:
        """As `BatchSource.vectors`."""
        texts = self.catalog.take(rows).texts(self.text_encoder.template)
        return self.text_encoder.encode(texts)

    def embeddings(self, rows: IntArray) -> Embeddings:
        """As `BatchSource.embeddings`."""
        return self.text_encoder.embed(self.catalog.take(rows))

    def table(self, rows: IntArray) -> pa.Table:
        """As `BatchSource.table`."""
        return self.catalog.take(rows).table().to_arrow()

    def inputs(self) -> dict[str, str]:
        """Hash of all texts in row order."""
        return {"texts": hash_texts(self.catalog, self.text_encoder.template)}


@dataclass(frozen=True)
class VectorSource:
    """Existing vectors of a catalogue's items, read when they are asked for.

    Attributes:
        catalog: The items.
        of_items: Their vectors.
        provenance: Lineage of the vectors, if recorded.
    """

    catalog: Catalog
    of_items: CatalogVectors
    provenance: Provenance | None = None
    text_encoder: CatalogEncoder | None = None

    @classmethod
    def of(cls, source: str, catalog: Catalog, ids: str | None = None) -> VectorSource:
        """Open a file or an artefact folder as `semid.embed.read_embeddings` does.

        Raises:
            FileNotFoundError: If there is no such file.
            ProvenanceError: If a folder is for other items or another order.
            ValueError: As `semid.catalog_vectors.CatalogVectors.of`.
        """
        if not Path(source).is_dir():
            return cls(catalog, CatalogVectors.of(source, catalog, ids))
        provenance = Provenance.read(source)
        require_same(
            f"item order of the embeddings in {source}",
            catalog.order_hash,
            provenance.items,
            what_to_do="Make them for this catalogue.",
        )
        return cls(catalog, CatalogVectors.of(Path(source) / VECTORS, catalog, ids), provenance)

    def vectors(self, rows: IntArray) -> Float32Array:
        """As `BatchSource.vectors`."""
        return self.of_items.take(rows)

    def embeddings(self, rows: IntArray) -> Embeddings:
        """As `BatchSource.embeddings`."""
        return Embeddings.of(
            self.vectors(rows),
            self.catalog.take(rows),
            config={"encoder": "array"},
            seen=None if self.provenance is None else self.provenance.seen,
        )

    def table(self, rows: IntArray) -> pa.Table:
        """As `BatchSource.table`."""
        vectors = pl.Series(VECTOR, self.vectors(rows))
        return self.catalog.take(rows).table().with_columns(vectors).to_arrow()

    def inputs(self) -> dict[str, str]:
        """Hash of all vectors, which is that of `semid.embed.read_embeddings`.

        Raises:
            ProvenanceError: If they are not those that were recorded.
        """
        content = self.of_items.content_hash()
        if self.provenance is not None:
            require_same(
                f"content of the embeddings in {self.of_items.where}",
                self.provenance.content,
                content,
                what_to_do="The file was changed after it was saved; embed the catalogue again.",
            )
        return {"embeddings": content}


def encode_in_batches(
    ids: SemanticIds,
    catalog: Catalog,
    source: BatchSource,
    *,
    ray: RayConfig | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> SemanticIds:
    """Codes of all items of a catalogue, by the tokenizer of some of them.

    Args:
        ids: Of the items that ``tokenizer`` was fitted on.
        catalog: All items.
        source: Where their vectors come from.
        ray: Workers that encode the batches; None for this process.
        on_batch: Called with the number of items of each finished batch.

    Returns:
        The ids of all items, before collisions are resolved; their provenance records the hash of
        what all are made from, and how many items were fitted.
    """
    tokenizer = ids.tokenizer
    assert tokenizer is not None
    if ray is not None and hasattr(tokenizer, "on_epoch"):
        tokenizer.on_epoch = None  # of this process; workers get copies
    codes = torch.empty(len(catalog), len(tokenizer.codebook_sizes), dtype=torch.int64)
    parts = ((int(rows[0]), source.table(rows)) for rows in _batches(len(catalog)))
    make = partial(EncodeRows, tokenizer, source.text_encoder)
    for begin, coded in _mapped(make, parts, ray):
        found = pl.from_arrow(coded["codes"].combine_chunks())
        codes[begin : begin + len(coded)] = torch.from_numpy(found.to_numpy(writable=True))
        if on_batch is not None:
            on_batch(len(coded))
    made = ids.provenance
    return ids.with_codes(
        catalog.item_ids,
        codes,
        tokenizer.codebook_sizes,
        inputs={**made.inputs, **source.inputs()},
        config={**made.config, "fitted_items": len(ids)},
    )


def _mapped(
    make: Callable[[], EncodeRows], parts: Iterable[tuple[int, pa.Table]], ray: RayConfig | None
) -> Iterator[tuple[int, pa.Table]]:
    """The codes of numbered parts, by this process or by the workers of Ray."""
    if ray is not None and ray.address is not None:
        from semid.ray_pool import map_chunks

        yield from map_chunks(make, parts, ray)
    else:
        encode = make()
        yield from ((number, encode(rows)) for number, rows in parts)


def sample_rows(num_items: int, fit_items: int) -> IntArray:
    """Rows of the items that encoder and tokenizer are fitted on, ascending int64 ``(item,)``.

    Args:
        num_items: Items of the catalogue.
        fit_items: How many are drawn, uniformly and always the same; all if there are fewer.
    """
    if fit_items >= num_items:
        return np.arange(num_items)
    return np.sort(np.random.default_rng(_SEED).choice(num_items, fit_items, replace=False))


def sample_of(catalog: Catalog, fit_items: int) -> Catalog:
    """The items of `sample_rows`."""
    return catalog.take(sample_rows(len(catalog), fit_items))


def hash_texts(catalog: Catalog, template: str) -> str:
    """Hash of the texts of all items in row order, computed a batch at a time."""
    parts = (catalog.take(rows) for rows in _batches(len(catalog)))
    return hash_json([hash_ids(part.texts(template)) for part in parts])


def costs_in_batches(source: BatchSource, tokenizer: SemanticIdTokenizer) -> Costs:
    """As `semid.extension.costs_of`, from vectors that are read or embedded on demand.

    Args:
        source: Where the vectors come from.
        tokenizer: A fitted tokenizer.
    """

    def costs(rows: Tensor, prefix: Tensor) -> Tensor:
        found = [
            tokenizer.costs(torch.from_numpy(source.vectors(part.numpy())), some)
            for part, some in zip(torch.split(rows, BATCH), torch.split(prefix, BATCH), strict=True)
        ]
        return torch.cat(found)

    return costs


def _batches(num_items: int) -> Iterator[IntArray]:
    for begin in range(0, num_items, BATCH):
        yield np.arange(begin, min(begin + BATCH, num_items))
