"""The catalogue: item ids in a fixed row order, and the text that describes each item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semid.provenance import hash_ids

if TYPE_CHECKING:
    import polars as pl

TEXT_FIELDS = ("title", "brand", "categories", "keyphrase", "description")
SUFFIXES = (".parquet", ".csv", ".jsonl")
_WHOLE_NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"
_SEPARATORS = " \t\n,;:.|/-"


@dataclass(frozen=True, kw_only=True, eq=False)
class Catalog:
    """Items in the one row order that codes, embeddings, the trie and all scores share.

    Attributes:
        item_ids: One id an item, unique, all whole numbers or all text. Its place in this list is
            the item's row.
        fields: The other columns, one row an item, in the same order. List columns are allowed.
    """

    item_ids: list[str] | list[int]
    fields: pl.DataFrame

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
        if len(self._row_of) != len(self.item_ids):
            twice = next(i for i, n in Counter[str | int](self.item_ids).items() if n > 1)
            extra = len(self.item_ids) - len(self._row_of)
            raise ValueError(
                f"item ids must be unique, got {twice!r} more than once ({extra} rows too many); "
                f"keep one row for each item"
            )

    @classmethod
    def read(cls, path: str | Path, *, id_column: str = "item_id") -> Catalog:
        """Read a catalogue from a parquet, CSV or JSON-lines file, keeping its row order.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file cannot be read, is empty, has no ``id_column``, or holds missing
                or repeated ids.
        """
        table = read_table(path, required=(id_column,))
        ids = as_ids(table[id_column])
        if ids.null_count():
            row = int(ids.is_null().arg_max() or 0)
            raise ValueError(
                f"{path}: every item needs an id, but {id_column!r} is missing in row {row} "
                f"(counted from 0); remove such rows"
            )
        return cls(item_ids=ids.to_list(), fields=table.drop(id_column))

    def __len__(self) -> int:
        return len(self.item_ids)

    @cached_property
    def order_hash(self) -> str:
        """Hash of the item ids in row order: what an artefact made for these rows must carry."""
        return hash_ids(self.item_ids)

    @cached_property
    def _row_of(self) -> dict[str | int, int]:
        return dict(zip(self.item_ids, range(len(self)), strict=True))

    def rows(self, ids: Sequence[str] | Sequence[int]) -> NDArray[np.int64]:
        """Rows of the given items.

        Args:
            ids: Item ids in any order, repeats allowed. Text that spells a whole number finds an
                integer id, and an integer finds the text that spells it.

        Returns:
            int64 ``(len(ids),)``, in ``[0, len(self))``.

        Raises:
            ValueError: If an id is not in the catalogue; names the first few.
        """
        import polars as pl

        kind = pl.String if len(ids) and isinstance(ids[0], str) else pl.Int64
        try:
            found = self.find(pl.Series(list(ids), dtype=kind))
        except TypeError:
            raise ValueError("ids must be all int or all str, got a mixture") from None
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

        Ids of the other kind (text or whole number) are translated where that loses nothing.

        Raises:
            ValueError: If the catalogue's ids are whole numbers and a given id spells none.
        """
        import polars as pl

        known = pl.Series(self.item_ids)
        ids = as_ids(ids)
        if known.dtype == pl.Int64 and ids.dtype == pl.String:
            strange = ids.drop_nulls().filter(~ids.drop_nulls().str.contains(_WHOLE_NUMBER))
            if len(strange):
                raise ValueError(
                    f"the catalogue's item ids are whole numbers, got {strange[0]!r} in "
                    f"{ids.name or 'ids'!r}; use the same ids in both files"
                )
        rows = ids.cast(known.dtype).replace_strict(
            known, pl.Series(range(len(known))), default=-1, return_dtype=pl.Int64
        )
        return np.asarray(rows.fill_null(-1).to_numpy(writable=True), dtype=np.int64)

    def default_template(self) -> str:
        """The template that ``texts`` uses when none is given: every known text field there is.

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
        """One text an item, in row order.

        The words before a field go with it, so a field that is missing or empty leaves no trace:
        ``"{title}, by {brand}"`` gives ``"Red lipstick"`` where the brand is empty. Words after the
        last field go with the last. Lists are joined by ``", "``.

        Args:
            template: Text with column names in braces; ``default_template()`` when None.

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
        columns = [[_as_text(v) for v in self.fields[name].to_list()] for _, name in parts]
        leads = [lead for lead, _ in parts]
        return [_fill(leads, values, tail) for values in zip(*columns, strict=True)]


def read_table(path: str | Path, *, required: Sequence[str]) -> pl.DataFrame:
    """Read a parquet, CSV or JSON-lines file as it is, and check that it has what is needed.

    CSV columns stay text, so that ``007`` keeps its zeros; only those of ``required`` that hold
    nothing but plainly written whole numbers become integers.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind, unreadable, empty, or lacks a required column.
    """
    import polars as pl

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False)
        elif path.suffix == ".csv":
            table = pl.read_csv(path, infer_schema=False, glob=False)
        else:
            table = pl.read_ndjson(path.read_bytes(), infer_schema_length=None)
    except pl.exceptions.NoDataError:
        raise ValueError(f"{path} is empty") from None
    except pl.exceptions.PolarsError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{path} cannot be read as {path.suffix[1:]}: {reason}") from None
    missing = [name for name in required if name not in table.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {_listed(missing)}; its columns are {_listed(table.columns)}"
        )
    if table.height == 0:
        raise ValueError(f"{path} is empty: it has columns but no rows")
    if path.suffix == ".csv":
        numbers = [n for n in required if table[n].str.contains(_WHOLE_NUMBER).all()]
        table = table.with_columns(pl.col(numbers).cast(pl.Int64))
    return table


def as_ids(column: pl.Series) -> pl.Series:
    """A column of ids as Int64 or String; missing ones stay missing.

    Raises:
        ValueError: If the column holds anything but whole numbers or text.
    """
    import polars as pl

    ids: pl.Series
    if column.dtype.is_integer():
        ids = column.cast(pl.Int64)
    elif column.dtype in (pl.String, pl.Categorical, pl.Enum):
        ids = column.cast(pl.String)
    else:
        raise ValueError(
            f"ids must be whole numbers or text, got {column.dtype} in column {column.name!r}"
        )
    return ids


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


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(filter(None, map(_as_text, value)))
    return "" if value is None else str(value).strip()
