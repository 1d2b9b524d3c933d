"""The files that make the folder of a training a whole model, to be used without anything else."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from baselines.data.sequences import IntArray
from semid.atomic import atomic_dir, atomic_write
from semid.catalog import Catalog
from semid.provenance import ProvenanceError, read_json, read_tensors, write_json, write_tensors

FORMAT = 1
"""Version of the folder's form; one that cannot be read as before gets the next number."""

IDS, PARTNER, TEACHER = "ids", "partner", "teacher"
_CARD, _ITEMS, _COUNTS = "model.json", "items.parquet", "item_counts.safetensors"


def write_card(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``model.json``: what the model is, and which parts its folder holds."""
    write_json(folder / _CARD, {"format": FORMAT, **values})


def read_card(folder: Path) -> dict[str, Any]:
    """What ``write_card`` has written.

    Raises:
        FileNotFoundError: If there is none.
        ProvenanceError: If it was damaged, or is of another version of the format.
    """
    cure = "Copy the whole folder again, or pick the model anew with semid pick."
    values = read_json(folder / _CARD, what_to_do=cure)
    if values is None:
        found = "a folder without it" if folder.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"expected a trained model with its {_CARD} in {folder}, got {found}. Name the folder "
            "of a model that semid train or semid pick has written, or of an arm below a "
            "comparison."
        )
    if (version := values.pop("format", None)) != FORMAT:
        raise ProvenanceError(
            f"expected format {FORMAT} of a model in {folder}, got {version}. Read it with the "
            "version of semid that wrote it, or pick the model anew."
        )
    return values


def has_card(folder: Path) -> bool:
    """Whether the folder of a training was made a whole model."""
    return (folder / _CARD).exists()


def write_items(folder: Path, catalog: Catalog) -> None:
    """Write the items' own ids and texts."""
    buffer = io.BytesIO()
    ids = pl.Series("item_id", catalog.item_ids)
    catalog.fields.select(ids, pl.all()).write_parquet(buffer)
    atomic_write(folder / _ITEMS, buffer.getvalue())


def read_items(folder: Path) -> Catalog:
    """The items of a model.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it cannot be read.
    """
    if not (folder / _ITEMS).exists():
        raise FileNotFoundError(
            f"expected the items of the model in {folder / _ITEMS}, got no such file. "
            "Copy the whole folder again."
        )
    return Catalog.read(folder / _ITEMS)


def write_counts(folder: Path, counts: IntArray) -> None:
    """Write the training events of each item, by which a list without a history begins."""
    write_tensors(folder / _COUNTS, {"counts": torch.from_numpy(counts)})


def read_counts(folder: Path, num_items: int) -> IntArray:
    """The training events of each item; int64 ``(item,)``.

    Raises:
        ProvenanceError: If the file is missing, damaged or of other items.
    """
    found = read_tensors(folder / _COUNTS, what_to_do="Copy the whole folder again.")
    counts = None if found is None else found[0].get("counts")
    if counts is None or len(counts) != num_items:
        raise ProvenanceError(
            f"expected counts of {num_items} items in {folder / _COUNTS}, got "
            f"{'none' if counts is None else len(counts)}. Copy the whole folder again."
        )
    return np.asarray(counts.numpy(), dtype=np.int64)


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder; it appears whole. Its files are shared where the file system can.

    Files of ours are replaced and never changed, so that a shared one stays what it was.
    """
    if source.resolve() == target.resolve():
        return
    with atomic_dir(target) as filling:
        shutil.copytree(source, filling, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
