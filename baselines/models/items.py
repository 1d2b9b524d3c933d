"""The items of a model: their IDs and texts, semantic IDs, and training counts."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from baselines.data.dataset import Dataset
from baselines.models.files import COUNTS, IDS, ITEMS, SECOND_IDS
from semid.arrays import IntArray
from semid.atomic import atomic_write, copy_tree
from semid.catalog import Catalog
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError, read_tensors, require_same, write_tensors

_AGAIN = "Copy the whole folder again."


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelItems:
    """What a model knows about its items, in catalogue order.

    Attributes:
        catalog: The items' IDs and texts.
        ids: Their semantic IDs.
        second: A second set of semantic IDs, which a model learns beside them; None without one.
        counts: int64 ``(item,)``, training events of each item.
        folder: Folder of the semantic IDs and of the tokenizer and encoder that code new items;
            None if not saved yet, in which case ``ids`` holds these.
    """

    catalog: Catalog
    ids: SemanticIds
    counts: IntArray
    folder: Path | None
    second: SemanticIds | None = None

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        ids: SemanticIds,
        folder: Path | None,
        second: SemanticIds | None = None,
    ) -> ModelItems:
        """The items of a dataset.

        Args:
            dataset: Its training events are counted.
            ids: In catalogue order.
            folder: Where they are stored.
            second: A second set of semantic IDs, likewise; None without one.
        """
        counts = np.bincount(dataset.splits.train.items, minlength=len(dataset.catalog))
        return cls(catalog=dataset.catalog, ids=ids, counts=counts, folder=folder, second=second)

    def write(self, folder: Path) -> None:
        """Write everything below a model's folder."""
        if self.second is not None:
            self.second.save(folder / SECOND_IDS)
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
    def read(cls, folder: Path, *, ids: Collection[str] = (IDS,)) -> ModelItems:
        """Read what ``write`` wrote.

        Args:
            folder: Folder of the model.
            ids: Names of its sets of semantic IDs.

        Raises:
            FileNotFoundError: If a file is missing.
            ProvenanceError: If a file is damaged, or the files are of different items.
        """
        if not (folder / ITEMS).exists():
            raise FileNotFoundError(f"expected {folder / ITEMS}, got no such file. {_AGAIN}")
        try:
            catalog = Catalog.read(folder / ITEMS)
        except ValueError as error:
            raise ProvenanceError(f"{error}. {_AGAIN}") from error
        second = _ids_of(catalog, folder / SECOND_IDS) if SECOND_IDS in ids else None
        own = _ids_of(catalog, folder / IDS)
        found = read_tensors(folder / COUNTS, what_to_do=_AGAIN)
        if found is None or len(found[0].get("counts", ())) != len(catalog):
            raise ProvenanceError(
                f"expected counts of {len(catalog)} items in {folder / COUNTS}, got "
                f"{'none' if found is None else 'others'}. {_AGAIN}"
            )
        counts = np.asarray(found[0]["counts"].numpy(), dtype=np.int64)
        return cls(catalog=catalog, ids=own, counts=counts, folder=folder / IDS, second=second)

    def extended(self, catalog: Catalog, ids: SemanticIds) -> ModelItems:
        """The same items followed by new ones, whose counts are zero."""
        new = np.zeros(len(catalog) - len(self.catalog), dtype=np.int64)
        counts = np.concatenate([self.counts, new])
        return dataclasses.replace(self, catalog=catalog, ids=ids, counts=counts, folder=None)


def _ids_of(catalog: Catalog, folder: Path) -> SemanticIds:
    """The semantic IDs in a folder, which must be those of the catalogue."""
    ids = SemanticIds.load(folder)
    what = f"item order of {folder.parent / ITEMS}"
    require_same(what, ids.provenance.items, catalog.order_hash, what_to_do=_AGAIN)
    return ids
