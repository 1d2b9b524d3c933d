"""The items of a model: their own ids and texts, their semantic IDs, how often each occurs."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from baselines.data.dataset import Dataset
from baselines.models.files import COUNTS, IDS, ITEMS
from semid.arrays import IntArray
from semid.atomic import atomic_write, copy_tree
from semid.catalog import Catalog
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError, read_tensors, require_same, write_tensors

_AGAIN = "Copy the whole folder again."


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelItems:
    """What a model knows of items, in catalogue order.

    Attributes:
        catalog: The items' own ids and texts.
        ids: Their semantic IDs.
        counts: int64 ``(item,)``, training events of each.
        folder: Where the semantic IDs are kept, with what codes new items; None where they are not
            kept yet, and hold that themselves.
    """

    catalog: Catalog
    ids: SemanticIds
    counts: IntArray
    folder: Path | None

    @classmethod
    def of(cls, dataset: Dataset, ids: SemanticIds, folder: Path | None) -> ModelItems:
        """The items of a data set.

        Args:
            dataset: Its training part is counted.
            ids: In catalogue order.
            folder: Where they are kept.
        """
        counts = np.bincount(dataset.splits.train.items, minlength=len(dataset.catalog))
        return cls(catalog=dataset.catalog, ids=ids, counts=counts, folder=folder)

    def write(self, folder: Path) -> None:
        """Write everything below a model's folder."""
        if self.folder is None:
            self.ids.save(folder / IDS)
        else:
            copy_tree(self.folder, folder / IDS)
        buffer = io.BytesIO()
        own_ids = pl.Series("item_id", self.catalog.item_ids)
        self.catalog.fields.select(own_ids, pl.all()).write_parquet(buffer)
        atomic_write(folder / ITEMS, buffer.getvalue())
        write_tensors(folder / COUNTS, {"counts": torch.from_numpy(self.counts)})

    @classmethod
    def read(cls, folder: Path) -> ModelItems:
        """Read what ``write`` wrote.

        Raises:
            FileNotFoundError: If a file is missing.
            ProvenanceError: If one was damaged, or they are of different items.
        """
        if not (folder / ITEMS).exists():
            raise FileNotFoundError(f"expected {folder / ITEMS}, got no such file. {_AGAIN}")
        try:
            catalog = Catalog.read(folder / ITEMS)
        except ValueError as error:
            raise ProvenanceError(f"{error}. {_AGAIN}") from error
        ids = SemanticIds.load(folder / IDS)
        require_same(
            f"item order of {folder / ITEMS}",
            ids.provenance.items,
            catalog.order_hash,
            what_to_do=_AGAIN,
        )
        found = read_tensors(folder / COUNTS, what_to_do=_AGAIN)
        if found is None or len(found[0].get("counts", ())) != len(catalog):
            raise ProvenanceError(
                f"expected counts of {len(catalog)} items in {folder / COUNTS}, got "
                f"{'none' if found is None else 'others'}. {_AGAIN}"
            )
        counts = np.asarray(found[0]["counts"].numpy(), dtype=np.int64)
        return cls(catalog=catalog, ids=ids, counts=counts, folder=folder / IDS)

    def extended(self, catalog: Catalog, ids: SemanticIds) -> ModelItems:
        """With new items after the old ones, of which nothing was counted."""
        new = np.zeros(len(catalog) - len(self.catalog), dtype=np.int64)
        counts = np.concatenate([self.counts, new])
        return dataclasses.replace(self, catalog=catalog, ids=ids, counts=counts, folder=None)
