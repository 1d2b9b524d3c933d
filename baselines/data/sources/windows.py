"""Windows as their publishers lay them out, prepared as the plain layout.

A folder holds ``train*``, perhaps ``valid*``, and ``test*`` tables (TCA4Rec, MSL), or a folder of
each of these names with one table (MiniOneRec).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from baselines.data.dataset import WINDOWS
from baselines.data.plain_layout import is_plain_table, tables_named
from baselines.data.preparing.config import PreparationConfig
from baselines.data.sources.columns import item_columns
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables
from baselines.data.sources.files import is_table, read_file, with_typed_ids
from baselines.data.sources.letter import holds_texts, read_texts
from baselines.data.sources.prepare import write_tables
from baselines.data.sources.reading import consistent
from baselines.data.windows import read_windows
from semid.columns import WHOLE_NUMBER, as_ids
from semid.lists import as_id_lists

_COLUMNS = ("user_id", "history", "item_id", "timestamp")


@dataclass(frozen=True, kw_only=True, eq=False)
class PlainWindows:
    """Windows ready to be written in the plain layout.

    Attributes:
        windows: ``history`` and ``item_id``, and ``user_id`` and ``timestamp`` if known, by part.
        items: ``item_id`` and texts.
        notes: Everything that was guessed, repaired or left out.
        counts: Numbers of events (here windows), users and items, as read and as kept.
    """

    windows: dict[str, pl.DataFrame]
    items: pl.DataFrame
    notes: list[Note]
    counts: dict[str, int]

    def write(self, folder: str | Path, made_from: dict[str, Any]) -> None:
        """Write all tables and ``data.json``, as ``PlainTables.write`` does."""
        tables = {f"{part}.parquet": table for part, table in self.windows.items()}
        record = {**made_from, "counts": self.counts}
        write_tables(folder, {"items.parquet": self.items, **tables}, record, self.notes)


def files_of_windows(source: str | Path) -> dict[str, Path]:
    """The table of each part of windows; empty if they are none, by their names.

    A file in a folder ``train`` is taken with those of its name in ``valid`` and ``test`` beside.

    Raises:
        ValueError: If the folders of the parts hold several tables.
    """
    folder, name = Path(source), None
    if folder.parent.name == "train" and is_plain_table(folder):
        folder, name = folder.parent.parent, folder.name
    if not folder.is_dir():
        return {}
    found = {part: _tables_of(folder, part, name) for part in WINDOWS}
    if not found["train"] or not found["test"]:
        return {}
    if any(len(of) > 1 for of in found.values()):
        if is_table(folder / "train") or not (folder / "train").is_dir():
            return {}
        names = ", ".join(path.name for path in found["train"])
        raise ValueError(
            f"{folder}: expected one table in each of its folders, got {names} in train; name "
            f"one of these, such as {found['train'][0]}, for it and those of its name in test"
        )
    return {part: of[0] for part, of in found.items() if of}


def prepare_windows(
    files: dict[str, Path], config: SourceConfig, preparation: PreparationConfig
) -> PlainWindows:
    """Read windows and the table of their items, ``config.items``; else these are their ids.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If one cannot be read or has no windows, or the settings leave out events.
    """
    if preparation != PreparationConfig(same_item=preparation.same_item):
        raise ValueError(
            f"{files['train']} holds windows, which are used as given: --prepare can leave out "
            "events of a log only; take its options away, except same_item"
        )
    windows = {part: _lists_of_ids(read_windows(path), path) for part, path in files.items()}
    ids = [column for table in windows.values() for column in _ids_of(table)]
    if len({column.dtype for column in ids}) > 1:
        ids = [column.cast(pl.String) for column in ids]
    used = pl.concat(ids).drop_nulls().unique().sort()
    notes: list[Note] = []
    items = None if config.items is None else _items(Path(config.items), config, notes)
    events = pl.DataFrame({"item_id": used}).with_columns(user_id=0, position=0)
    tables = consistent(RawTables(events=events, items=items, notes=notes), preparation.same_item)
    users = [table["user_id"] for table in windows.values() if "user_id" in table.columns]
    counts = {"events": sum(table.height for table in windows.values())}
    counts["users"] = pl.concat(users).n_unique() if users else counts["events"]
    counts["items"] = tables.items.height
    counts |= {f"{name}_read": count for name, count in counts.items()}
    return PlainWindows(windows=windows, items=tables.items, notes=tables.notes, counts=counts)


def _tables_of(folder: Path, part: str, name: str | None) -> list[Path]:
    """The tables of a part; only those of that name in its folder, if there is one."""
    within = folder / part
    if within.is_dir():
        tables = [path for path in sorted(within.iterdir()) if is_plain_table(path)]
        return [path for path in tables if name is None or path.name == name]
    if name is not None:
        return []
    return tables_named(folder, part)


def _lists_of_ids(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """The columns of windows, with histories as lists, of whole numbers if all are."""
    try:
        history = as_id_lists(table["history"], pl.Series([], dtype=pl.String))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    entries = history.explode()
    if entries.dtype == pl.String and entries.str.contains(WHOLE_NUMBER).all():
        history = history.list.eval(pl.element().cast(pl.Int64))
    return table.with_columns(history.alias("history")).select(
        name for name in _COLUMNS if name in table.columns
    )


def _ids_of(table: pl.DataFrame) -> list[pl.Series]:
    histories = table["history"].filter(table["history"].list.len() > 0).explode()
    return [as_ids(histories.alias("item_id")), as_ids(table["item_id"])]


def _items(path: Path, config: SourceConfig, notes: list[Note]) -> pl.DataFrame:
    if holds_texts(path):
        return item_columns(read_texts(path, config, notes), config.columns, path, notes)
    table = read_file(path, config, notes, config.items_header)
    return with_typed_ids(item_columns(table, config.columns, path, notes), path)
