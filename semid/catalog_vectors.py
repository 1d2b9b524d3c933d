"""Existing vectors of a catalogue's items: which row of a file each item has, and what is wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semid.arrays import Float32Array, IntArray
from semid.provenance import hash_parts
from semid.vector_files import VectorFile, read_id_file, read_vector_file

if TYPE_CHECKING:
    import polars as pl

    from semid.catalog import Catalog

__all__ = ["CatalogVectors", "require_finite", "require_matrix"]

logger = logging.getLogger(__name__)

BATCH = 1 << 14
"""Rows read at a time."""

_NAMED = 3  # rows or items in an error


@dataclass(frozen=True, kw_only=True, eq=False)
class CatalogVectors:
    """Vectors of a catalogue's items, in its order, read when they are asked for.

    Attributes:
        file: The vectors as they were written, and the item of each row, if named.
        rows: The row of each item, int64 ``(item,)``; a slice if they are in catalogue order.
        shape: ``(item, dim)``.
        where: Name of the file in errors.
    """

    file: VectorFile
    rows: IntArray | slice
    shape: tuple[int, int]
    where: str

    @classmethod
    def of(
        cls,
        source: str | os.PathLike[str] | NDArray[Any],
        catalog: Catalog,
        ids: str | os.PathLike[str] | Sequence[str] | Sequence[int] | None = None,
    ) -> CatalogVectors:
        """Find the row of each item. A padding row of zeros is recognised, left out and logged.

        Args:
            source: A file as in `semid.vector_files.read_vector_file`, or an array, ``(row, dim)``
                of any float or integer type.
            catalog: The items. Rows of other items are left out and logged.
            ids: The item of each row: a sequence, or a file as in
                `semid.vector_files.read_id_file`. None if the file names them, or the rows are in
                catalogue order.

        Raises:
            FileNotFoundError: If a file does not exist.
            ValueError: If a file cannot be read, the array is not a matrix of numbers, its number
                of rows differs from that of the ids or items, both file and ``ids`` name the
                items, ids repeat, or an item of the catalogue has no row.
        """
        if isinstance(source, np.ndarray):
            given, where = source, "the array"
            file = VectorFile(open=lambda: given)
        else:
            file, where = read_vector_file(os.fspath(source)), str(source)
        if ids is not None and file.ids is not None:
            raise ValueError(
                f"expected the items' ids once, got them in {where} and apart from it. Leave the "
                "latter out."
            )
        if ids is not None:
            file = VectorFile(open=file.open, ids=_as_column(ids))
        values = file.open()
        require_matrix(values, where)
        rows = _rows_of_items(values, file.ids, catalog, where)
        return cls(file=file, rows=rows, shape=(len(catalog), values.shape[1]), where=where)

    def take(self, items: IntArray) -> Float32Array:
        """Vectors of the items of some rows of the catalogue.

        Args:
            items: int64 ``(item,)`` in ``[0, shape[0])``.

        Returns:
            Finite float32 ``(item, dim)``.

        Raises:
            ValueError: If one contains NaN or infinity, or is too large for float32.
        """
        rows = items + (self.rows.start or 0) if isinstance(self.rows, slice) else self.rows[items]
        taken = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        for begin in range(0, len(rows), BATCH):
            part = slice(begin, begin + BATCH)
            with np.errstate(over="ignore"):  # becomes infinity, refused below
                taken[part] = self.file.open()[rows[part]]
        require_finite(taken, rows, self.file.ids, self.where)
        return taken

    def all(self) -> Float32Array:
        """Vectors of all items, as `take`."""
        return self.take(np.arange(self.shape[0]))

    def content_hash(self) -> str:
        """The hash of all vectors, as `semid.provenance.hash_arrays` of ``all()``, in batches."""
        return hash_parts(self._parts(), np.dtype(np.float32), self.shape)

    def _parts(self) -> Iterator[Float32Array]:
        for begin in range(0, self.shape[0], BATCH):
            yield self.take(np.arange(begin, min(begin + BATCH, self.shape[0])))


def require_matrix(vectors: NDArray[Any], where: str = "the array") -> None:
    """Refuse anything but a matrix of numbers.

    Raises:
        ValueError: With dtype and shape, and ``where`` they come from.
    """
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or vectors.shape[1] == 0:
        raise ValueError(
            f"expected embeddings (item, dim) of numbers, got {vectors.dtype} {vectors.shape} in "
            f"{where}. Save one vector for each item as a matrix."
        )


def require_finite(
    vectors: Float32Array,
    rows: IntArray | None = None,
    ids: pl.Series | None = None,
    where: str = "the array",
) -> None:
    """Refuse NaN and infinity.

    Args:
        vectors: ``(item, dim)``.
        rows: Their rows in the file, for the error; None if they are all of its rows.
        ids: The item of each row of the file, if named.
        where: Name of the file, for the error.

    Raises:
        ValueError: With the number of such rows, and the first of them.
    """
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if not len(wrong):
        return
    first = (wrong if rows is None else rows[wrong])[:_NAMED].tolist()
    named = "" if ids is None else f" (items {_listed([ids[row] for row in first])})"
    raise ValueError(
        f"expected finite embeddings, got NaN or infinity in {len(wrong)} rows, first in row "
        f"{', '.join(map(str, first))}{named} of {where}. Embed those items again, or leave "
        "them out."
    )


def _as_column(ids: str | os.PathLike[str] | Sequence[str] | Sequence[int]) -> pl.Series:
    import polars as pl

    if isinstance(ids, str | os.PathLike):
        return read_id_file(Path(ids))
    return pl.Series([str(item) for item in ids], dtype=pl.String)


def _rows_of_items(
    values: NDArray[Any], ids: pl.Series | None, catalog: Catalog, where: str
) -> IntArray | slice:
    if ids is None:
        return _without_padding(values, len(catalog), "items of the catalogue", where)
    span = _without_padding(values, len(ids), "ids", where)
    return _found(ids, catalog, where, first=span.start)


def _without_padding(values: NDArray[Any], expected: int, rows: str, where: str) -> slice:
    """The rows of items: all, or all but a row of zeros at one end, as SASRec's row 0."""
    if len(values) == expected:
        return slice(0, expected)
    if len(values) == expected + 1 and np.any(values):
        for padding, start in ((0, 1), (expected, 0)):
            if not np.any(values[padding]):
                logger.warning(
                    "%s has a row more than the %d %s, and row %d is all zeros: it is taken for a "
                    "padding row and left out",
                    where,
                    expected,
                    rows,
                    padding,
                )
                return slice(start, start + expected)
    raise ValueError(
        f"expected embeddings for {expected} {rows}, got {len(values)} rows in {where}. Is there a "
        "padding row, or is it the file of another catalogue? A row of zeros at either end is left "
        "out; otherwise name the item of each row."
    )


