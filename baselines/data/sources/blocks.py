"""Tables that come in blocks, as columns that hold each cell in a few bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import polars as pl

from baselines.data.preparing.coded import as_categories
from semid.columns import WHOLE_NUMBER
from semid.json_lines import as_it_is

Keep = Callable[[pl.Series], pl.Series]
"""What a column of a block is kept as; the same cells can be told from it."""


def by_role(
    role_of: Callable[[str], str | None], values: Keep = as_it_is
) -> Callable[[str], Keep | None]:
    """What columns are kept as: codes, ``values`` or nothing.

    Args:
        role_of: Whether a column of some name may hold an ``id``, a ``value``, or neither: None.
        values: What columns of values are kept as.
    """
    found: dict[str, Keep] = {}

    def keep(name: str) -> Keep | None:
        role = role_of(name)
        if role is not None and name not in found:
            found[name] = _Codes() if role == "id" else values
        return found.get(name)

    return keep


class _Codes:
    """Text as codes, which are the same in all blocks."""

    def __init__(self) -> None:
        self._categories = pl.Categories.random()

    def __call__(self, column: pl.Series) -> pl.Series:
        is_text = isinstance(column.dtype, (pl.String, pl.Categorical, pl.Enum))
        if not is_text or column.dtype == pl.Categorical(self._categories):
            return column
        return as_categories(column, self._categories)


def as_numbers(column: pl.Series) -> pl.Series:
    """Text as Int64, if all cells are plain whole numbers."""
    if column.dtype != pl.String or not column.str.contains(WHOLE_NUMBER).all():
        return column
    numbers = column.cast(pl.Int64, strict=False)
    return numbers if numbers.null_count() == column.null_count() else column


def one_table(blocks: Iterable[pl.DataFrame], keep: Callable[[str], Keep | None]) -> pl.DataFrame:
    """The rows of all blocks; a column that a block lacks has no values there.

    Raises:
        polars.exceptions.PolarsError: If a column has types that do not go together.
    """
    columns: dict[str, list[pl.DataFrame]] = {}
    height = 0
    for block in blocks:
        for name in block.columns:
            if name not in columns:
                columns[name] = [_missing(name, height)]
            kept = keep(name)
            column = _missing(name, block.height) if kept is None else kept(block[name]).to_frame()
            columns[name].append(column)
        height += block.height
        for name in columns.keys() - set(block.columns):
            columns[name].append(_missing(name, block.height))
    names = list(columns)
    joined = [_joined(columns.pop(name), keep(name)) for name in names]
    return pl.concat(joined, how="horizontal")


def _missing(name: str, height: int) -> pl.DataFrame:
    return pl.DataFrame({name: pl.repeat(None, height, dtype=pl.Null, eager=True)})


def _joined(pieces: list[pl.DataFrame], keep: Keep | None) -> pl.DataFrame:
    pieces = [piece for piece in pieces if piece.height] or pieces[-1:]
    if keep is not None and any(_is_coded(piece) for piece in pieces):
        pieces = [
            piece if _is_coded(piece) else keep(piece.to_series().cast(pl.String)).to_frame()
            for piece in pieces
        ]
    return pl.concat(pieces, how="vertical_relaxed", rechunk=True)


def _is_coded(piece: pl.DataFrame) -> bool:
    return isinstance(piece.dtypes[0], pl.Categorical)
