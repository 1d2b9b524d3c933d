"""``semid data prepare``: from the data people have to the plain layout."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from baselines.cli.config import DataPrepareConfig

if TYPE_CHECKING:
    from rich.console import Console

    from baselines.data.sources.contract import Note


def data_prepare(config: DataPrepareConfig, console: Console) -> None:
    """Turn data in another format into a folder that all commands read."""
    from rich.table import Table

    from baselines.data.sources.prepare import PlainTables, prepare_source
    from baselines.data.sources.windows import PlainWindows, files_of_windows, prepare_windows

    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"expected a new or empty folder, got {out}. Name another by --out.")
    prepared: PlainTables | PlainWindows
    if config.read.format is None and (files := files_of_windows(config.source)):
        prepared = prepare_windows(files, config.read, config.prepare)
    else:
        prepared = prepare_source(config.source, config.read, config.prepare, config.time_format)
    prepared.write(out, {"source": config.source, "settings": asdict(config)})
    for note in prepared.notes:
        console.print(_as_line(note), markup=False, highlight=False)
    table = Table("", "read", "kept")
    for name in ("events", "users", "items"):
        counts = prepared.counts
        table.add_row(name, f"{counts[f'{name}_read']:,}", f"{counts[name]:,}")
    console.print(table)
    console.print(f"data: {out}", markup=False, highlight=False)


def _as_line(note: Note) -> str:
    count = "" if note.count is None else f" ({note.count:,})"
    example = f", such as {note.examples[0]}" if note.examples else ""
    return f"{note.kind}: {note.says}{count}{example if len(example) < 300 else example[:300]}"
