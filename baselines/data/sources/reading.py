"""Read a source of any format, found by its looks or its name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from baselines.data.config import source_kind
from baselines.data.preparing.coded import CodedEvents
from baselines.data.preparing.config import SameItem
from baselines.data.public_sets import PUBLIC_SETS, downloaded
from baselines.data.sources.changes import unchanged
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables, SourceReader, names_taken
from baselines.data.sources.frames import from_reader
from baselines.data.sources.huggingface import from_hub
from baselines.data.sources.installed import folder_of, is_installed
from semid.columns import as_ids
from semid.registry import load_class

READERS = {
    "recbole": "baselines.data.sources.recbole:RecBole",
    "completejourney": "baselines.data.sources.completejourney:CompleteJourney",
    "datasets": "baselines.data.sources.huggingface:HuggingFace",
    "letter": "baselines.data.sources.letter:Letter",
    "sequences": "baselines.data.sources.sequences:Sequences",
    "tables": "baselines.data.sources.tables:Tables",
}
"""Class of each format by name; a source is of the first that recognises it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceTables:
    """Events and items whose ids are of one type.

    Attributes:
        events: As in ``RawTables``.
        items: One row for each item: ``item_id`` and texts.
        notes: What was decided.
    """

    events: CodedEvents
    items: pl.DataFrame
    notes: list[Note]


_ROW = "__row"


def recognises(source: Path) -> bool:
    """Whether some format recognises a file or folder."""
    return _recognised(source) is not None


def read_source(
    source: str | Path, config: SourceConfig, same_item: SameItem = "refuse"
) -> SourceTables:
    """Read events and items, as ``consistent`` makes them.

    Args:
        source: A file or folder, a name out of ``INSTALLED`` or ``PUBLIC_SETS``, a name on the
            Hub such as ``hf:OWNER/NAME``, or a function ``package.module:function``, see
            ``baselines.data.readers``.
        config: How it is read.
        same_item: What becomes of differing rows of one item, as in ``PreparationConfig``.

    Raises:
        FileNotFoundError: If there is no such source.
        ValueError: If no format recognises it, it cannot be read, or rows of one item differ and
            none is to be kept.
    """
    kind = source_kind(source)
    if kind == "synthetic":
        raise ValueError(f"{source} is generated: there is nothing to read. Use it as it is.")
    if kind == "reader":
        raw = from_reader(str(source), config.columns)
    elif kind == "hub":
        raw = from_hub(str(source), config)
    else:
        raw = _read_path(_place(source), config)
    try:
        return consistent(raw, same_item)
    except ValueError as error:
        raise ValueError(f"{source}: {error}{names_taken(raw.notes)}") from None


def _place(source: str | Path) -> Path:
    """Where the files of a source are; a public set is downloaded first, unless it is installed."""
    name, kind = str(source), source_kind(source)
    if kind == "public" or (name in PUBLIC_SETS and kind == "installed" and not is_installed(name)):
        return downloaded(name)
    return folder_of(name) if kind == "installed" else Path(source)


def _read_path(source: Path, config: SourceConfig) -> RawTables:
    name = config.format or _recognised(source)
    if name is None:
        raise ValueError(
            f"{source}: expected data in a format out of {', '.join(READERS)}, got "
            f"{_contents(source)}; name the file of events, or the format by --read.format"
        )
    with unchanged(source, *([] if config.items is None else [Path(config.items)])):
        raw = _reader(name)().read(source, config)
    if config.format is not None:
        return raw
    return replace(raw, notes=[Note(kind="guessed", says=f"format: {name}"), *raw.notes])


def consistent(raw: RawTables, same_item: SameItem = "refuse") -> SourceTables:
    """Tables whose ids are of one type, with a row for each item.

    Without a table of items, it holds the ids of the events in ascending order. Items repeated in
    equal rows are there once, and rows without an id are left out.

    Raises:
        ValueError: If ids are neither whole numbers nor text, or rows of one item differ and none
            is to be kept.
    """
    events, notes = CodedEvents.of(raw.events), list(raw.notes)
    of_events = events.ids["item_id"]
    if raw.items is None:
        items = of_events.sort().to_frame()
        notes.append(Note(kind="guessed", says="items: those of the events", count=len(items)))
        return SourceTables(events=events, items=items, notes=notes)
    items = raw.items.with_columns(as_ids(raw.items["item_id"]))
    if items["item_id"].dtype != of_events.dtype:
        events = events.with_ids_as_text("item_id")
        items = items.with_columns(pl.col("item_id").cast(pl.String))
    return SourceTables(events=events, items=_distinct(items, same_item, notes), notes=notes)


def _reader(name: str) -> type[SourceReader]:
    return load_class(
        name,
        READERS,
        SourceReader,  # type: ignore[type-abstract]
        what="format",
        advice="Derive it from SourceReader.",
    )


def _recognised(source: Path) -> str | None:
    return next((name for name in READERS if _reader(name).recognises(source)), None)


def _contents(source: Path) -> str:
    if not source.is_dir():
        return f"a file named {source.name}"
    names = sorted(path.name for path in source.iterdir())
    return f"a folder with {', '.join(names[:10]) or 'nothing'}"


def _distinct(items: pl.DataFrame, same_item: SameItem, notes: list[Note]) -> pl.DataFrame:
    """One row for each item, and none without an id."""
    numbered = items.with_row_index(_ROW)
    nameless = items.filter(pl.col("item_id").is_null())
    if nameless.height:
        notes.append(left_out("items without an id", nameless))
        numbered = numbered.filter(pl.col("item_id").is_not_null())
        items = numbered.drop(_ROW)
    if not items.height:
        raise ValueError(
            "expected an id of an item in each row of the table of items, got none; name the "
            "column of ids by --read.columns.item"
        )
    if not items["item_id"].is_duplicated().any():
        return items
    first = numbered.unique(items.columns, maintain_order=True, keep="first")
    if first.height < items.height:
        repeated = items.filter(~numbered[_ROW].is_in(first[_ROW].implode()))
        notes.append(replace(left_out("items repeated in equal rows", repeated), kind="repaired"))
    twice = first.filter(pl.col("item_id").is_duplicated())
    distinct = first.drop(_ROW)
    if not twice.height:
        return distinct
    if same_item == "refuse":
        raise ValueError(_differing(twice))
    is_kept = getattr(pl.col("item_id"), f"is_{same_item}_distinct")()
    others = distinct.filter(~is_kept)
    says = f"rows that differ from the {same_item} of their item, which is kept"
    notes.append(left_out(says, others))
    return distinct.filter(is_kept)


def _differing(twice: pl.DataFrame) -> str:
    item = twice["item_id"][0]
    one, other = twice.filter(pl.col("item_id") == item).rows(named=True)[:2]
    rows = (one.pop(_ROW), other.pop(_ROW))
    column = next(name for name in one if one[name] != other[name])
    return (
        f"expected one row for each item, got {item!r} with {column} {one[column]!r:.60} in row "
        f"{rows[0]} and {other[column]!r:.60} in row {rows[1]} (counted from 0); keep one of them, "
        "or say which by --prepare.same_item first or last"
    )


def left_out(says: str, rows: pl.DataFrame) -> Note:
    """A note about rows that were left out, with the first of them."""
    return Note(kind="left out", says=says, count=rows.height, examples=rows.head(5).to_dicts())
