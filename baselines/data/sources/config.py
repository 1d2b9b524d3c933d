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
            ``letter`` (LETTER, LC-Rec, MiniOneRec), ``datasets`` (saved by Hugging Face's),
            ``completejourney``, or a reader of your own as ``package.module:Class``.
        items: File with the table of items, if the source is a file of events.
        header: Names of the columns of delimited events that have no line with them.
        items_header: Likewise, of the table of items.
        columns: Names of columns.
        delimiter: Character or characters between the cells of a text file.
        encoding: Encoding of text files.

    Raises:
        ValueError: If the delimiter is empty, or a header is empty or names a column twice.
    """

    format: str | None = None
    items: str | None = None
    header: tuple[str, ...] | None = None
    items_header: tuple[str, ...] | None = None
    columns: ColumnNames = field(default_factory=ColumnNames)
    delimiter: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        if self.delimiter == "":
            raise ValueError("delimiter must be at least one character, got none")
        for role in ("header", "items_header"):
            names = getattr(self, role)
            if names is not None and (not all(names) or len(set(names)) < max(len(names), 1)):
                raise ValueError(f"{role} must name each column once, got {', '.join(names)!r}")
