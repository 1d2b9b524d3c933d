"""Display titles of items."""

from __future__ import annotations

import polars as pl

from semid.catalog import Catalog
from semid.columns import as_text

_TITLE = "title"


def titles_of(catalog: Catalog) -> list[str]:
    """Title of each item, else its first text, else its ID, in row order."""
    texts = [name for name in catalog.fields.columns if catalog.fields[name].dtype == pl.String]
    column = _TITLE if _TITLE in catalog.fields.columns else next(iter(texts), None)
    ids = map(str, catalog.item_ids)
    if column is None:
        return list(ids)
    names = as_text(catalog.fields[column])
    return [name or own for name, own in zip(names, ids, strict=True)]
