"""Events with each id written once: 8 bytes an event for its user and item."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from semid.columns import as_ids

ID_COLUMNS = ("user_id", "item_id")
_SLICE = 1_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class CodedEvents:
    """A log whose ids are replaced by their places among the distinct ones.

    Attributes:
        table: One row per event. ``user_id`` and ``item_id`` are UInt32, in
            ``[0, len(ids[column]))``, null if missing; the other columns are as in the log.
        ids: The distinct ids of each of ``ID_COLUMNS``, Int64 or String as `semid.columns.as_ids`
            gives them; some may have no event.
    """

    table: pl.DataFrame
    ids: Mapping[str, pl.Series]

    @classmethod
    def of(
        cls, events: pl.DataFrame | CodedEvents, read: Callable[..., pl.Series] = as_ids
    ) -> CodedEvents:
        """Replace ids by codes; a log that has codes already is returned as it is.

        Args:
            events: A table with ``user_id`` and ``item_id`` in any form that ``read`` takes.
            read: ``as_ids`` or ``numbers_where_written`` of `semid.columns`. For a Categorical
                column it is called with the distinct ids only.

        Raises:
            ValueError: If a column of ids is missing, or they are neither whole numbers nor text.
        """
        if isinstance(events, CodedEvents):
            return events
        if missing := [name for name in ID_COLUMNS if name not in events.columns]:
            raise ValueError(
                f"events need a column {', '.join(missing)}, got {', '.join(events.columns)}"
            )
        coded = {name: _coded(events[name], read) for name in ID_COLUMNS}
        return cls(
            table=events.with_columns(codes for codes, _ in coded.values()),
            ids={name: ids for name, (_, ids) in coded.items()},
        )

    def __len__(self) -> int:
        return self.table.height

    def decoded(self) -> pl.DataFrame:
        """The log with its ids."""
        return self.table.with_columns(
            ids.gather(self.table[name]).alias(name) for name, ids in self.ids.items()
        )

    def present(self, column: str) -> pl.Series:
        """The distinct ids of a column that have an event."""
        return self.ids[column].filter(pl.Series(self._has_event(column)))

    def count(self, column: str) -> int:
        """How many distinct ids of a column have an event."""
        return int(self._has_event(column).sum())

    def with_ids_as_text(self, column: str) -> CodedEvents:
        """The same log with the ids of a column as text."""
        return replace(self, ids={**self.ids, column: self.ids[column].cast(pl.String)})

    def with_values(self, column: pl.Series) -> CodedEvents:
        """The same log with another column of values that are no ids."""
        return replace(self, table=self.table.with_columns(column))

    def take(self, rows: pl.Series) -> CodedEvents:
        """The events of some rows."""
        return replace(self, table=self.table[rows])

    def head(self, events: int) -> CodedEvents:
        """The first events, at most so many."""
        return replace(self, table=self.table.head(events))

    def where(self, column: str, is_kept: pl.Series, *, missing: bool = True) -> CodedEvents:
        """The events whose id is kept.

        Args:
            column: Out of ``ID_COLUMNS``.
            is_kept: Boolean, one value for each of the distinct ids.
            missing: Whether events without an id are kept.
        """
        are_kept = is_kept.gather(self.table[column]).fill_null(missing)
        return self if are_kept.all() else replace(self, table=self.table.filter(are_kept))

    def _has_event(self, column: str) -> NDArray[np.bool_]:
        found = np.zeros(len(self.ids[column]), dtype=np.bool_)
        found[self.table[column].drop_nulls().to_numpy()] = True
        return found


def as_categories(column: pl.Series, categories: pl.Categories) -> pl.Series:
    """Text as a Categorical column, which holds 4 bytes a row."""
    slices = (column.slice(start, _SLICE) for start in range(0, max(len(column), 1), _SLICE))
    kind = pl.Categorical(categories)
    return pl.concat([part.cast(pl.String).cast(kind) for part in slices], rechunk=True)


def _coded(column: pl.Series, read: Callable[..., pl.Series]) -> tuple[pl.Series, pl.Series]:
    """Codes of a column, and the distinct ids."""
    is_coded = isinstance(column.dtype, (pl.Categorical, pl.Enum))
    named = column if is_coded else read(column)
    categories = named if is_coded else as_categories(named, pl.Categories.random())
    places = categories.to_physical().cast(pl.UInt32)
    rows = np.arange(len(places), dtype=np.uint32)
    if places.null_count():
        rows = rows[places.is_not_null().to_numpy()]
    found = places.drop_nulls().to_numpy()
    row_of = np.full(int(found.max()) + 1 if len(found) else 0, -1)
    row_of[found] = rows
    used = np.flatnonzero(row_of >= 0)
    ids = named.gather(row_of[used])
    if is_coded:
        ids = read(ids.cast(pl.String), pl.Series(np.bincount(found)[used]))
    kept = used[ids.is_not_null().to_numpy()]
    ids = ids.drop_nulls().alias(column.name)
    if len(kept) == len(row_of):
        return places.alias(column.name), ids
    code_of = np.zeros(len(row_of), dtype=np.uint32)
    code_of[kept] = np.arange(len(kept))
    is_missing = np.ones(len(row_of), dtype=np.bool_)
    is_missing[kept] = False
    codes = pl.Series(code_of).set(pl.Series(is_missing), None).gather(places)
    return codes.alias(column.name), ids
