"""Data sets from a user-defined function ``package.module:function`` instead of a folder.

The function takes no arguments and returns a `Dataset`, or two tables, items and interactions, with
the columns of the plain layout's files. `baselines.testing.check_reader` checks such a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from baselines.data.config import Split
from baselines.data.dataset import Dataset, split_interactions
from baselines.data.interactions import EventOptions, Interactions
from semid.catalog import Catalog
from semid.registry import load_function

if TYPE_CHECKING:
    from typing_extensions import Unpack

_USUAL = {"split": "auto", "ties": "file", "repeats": "keep", "time_format": None}


def read_by(name: str, split: Split = "auto", **options: Unpack[EventOptions]) -> Dataset:
    """Call a reader and turn its result into a data set.

    Raises:
        ValueError: If there is no such function, or as in ``as_dataset``.
    """
    return as_dataset(load_function(name, {}, what="reader")(), name, split, **options)


def as_dataset(
    read: Any, name: str, split: Split = "auto", **options: Unpack[EventOptions]
) -> Dataset:
    """Turn the result of a reader into a data set.

    Args:
        read: A `Dataset`, or tables of items and interactions.
        name: Name of the reader in errors, and of a data set built here.
        split: As in ``load_dataset``, for tables of interactions.
        options: ``ties``, ``repeats``, ``time_format`` and ``seed``, likewise.

    Raises:
        ValueError: If the result is of another type, a table lacks a column or has unusable values,
            or options are given for a result that already is a `Dataset`.
    """
    if isinstance(read, Dataset):
        asked = {**_USUAL, "split": split, **options}
        if given := [option for option, usual in _USUAL.items() if asked[option] != usual]:
            raise ValueError(
                f"{', '.join(given)} cannot be chosen for {name}, which returns a Dataset. "
                "Leave them out, or return tables of items and interactions."
            )
        return read
    if not (isinstance(read, (tuple, list)) and len(read) == 2):
        raise ValueError(
            f"expected a Dataset, or tables of items and interactions, from {name}, got "
            f"{type(read).__name__}"
        )
    catalog = Catalog.from_table(as_table(read[0], f"items of {name}"), source=f"items of {name}")
    interactions = Interactions.from_table(
        _events(read[1], f"interactions of {name}"), catalog, **options
    )
    return Dataset(
        name=name,
        catalog=catalog,
        splits=split_interactions(interactions, split),
        interactions=interactions,
    )


def _events(frame: Any, what: str) -> pl.DataFrame:
    table = as_table(frame, what)
    ordered = {"timestamp", "position"} & set(table.columns)
    if not {"user_id", "item_id"} <= set(table.columns) or not ordered:
        raise ValueError(
            f"expected columns user_id, item_id, and timestamp or position in {what}, got "
            f"{', '.join(table.columns) or 'none'}"
        )
    return table


def as_table(frame: Any, what: str) -> pl.DataFrame:
    """Convert a polars or pandas frame, or a mapping of columns.

    Raises:
        ValueError: If it is none of these, or has no rows.
    """
    try:
        table = pl.DataFrame(frame)
    except Exception as error:  # of polars, pandas or pyarrow
        raise ValueError(
            f"expected a polars or pandas frame, or columns by name, as {what}, got "
            f"{type(frame).__name__} ({error})"
        ) from error
    if not table.height:
        raise ValueError(f"expected rows in {what}, got none")
    return table