def _found(ids: pl.Series, catalog: Catalog, where: str, *, first: int) -> IntArray | slice:
    """Row of each item of the catalogue.

    Args:
        ids: The item of each row, from row ``first`` on.
        catalog: The items.
        where: Name of the file in errors.
        first: Row of the first id.
    """
    import polars as pl

    wanted = catalog.ids.cast(pl.String).rename("item")
    if ids.equals(wanted):
        return slice(first, first + len(wanted))
    given = pl.DataFrame({"item": ids}).with_row_index("row").drop_nulls()
    if given.height != given["item"].n_unique():
        repeats = given.filter(given["item"].is_duplicated())
        rows = repeats.filter(repeats["item"] == repeats["item"][0])["row"] + first
        raise ValueError(
            f"expected unique ids of the embeddings, got {given.height} with "
            f"{given['item'].n_unique()} distinct in {where}, such as {repeats['item'][0]!r} in "
            f"rows {', '.join(map(str, rows.head(_NAMED)))}. Keep one row for each item."
        )
    known = wanted.to_frame().join(given, on="item", how="left", maintain_order="left")
    if known["row"].null_count():
        missing = known.filter(pl.col("row").is_null())["item"]
        raise ValueError(
            f"expected embeddings of all {len(wanted)} items of the catalogue, got none for "
            f"{len(missing)} (such as {_listed(missing.head(_NAMED))}) in {where}. Embed those, or "
            "leave them out."
        )
    if other := len(ids) - len(wanted):
        unknown = given.join(wanted.to_frame(), on="item", how="anti", maintain_order="left")
        logger.warning(
            "%s has %d rows of items that the catalogue lacks, or without an id, which are left "
            "out, such as %s",
            where,
            other,
            _listed(unknown["item"].head(_NAMED)) or "one without an id",
        )
    return np.asarray(known["row"].cast(pl.Int64).to_numpy() + first)


def _listed(items: Sequence[str] | pl.Series) -> str:
    return ", ".join(repr(item) for item in items)
