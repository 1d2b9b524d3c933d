"""RecBole's atomic files: tab-separated, with the type of each column in the header.

``NAME.inter`` holds events and ``NAME.item`` items; columns are named such as ``user_id:token`` or
``genre:token_seq``, a sequence divided by blanks (https://recbole.io/docs/user_guide/data/).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from baselines.data.sources.columns import event_columns, item_columns
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.contract import Note, RawTables, SourceReader
from baselines.data.sources.files import kind_of, read_file, with_typed_ids


class RecBole(SourceReader):
    """A ``.inter`` file, or a folder with one and perhaps a ``.item`` file."""

    @classmethod
    def recognises(cls, source: Path) -> bool:
        """Whether it is a ``.inter`` file, or a folder with one."""
        return bool(_inter_files(source))

    def read(self, source: Path, config: SourceConfig) -> RawTables:
        """Read the files; raises as ``SourceReader.read``."""
        found = _inter_files(source)
        if len(found) != 1:
            names = ", ".join(path.name for path in found) or "none"
            raise ValueError(f"{source}: expected one file .inter, got {names}; name one")
        notes: list[Note] = []
        events = event_columns(_typed(found[0], config, notes), config.columns, found[0], notes)
        given = found[0].with_name(found[0].name.replace(".inter", ".item"))
        path = given if config.items is None else Path(config.items)
        items = None
        if path.exists() or config.items is not None:
            items = item_columns(_typed(path, config, notes), config.columns, path, notes)
            if isinstance(items.schema.get("title"), pl.List):
                items = items.with_columns(pl.col("title").list.join(" "))
            items = with_typed_ids(items, path)
        return RawTables(events=with_typed_ids(events, found[0]), items=items, notes=notes)


def _inter_files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source] if kind_of(source) == ".inter" else []
    return sorted(path for path in source.iterdir() if kind_of(path) == ".inter")


def _typed(path: Path, config: SourceConfig, notes: list[Note]) -> pl.DataFrame:
    """A table with its columns' types taken out of their names, and sequences as lists."""
    table = read_file(path, config, notes)
    if not all(":" in name for name in table.columns):
        raise ValueError(
            f"{path}: expected a type in each column's name, such as user_id:token, got "
            f"{', '.join(table.columns)}; write the types, or rename the file to end in .tsv"
        )
    typed = []
    for column in table:
        name, _, kind = column.name.rpartition(":")
        entries = column.str.split(" ") if kind.endswith("_seq") else column
        typed.append(entries.alias(name))
    return pl.DataFrame(typed)
