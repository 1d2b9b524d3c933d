"""From a source to a folder in the plain layout, with a record of every decision."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from baselines.data.preparing.coded import CodedEvents
from baselines.data.preparing.config import PreparationConfig
from baselines.data.preparing.events import EXAMPLES, LeftOut
from baselines.data.preparing.items import is_among, prepare
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables, names_taken
from baselines.data.sources.odd_values import odd_times, with_points
from baselines.data.sources.reading import SourceTables, consistent, read_source
from semid.atomic import atomic_dir
from semid.columns import as_times, note_near_equal
from semid.provenance import hash_file

DATA_FILE = "data.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainTables:
    """A data set ready to be written in the plain layout.

    Attributes:
        log: ``user_id``, ``item_id``, ``timestamp`` or ``position``, and ``rating`` if known.
        items: ``item_id`` and texts, in the row order of the source.
        notes: Everything that was guessed, repaired, left out, or is unusual but kept.
        counts: Numbers of events, users and items, as read and as kept.
    """

    log: CodedEvents
    items: pl.DataFrame
    notes: list[Note]
    counts: dict[str, int]

    @cached_property
    def events(self) -> pl.DataFrame:
        """The events with their ids."""
        return self.log.decoded()

    def write(self, folder: str | Path, made_from: dict[str, Any]) -> None:
        """Write both tables and ``data.json``; the folder appears complete or not at all.

        Args:
            folder: A new or empty folder.
            made_from: What else is recorded, such as the source and the settings.

        Raises:
            FileExistsError: If the folder holds something.
        """
        tables = {"items.parquet": self.items, "interactions.parquet": self.log.decoded()}
        write_tables(folder, tables, {**made_from, "counts": self.counts}, self.notes)


def write_tables(
    folder: str | Path,
    tables: dict[str, pl.DataFrame],
    made_from: dict[str, Any],
    notes: list[Note],
) -> None:
    """Write tables by the names of their files, and ``data.json``, as ``PlainTables.write``."""
    with atomic_dir(folder) as filling:
        for name, table in tables.items():
            _write_parquet(table, filling / name)
        record = {
            "format": 1,
            **made_from,
            "notes": [asdict(note) for note in notes],
            "sha256": {name: hash_file(filling / name) for name in tables},
        }
        text = json.dumps(record, indent=2, ensure_ascii=False, default=str)
        (filling / DATA_FILE).write_text(text + "\n", encoding="utf-8")


def _write_parquet(table: pl.DataFrame, path: Path) -> None:
    """Write a table; raises ``OSError`` if the system refuses, as on a full disk."""
    try:
        table.rechunk().write_parquet(path)
    except pl.exceptions.ComputeError as error:
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            code = int(number[1])
            raise OSError(code, os.strerror(code), str(path)) from None
        raise


def prepare_source(
    source: str | Path,
    config: SourceConfig,
    preparation: PreparationConfig,
    time_format: str | None = None,
) -> PlainTables:
    """Read a source as ``read_source`` does, and prepare it as ``prepare_tables`` does.

    Raises:
        FileNotFoundError: If there is no such source.
        ValueError: If it cannot be read or has unusable values, or no event is left.
    """
    tables = read_source(source, config, preparation.same_item)
    try:
        return _prepared(tables, preparation, time_format)
    except ValueError as error:
        raise ValueError(f"{source}: {error}{names_taken(tables.notes)}") from None


def prepare_tables(
    raw: RawTables, preparation: PreparationConfig, time_format: str | None = None
) -> PlainTables:
    """Leave out what the settings ask for, and items that are left without events.

    Events of items that the table of items lacks are left out first. Items that lose all their
    events are left out; those that never had one stay, unless ``item_core`` is above 1.

    Args:
        raw: The tables.
        preparation: Which events are left out.
        time_format: Format of dates given as text; None to detect it.

    Raises:
        ValueError: If ids or times are unusable, or no event is left.
    """
    return _prepared(consistent(raw, preparation.same_item), preparation, time_format)


def _prepared(
    tables: SourceTables, preparation: PreparationConfig, time_format: str | None
) -> PlainTables:
    notes, events = list(tables.notes), tables.events
    order = "timestamp" if "timestamp" in events.table.columns else "position"
    times = as_times(events.table[order], time_format if order == "timestamp" else None)
    events = events.with_values(times)
    if order == "timestamp":
        notes += odd_times(times)
    if "rating" in events.table.columns:
        events = events.with_values(_ratings(events.table["rating"], notes))
    all_items = pl.concat([tables.items["item_id"], events.ids["item_id"]])
    notes += [*_near_equal(events.ids["user_id"], "user"), *_near_equal(all_items, "item")]
    result = prepare(tables.items, _of_known_items(events, tables.items, notes), preparation)
    kept, items = result.log, result.items
    notes += map(_as_note, result.left_out)
    if result.changed_titles:
        examples = result.title_examples.to_dicts()
        says, count = "titles cleaned or cut", result.changed_titles
        notes.append(Note(kind="repaired", says=says, count=count, examples=examples))
    if unseen := int((~is_among(items["item_id"], kept.present("item_id"))).sum()):
        notes.append(Note(kind="kept", says="items without an event", count=unseen))
    counts = {"events_read": len(events), "events": len(kept)}
    counts |= {"users_read": events.count("user_id"), "users": kept.count("user_id")}
    counts |= {"items_read": tables.items.height, "items": items.height}
    return PlainTables(log=kept, items=items, notes=notes, counts=counts)


def _ratings(column: pl.Series, notes: list[Note]) -> pl.Series:
    """Ratings as Float64; what is no finite number is missing, and noted."""
    ratings = with_points(column, notes).cast(pl.Float64, strict=False)
    if not (is_finite := ratings.is_finite()).all():
        ratings = ratings.set(~is_finite, None)
    if (wrong := column.filter(ratings.is_null() & column.is_not_null())).len():
        notes.append(
            Note(
                kind="repaired",
                says="ratings that are no numbers taken as missing",
                count=len(wrong),
                examples=wrong.head(5).to_frame().to_dicts(),
            )
        )
    return ratings


def _near_equal(ids: pl.Series, kind: str) -> list[Note]:
    says = f"{kind} ids that differ from another only in case, blanks, zeros or Unicode form"
    counts = note_near_equal(ids, kind).values()
    return [Note(kind="kept", says=says, count=count) for count in counts]


def _of_known_items(events: CodedEvents, items: pl.DataFrame, notes: list[Note]) -> CodedEvents:
    is_known = is_among(events.ids["item_id"], items["item_id"])
    unknown = events.where("item_id", ~is_known, missing=False)
    if not len(unknown):
        return events
    examples = unknown.head(EXAMPLES).decoded().to_dicts()
    says = f"events of {unknown.count('item_id')} items that the table of items lacks"
    notes.append(Note(kind="left out", says=says, count=len(unknown), examples=examples))
    known = events.where("item_id", is_known)
    if not len(known):
        raise ValueError(
            f"no event is of an item in the table of items; the events name items such as "
            f"{examples[0]['item_id']!r}, the table such as {items['item_id'][0]!r}; name the "
            "table of these items by --read.items, or its ids by --read.columns.item"
        )
    return known


def _as_note(step: LeftOut) -> Note:
    says = f"{step.step} ({step.events} events; all of {step.users} users and {step.items} items)"
    count = step.events or step.items
    return Note(kind="left out", says=says, count=count, examples=step.examples.to_dicts())
