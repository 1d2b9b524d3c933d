"""Read data sets, and write the plain layout."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import numpy as np
import polars as pl

from baselines.data.config import ColdStart, Repeats, Split, Ties, require_split, source_kind
from baselines.data.dataset import WINDOWS, Dataset, split_interactions
from baselines.data.interactions import EventOptions, Interactions
from baselines.data.left_out import ALARMING, data_notes, share_left_out
from baselines.data.plain_layout import only_table, read_table, tables_named
from baselines.data.preparing.config import PreparationConfig
from baselines.data.readers import as_dataset, read_by
from baselines.data.sources.config import SourceConfig
from baselines.data.sources.reading import read_source, recognises
from baselines.data.sources.windows import files_of_windows, prepare_windows
from baselines.data.splits import given_windows
from semid.catalog import Catalog
from semid.provenance import atomic_write

logger = logging.getLogger(__name__)


def load_catalog(source: str | Path) -> Catalog:
    """Load only the items of a source of ``load_dataset``; raises as it does."""
    if source_kind(source) != "folder" or _windows_alone(source) or _is_foreign(Path(source)):
        return load_dataset(source).catalog
    return _catalog(Path(source))


def has_events(source: str | Path) -> bool:
    """Whether ``load_dataset`` would find more than items: false for a folder of items alone."""
    if source_kind(source) != "folder" or _windows_alone(source) or _is_foreign(Path(source)):
        return True
    return any(tables_named(Path(source), name) for name in ("interactions", "train"))


def load_dataset(
    source: str | Path,
    *,
    split: Split = "auto",
    ties: Ties = "file",
    repeats: Repeats = "keep",
    time_format: str | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a folder in the plain layout or another format, a world, or the result of a reader.

    The plain layout is ``items.*`` (column ``item_id`` and text columns) along with either
    ``interactions.*`` (``user_id``, ``item_id``, and ``timestamp`` or ``position``) or windows in
    ``train*.*``, ``valid*.*``, ``test*.*`` (``history``, ``item_id``; without ``valid*.*``, see
    ``given_windows``); each a parquet, CSV or JSON-lines file, plain or compressed. Windows without
    ``items.*`` are those of ``files_of_windows``, and their items the ids in them. What was left
    out, and what is unusual but kept, is in ``dropped``, ``noted`` and ``statistics`` of the
    result, and is logged.

    Args:
        source: The folder, or a file or folder that ``read_source`` reads with its default
            settings; or ``"synthetic"``, or ``"synthetic:1200x400"`` for that many users and
            items; or ``"package.module:function"``, see ``baselines.data.readers``.
        split: ``"auto"`` is leave-one-out if there are interactions, else the given windows.
            ``"cold:0.5"`` is leave-one-out with half of the items taken out of training, see
            ``cold_start``; ``"cold:0.5:1"`` draws others.
        ties: Order of a user's simultaneous events, see ``Interactions.from_table``.
        repeats: Treatment of events that equal an earlier one, see there.
        time_format: Format of dates given as text, such as ``"%d/%m/%Y"``; None to detect it.
        seed: Seed of shuffled ties and of the synthetic world.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a file that the split needs is missing or has unusable values; for a
            reader, as in ``read_by``.
    """
    require_split(split)
    kind = source_kind(source)
    if kind == "synthetic":
        return _synthetic(str(source), split, ties, seed)
    options = EventOptions(ties=ties, repeats=repeats, time_format=time_format, seed=seed)
    if kind == "reader":
        return _logged(read_by(str(source), split, **options))
    if files := _windows_alone(source):
        tables = prepare_windows(files, SourceConfig(), PreparationConfig())
        catalog = Catalog.from_table(tables.items, source=f"items of {source}")
        return _logged(_of_windows(Path(source), files, catalog, split, options))
    if kind in ("file", "installed", "public", "hub") or _is_foreign(Path(source)):
        raw = read_source(source, SourceConfig())
        name = Path(source).resolve().name
        for note in raw.notes:
            logger.info("%s, %s: %s", name, note.kind, note.says)
        return _logged(as_dataset((raw.items, raw.events.decoded()), name, split, **options))
    return _logged(_read_folder(Path(source), split, options))


