"""Data sets of Hugging Face's ``datasets``: folders that it saved, and names on the Hub.

``save_to_disk`` writes Arrow files with ``state.json`` beside them, or a folder of these for each
split with ``dataset_dict.json``; pyarrow reads them. Names on the Hub need the package itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from baselines.data.sources.columns import event_columns, item_columns
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables, SourceReader
from baselines.data.sources.files import read_file
from baselines.data.sources.tables import names_items
from semid.json_files import load_record

_STATE, _SPLITS = "state.json", "dataset_dict.json"


class HuggingFace(SourceReader):
    """A folder that ``save_to_disk`` wrote, of one split or of several."""

    @classmethod
    def recognises(cls, source: Path) -> bool:
        """Whether it is a folder with the files that describe one."""
        return (source / _SPLITS).is_file() or _is_saved(source)

    def read(self, source: Path, config: SourceConfig) -> RawTables:
        """Read the Arrow files; raises as ``SourceReader.read``."""
        if _is_saved(source):
            return of_splits({source.name: _read_saved(source)}, source, config)
        names = load_record(source / _SPLITS, splits=list)["splits"]
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{source / _SPLITS}: expected names of splits, got {names!r:.80}")
        return of_splits({name: _read_saved(source / name) for name in names}, source, config)


def from_hub(name: str, config: SourceConfig) -> RawTables:
    """Raw tables of ``hf:OWNER/NAME`` or ``hf:OWNER/NAME:CONFIGURATION``.

    Raises:
        ValueError: If the package ``datasets`` is not installed, or the set cannot be loaded.
    """
    repository, _, configuration = name.removeprefix("hf:").partition(":")
    try:
        from datasets import load_dataset  # type: ignore[import-not-found]
    except ImportError:
        raise ValueError(
            f"{name} is loaded by the package datasets, which is not installed here; "
            "pip install datasets"
        ) from None
    try:
        loaded = load_dataset(repository, configuration or None)
        splits = {split: rows.with_format("arrow")[:] for split, rows in loaded.items()}
    except Exception as error:  # of the network, the Hub, or the files there
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{name} cannot be loaded from the Hub ({reason:.300}). Where there "
            "is a network, save it by load_dataset(...).save_to_disk, and name that folder"
        ) from None
    return of_splits({split: _frame(table) for split, table in splits.items()}, Path(name), config)


def of_splits(splits: dict[str, pl.DataFrame], where: Path, config: SourceConfig) -> RawTables:
    """Raw tables of splits: one that is named as items are holds the items, all others events.

    Raises:
        ValueError: If there is no split of events, several are of items, or a column is missing.
    """
    notes: list[Note] = []
    of_items = [name for name in splits if len(splits) > 1 and names_items(name)]
    of_events = [name for name in splits if name not in of_items]
    if len(of_items) > 1 or not of_events:
        raise ValueError(
            f"{where}: expected splits of events and at most one of items, got {', '.join(splits)}"
        )
    if len(of_events) > 1:
        says = f"{where.name}: splits {', '.join(of_events)} put together"
        notes.append(Note(kind="guessed", says=says))
    try:
        events = pl.concat([splits[name] for name in of_events], how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{where}: expected the same columns in all splits ({error})") from None
    events = event_columns(events, config.columns, where, notes)
    items: pl.DataFrame | None = None
    if config.items is not None:
        path = Path(config.items)
        table = read_file(path, config, notes, config.items_header)
        items = item_columns(table, config.columns, path, notes)
    elif of_items:
        items = item_columns(splits[of_items[0]], config.columns, where / of_items[0], notes)
    return RawTables(events=events, items=items, notes=notes)


def _is_saved(folder: Path) -> bool:
    return (folder / _STATE).is_file() and any(folder.glob("*.arrow"))


def _read_saved(folder: Path) -> pl.DataFrame:
    """The table of a split, from the files that ``state.json`` lists."""
    from pyarrow import ArrowException, concat_tables, ipc, memory_map

    path = folder / _STATE
    files = load_record(path, _data_files=list)["_data_files"]
    names = [str(file.get("filename")) for file in files if isinstance(file, dict)]
    if not 0 < len(names) == len(files) or any(name != Path(name).name for name in names):
        raise ValueError(f"{path}: expected names of files in _data_files, got {files!r:.80}")
    tables = []
    for name in names:
        try:
            with memory_map(str(folder / name)) as data, ipc.open_stream(data) as stream:
                tables.append(stream.read_all())
            tables[-1].validate(full=True)
            tables[-1].schema.to_string()  # raises on names that are not UTF-8
        except (ArrowException, OSError, UnicodeDecodeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(f"{folder / name} cannot be read: {reason}") from None
    try:
        return _frame(concat_tables(tables, promote_options="permissive"))
    except ArrowException as error:
        raise ValueError(f"{folder}: expected the same columns in its files ({error})") from None


def _frame(table: Any) -> pl.DataFrame:
    return pl.DataFrame(table.replace_schema_metadata())
