"""Settings of reading data that is not in the plain layout."""

from __future__ import annotations

from dataclasses import dataclass, field

from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class ColumnNames:
    """Names of columns in the source; None to guess each from common names.

    Attributes:
        user: Ids of users.
        item: Ids of items, in the events and in the table of items.
        time: Time of an event, or its position in the user's history.
        rating: Rating of an event.
        title: Title of an item.
        categories: Categories or genres of an item.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    rating: str | None = None
    title: str | None = None
    categories: str | None = None

    def __post_init__(self) -> None:
        require_types(self)


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How a source is read; what is None is detected and reported.

    Attributes:
        format: ``tables`` (parquet, CSV, JSON lines), ``recbole``, ``sequences`` (S3-Rec, P5),
            ``letter`` (LETTER, LC-Rec, MiniOneRec), ``completejourney``, or a reader of your own as
            ``package.module:Class``.
        items: File with the table of items, if the source is a file of events.
        columns: Names of columns.
        delimiter: Character or characters between the cells of a text file.
        encoding: Encoding of text files.

    Raises:
        ValueError: If the delimiter is empty.
    """

    format: str | None = None
    items: str | None = None
    columns: ColumnNames = field(default_factory=ColumnNames)
    delimiter: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        if self.delimiter == "":
            raise ValueError("delimiter must be at least one character, got none")
