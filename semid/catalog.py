"""The catalogue: item ids in a fixed row order, and text describing each item."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semid.columns import WHOLE_NUMBER, as_ids, as_text, loose, note_near_equal, text_repairs
from semid.provenance import hash_ids
from semid.tables import read_table

if TYPE_CHECKING:
    import polars as pl

TEXT_FIELDS = ("title", "brand", "categories", "keyphrase", "description")
logger = logging.getLogger(__name__)

_FEW = 20
_SEPARATORS = " \t\n,;:.|/-"


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """Items in the row order shared by codes, embeddings, the trie and all scores.

    Attributes:
        item_ids: One unique id per item, all whole numbers or all text; neither blank nor a
            spelling of a missing value (`semid.columns.MISSING_WORDS`). An item's index in this
            list is its row.
        fields: The other columns, one row per item, in the same order. List columns are allowed.
        without_id: Number of rows of the file that had no id and were dropped.
    """

    item_ids: list[str] | list[int]
    fields: pl.DataFrame
    without_id: int = 0

    def __post_init__(self) -> None:
        if not self.item_ids:
            raise ValueError("a catalogue needs at least one item, got none")
        if self.fields.width and self.fields.height != len(self.item_ids):
            raise ValueError(
                f"fields must have one row for each of {len(self.item_ids)} items, "
                f"got {self.fields.height}"
            )
        kinds = {type(item_id) for item_id in self.item_ids}
        if kinds not in ({int}, {str}):
            names = sorted(kind.__name__ for kind in kinds)
            raise ValueError(f"item ids must be all int or all str, got {' and '.join(names)}")
        if str in kinds and (row := _first_missing(self.ids)) is not None:
            raise ValueError(
                f"every item needs an id, but {self.item_ids[row]!r} in row {row} (counted from 0) "
                f"stands for a missing one; remove such rows, or rename the item"
            )
        if extra := len(self.item_ids) - len(set(self.item_ids)):
            twice = next(i for i, n in Counter[str | int](self.item_ids).items() if n > 1)
            raise ValueError(
                f"item ids must be unique, got {twice!r} more than once ({extra} rows too many); "
                f"keep one row for each item"
            )

    @classmethod
    def read(cls, path: str | Path, *, id_column: str = "item_id") -> Catalog:
        """Read a catalogue from a parquet, CSV or JSON-lines file, keeping its row order.

        A row whose id is missing (blank, or a word such as NULL) is dropped, counted and logged.
        Arrays that go with the file must then lack the row too.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file cannot be read, is empty, has no ``id_column``, or has repeated
                ids.
        """
        table = read_table(path, ids=(id_column,))
        return cls.from_table(table, id_column=id_column, source=str(path))

    @classmethod
    def from_table(
        cls, table: pl.DataFrame, *, id_column: str = "item_id", source: str = "the table of items"
    ) -> Catalog:
        """Make a catalogue from a table in memory, as ``read`` does from a file.

        Args:
            table: One row per item, with ``id_column``.
            id_column: Column of item ids.
            source: Name of the table in the log and in errors.

        Raises:
            ValueError: As ``read``.
        """
        if id_column not in table.columns:
            raise ValueError(
                f"{source} has no column {id_column}; its columns are "
                f"{', '.join(table.columns) or 'none'}"
            )
        ids = as_ids(table[id_column])
        if (row := _first_missing(ids)) is not None:
            logger.warning(
                "%s: %d rows have no %s and are left out, the first is row %d (counted from 0)",
                source,
                ids.null_count(),
                id_column,
                row,
            )
        named = ids.is_not_null()
        if not named.any():
            raise ValueError(f"{source}: expected an id of an item in each row, got none at all")
        catalog = cls(
            item_ids=ids.filter(named).to_list(),
            fields=table.drop(id_column).filter(named),
            without_id=ids.null_count(),
        )
        if catalog.noted:
            logger.info("%s: %s", source, catalog.noted)
        return catalog

    def __len__(self) -> int:
        return len(self.item_ids)

    def take(self, rows: NDArray[np.int64]) -> Catalog:
        """The items of some rows, int64 ``(item,)``, each row at most once, in this order."""
        ids = [self.item_ids[row] for row in rows.tolist()]
        return Catalog(item_ids=ids, fields=self.fields[rows] if self.fields.width else self.fields)

    def table(self) -> pl.DataFrame:
        """``item_id`` and the other columns, as ``from_table`` reads them."""
        ids = self.ids.alias("item_id").to_frame()
        return ids.hstack(self.fields.get_columns()) if self.fields.width else ids

    @cached_property
    def order_hash(self) -> str:
        """Hash of the item ids in row order, recorded by every artefact made for these rows."""
        return hash_ids(self.item_ids)

    @cached_property
    def _row_of(self) -> dict[str | int, int]:
        return dict(zip(self.item_ids, range(len(self)), strict=True))

    def rows(self, ids: Sequence[str] | Sequence[int]) -> NDArray[np.int64]:
        """Rows of the given items.

        Args:
            ids: Item ids in any order, repeats allowed. Text that spells a whole number matches an
                integer id, and vice versa.

        Returns:
            int64 ``(len(ids),)``, in ``[0, len(self))``.

        Raises:
            ValueError: If an id is not in the catalogue; the first few are named.
        """
        if len({isinstance(name, str) for name in ids}) > 1:
            raise ValueError("ids must be all int or all str, got a mixture")
        found = self.find(_series(ids))
        unknown = np.flatnonzero(found < 0)
        if len(unknown):
            names = ", ".join(repr(ids[int(i)]) for i in unknown[:3])
            raise ValueError(
                f"expected ids of the catalogue's {len(self)} items, got {len(unknown)} unknown: "
                f"{names}{', …' if len(unknown) > 3 else ''}"
            )
        return found

    def find(self, ids: pl.Series) -> NDArray[np.int64]:
        """Rows of the given items, -1 where an id is missing or not in the catalogue.

        Ids of the other type (text or whole number) are converted if that is lossless.

        Raises:
            ValueError: If the catalogue's ids are whole numbers and a given id is not one.
        """
        import polars as pl

        known, ids = self.ids, as_ids(ids)
        if known.dtype == pl.Int64 and ids.dtype == pl.String:
            strange = ids.filter(~ids.str.contains(WHOLE_NUMBER))
            if len(strange):
                raise ValueError(
                    f"the catalogue's item ids are whole numbers, got {strange[0]!r} in "
                    f"{ids.name or 'ids'!r}; use the same ids in both files"
                )
        ids = ids.cast(known.dtype, strict=False)
        if _FEW * len(ids) < len(known):  # a join would first hash the whole catalogue
            return np.array([self._row_of.get(item, -1) for item in ids], dtype=np.int64)
        rows = ids.replace_strict(
            known, pl.Series(range(len(known))), default=-1, return_dtype=pl.Int64
        )
        return np.asarray(rows.fill_null(-1).to_numpy(writable=True), dtype=np.int64)

    def near_misses(self, unknown: pl.Series) -> int:
        """Count unknown ids that equal a known one up to case, blanks, zeros or Unicode form.

        The first is logged: usually two programs wrote the same id differently.
        """
        import polars as pl

        known = pl.DataFrame({"loose": loose(self.ids), "id": self.ids})
        known = known.unique("loose", keep="first", maintain_order=True)
        meant = loose(unknown).replace_strict(known["loose"], known["id"], default=None)
        misses = pl.DataFrame({"unknown": unknown, "meant": meant}).drop_nulls()
        if misses.height:
            logger.warning(
                "%d ids of items are unknown, but differ from known ones only in case, blanks, "
                "zeros or Unicode form, such as %r from %r",
                misses.height,
                *misses.row(0),
            )
        return misses.height

    @cached_property
    def ids(self) -> pl.Series:
        """``item_ids`` as a column, Int64 or String."""
        return as_ids(_series(self.item_ids))

    @cached_property
    def noted(self) -> dict[str, int]:
        """Counts of irregularities in ids and texts, by kind; zero counts are omitted.

        Near-equal ids (`semid.columns.loose`), texts that `texts` normalises or in which it decodes
        HTML entities, and rows dropped for lack of an id.
        """
        counts = Counter(note_near_equal(self.ids, "item"))
        counts["items_without_id"] = self.without_id
        for column in self.fields:
            counts.update(text_repairs(column))
        return {kind: count for kind, count in counts.items() if count}

    def default_template(self) -> str:
        """The default template of ``texts``: every known text field that is present.

        Raises:
            ValueError: If the catalogue has none of ``TEXT_FIELDS``.
        """
        present = [name for name in TEXT_FIELDS if name in self.fields.columns]
        if not present:
            raise ValueError(
                f"the catalogue has no text: expected a column among {', '.join(TEXT_FIELDS)}, "
                f"got {_listed(self.fields.columns)}; name one in a template, or bring "
                f"embeddings or codes of your own"
            )
        return ", ".join(f"{{{name}}}" for name in present)

    def texts(self, template: str | None = None) -> list[str]:
        """One text per item, in row order.

        The words before a field belong to it and are dropped if the field is missing or empty:
        ``"{title}, by {brand}"`` gives ``"Red lipstick"`` without a brand. Words after the last
        field belong to the last. Lists are joined by ``", "``, HTML entities are decoded, and text
        is normalised to Unicode NFC.

        Args:
            template: Text with column names in braces; ``default_template()`` if None.

        Raises:
            ValueError: If the template names a column that does not exist, or none.
        """
        template = self.default_template() if template is None else template
        parts, tail = _parse(template)
        unknown = [name for _, name in parts if name not in self.fields.columns]
        if unknown or not parts:
            raise ValueError(
                f"template {template!r} must name columns in braces, got "
                f"{', '.join(unknown) or 'none'}; there are {_listed(self.fields.columns)}"
            )
        columns = [as_text(self.fields[name]) for _, name in parts]
        leads = [lead for lead, _ in parts]
        return [_fill(leads, values, tail) for values in zip(*columns, strict=True)]


def _series(ids: Sequence[str] | Sequence[int]) -> pl.Series:
    """Ids as a column; whole numbers beyond int64 as text."""
    import polars as pl

    if any(isinstance(name, str) or abs(name) >= 2**63 for name in ids):
        return pl.Series(map(str, ids), dtype=pl.String)
    return pl.Series(ids, dtype=pl.Int64)


def _first_missing(ids: pl.Series) -> int | None:
    return int(ids.is_null().arg_max() or 0) if ids.null_count() else None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _parse(template: str) -> tuple[list[tuple[str, str]], str]:
    """Split a template into (words before, column) pairs and the words after the last column."""
    parts: list[tuple[str, str]] = []
    words = ""
    try:
        for literal, name, spec, conversion in Formatter().parse(template):
            words += literal
            if spec or conversion:
                raise ValueError("a column takes no format")
            if name is not None:
                parts.append((words, name))
                words = ""
    except ValueError as error:
        raise ValueError(f"template {template!r} cannot be read: {error}") from None
    return parts, words


def _fill(leads: Sequence[str], values: Sequence[str], tail: str) -> str:
    text = "".join(lead + value for lead, value in zip(leads, values, strict=True) if value)
    if not values[0]:
        text = text.lstrip(_SEPARATORS)
    return text + tail if values[-1] else text
