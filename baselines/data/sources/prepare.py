"""From a source to a folder in the plain layout, with a record of every decision."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from baselines.data.preparing.config import PreparationConfig
from baselines.data.preparing.events import LeftOut
from baselines.data.preparing.items import prepare
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables
from baselines.data.sources.odd_values import odd_times, with_points
from baselines.data.sources.reading import consistent, left_out, read_source
from semid.atomic import atomic_dir
from semid.columns import as_times, note_near_equal

DATA_FILE = "data.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainTables:
    """A data set ready to be written in the plain layout.

    Attributes:
        events: ``user_id``, ``item_id``, ``timestamp`` or ``position``, and ``rating`` if known.
        items: ``item_id`` and texts, in the row order of the source.
        notes: Everything that was guessed, repaired, left out, or is unusual but kept.
        counts: Numbers of events, users and items, as read and as kept.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    notes: list[Note]
    counts: dict[str, int]

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of what ``write`` writes as ``items.parquet`` and ``interactions.parquet``."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in self._files.items()}

    def write(self, folder: str | Path, made_from: dict[str, Any]) -> None:
        """Write both tables and ``data.json``; the folder appears complete or not at all.

        Args:
            folder: A new or empty folder.
            made_from: What else is recorded, such as the source and the settings.

        Raises:
            FileExistsError: If the folder holds something.
        """
        record = {
            "format": 1,
            **made_from,
            "counts": self.counts,
            "notes": [asdict(note) for note in self.notes],
            "sha256": self.hashes,
        }
        with atomic_dir(folder) as filling:
            for name, data in self._files.items():
                (filling / name).write_bytes(data)
            text = json.dumps(record, indent=2, ensure_ascii=False, default=str)
            (filling / DATA_FILE).write_text(text + "\n", encoding="utf-8")

    @cached_property
    def _files(self) -> dict[str, bytes]:
        return {
            "items.parquet": _as_parquet(self.items),
            "interactions.parquet": _as_parquet(self.events),
        }


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
    raw = read_source(source, config, preparation.same_item)
    try:
        return prepare_tables(raw, preparation, time_format)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


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
    raw = consistent(raw, preparation.same_item)
    assert raw.items is not None
    notes = list(raw.notes)
    order = "timestamp" if "timestamp" in raw.events.columns else "position"
    times = as_times(raw.events[order], time_format if order == "timestamp" else None)
    events = raw.events.with_columns(times)
    if order == "timestamp":
        notes += odd_times(times)
    if "rating" in events.columns:
        events = events.with_columns(_ratings(events["rating"], notes))
    all_items = pl.concat([raw.items["item_id"], events["item_id"]])
    notes += [*_near_equal(events["user_id"], "user"), *_near_equal(all_items, "item")]
    known = _of_known_items(events, raw.items, notes)
    result = prepare(raw.items, known, preparation)
    kept, items = result.events, result.items
    notes += map(_as_note, result.left_out)
    if result.changed_titles:
        examples = result.title_examples.to_dicts()
        says, count = "titles cleaned or cut", result.changed_titles
        notes.append(Note(kind="repaired", says=says, count=count, examples=examples))
    has_events = pl.col("item_id").is_in(kept["item_id"].unique().implode())
    if unseen := items.filter(~has_events).height:
        notes.append(Note(kind="kept", says="items without an event", count=unseen))
    counts = {"events_read": events.height, "events": kept.height}
    users_read = events["user_id"].drop_nulls().n_unique()
    counts |= {"users_read": users_read, "users": kept["user_id"].n_unique()}
    counts |= {"items_read": raw.items.height, "items": items.height}
    return PlainTables(events=kept, items=items, notes=notes, counts=counts)


def _ratings(column: pl.Series, notes: list[Note]) -> pl.Series:
    """Ratings as Float64; what is no finite number is missing, and noted."""
    ratings = with_points(column, notes).cast(pl.Float64, strict=False)
    ratings = ratings.set(~ratings.is_finite(), None)
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


def _of_known_items(events: pl.DataFrame, items: pl.DataFrame, notes: list[Note]) -> pl.DataFrame:
    is_known = pl.col("item_id").is_in(items["item_id"].implode()) | pl.col("item_id").is_null()
    unknown = events.filter(~is_known)
    if not unknown.height:
        return events
    named = unknown["item_id"].n_unique()
    notes.append(left_out(f"events of {named} items that the table of items lacks", unknown))
    known = events.filter(is_known)
    if not known.height:
        raise ValueError(
            f"no event is of an item in the table of items; the events name items such as "
            f"{unknown['item_id'][0]!r}, the table such as {items['item_id'][0]!r}"
        )
    return known


def _as_note(step: LeftOut) -> Note:
    says = f"{step.step} ({step.events} events; all of {step.users} users and {step.items} items)"
    count = step.events or step.items
    return Note(kind="left out", says=says, count=count, examples=step.examples.to_dicts())


def _as_parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()