def _is_foreign(folder: Path) -> bool:
    """Whether a folder is in another format than the plain layout, which may name its items so."""
    plain = ("interactions", *WINDOWS)
    return not any(tables_named(folder, name) for name in plain) and recognises(folder)


def _windows_alone(source: str | Path) -> dict[str, Path]:
    """The table of each part of windows that have no table of items; empty if it holds others."""
    has_items = Path(source).is_dir() and tables_named(Path(source), "items")
    return {} if has_items else files_of_windows(source)


def _catalog(folder: Path) -> Catalog:
    path = only_table(folder, "items")
    return Catalog.from_table(read_table(path, ids=("item_id",)), source=str(path))


def _read_folder(folder: Path, split: Split, options: EventOptions) -> Dataset:
    catalog = _catalog(folder)
    has_windows = any(tables_named(folder, name) for name in WINDOWS)
    takes_windows = has_windows and not tables_named(folder, "interactions")
    if split == "windows" or (takes_windows and (split == "auto" or ColdStart.parse(split))):
        files = {name: only_table(folder, name) for name in ("train", "test")}
        if tables_named(folder, "valid"):
            files["valid"] = only_table(folder, "valid")
        return _of_windows(folder, files, catalog, split, options)
    interactions = Interactions.read(only_table(folder, "interactions"), catalog, **options)
    return Dataset(
        name=folder.resolve().name,
        catalog=catalog,
        splits=split_interactions(interactions, split),
        interactions=interactions,
    )


def _of_windows(
    source: Path, files: dict[str, Path], catalog: Catalog, split: Split, options: EventOptions
) -> Dataset:
    if split not in ("auto", "windows"):
        raise ValueError(
            f"split {split} takes items out of a log, or divides it, but the windows in {source} "
            "are used as given. Leave it out, or give interactions."
        )
    if (repeats := options["repeats"]) != "keep":
        raise ValueError(
            f"repeats {repeats!r} drops events of a log, but the windows in {source} are used as "
            f"given; leave it out"
        )
    splits = given_windows(
        files["train"],
        files.get("valid"),
        files["test"],
        catalog,
        time_format=options["time_format"],
    )
    return Dataset(name=source.resolve().name, catalog=catalog, splits=splits, interactions=None)


def _logged(dataset: Dataset) -> Dataset:
    """Log what was left out and what is unusual, and return the data set."""
    level = logging.WARNING if share_left_out(dataset) >= ALARMING else logging.INFO
    for heading, words in data_notes(dataset).items():
        logger.log(level, "%s, %s: %s", dataset.name, heading, words)
    return dataset


def _synthetic(source: str, split: Split, ties: Ties, seed: int) -> Dataset:
    from baselines.data.synthetic import synthetic_dataset

    sizes = [int(size) for size in re.findall(r"\d+", source)] or [2000, 500]
    num_users, num_items = sizes
    return synthetic_dataset(
        num_users=num_users, num_items=num_items, seed=seed, split=split, ties=ties
    )


def write_plain_layout(dataset: Dataset, folder: str | Path) -> None:
    """Write ``items.parquet`` and ``interactions.parquet`` for ``load_dataset``.

    Rows keep the order of the data set, so that ``ties="file"`` restores it. The folder is created
    if needed; other files in it are left alone.

    Raises:
        ValueError: If the data set has windows and no interactions.
    """
    interactions = dataset.interactions
    if interactions is None:
        raise ValueError(f"{dataset.name} has windows and no interactions to write")
    users = pl.Series(interactions.user_ids).gather(interactions.users)
    items = pl.Series(dataset.catalog.item_ids)
    if interactions.times is None:
        position = np.arange(len(interactions)) - interactions.offsets[interactions.users]
        order = pl.Series("position", position)
    else:
        order = pl.Series("timestamp", interactions.times)
    tables = {
        "items": dataset.catalog.fields.select(items.alias("item_id"), pl.all()),
        "interactions": pl.DataFrame(
            [users.alias("user_id"), items.gather(interactions.items).alias("item_id"), order]
        ),
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        atomic_write(Path(folder) / f"{name}.parquet", buffer.getvalue())
