"""The recommended lists of a comparison: all as a table, and those of a few users to read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from baselines.data.dataset import Dataset
from baselines.experiments.comparison import RunRecord
from baselines.experiments.schemes import Scheme
from baselines.models.titles import titles_of
from semid.arrays import IntArray
from semid.atomic import atomic_write
from semid.ids import SemanticIds

LISTS, EXAMPLES = "lists.parquet", "examples.json"
NUM_EXAMPLES = 20
_SHOWN_HISTORY = 20


def write_lists(
    records: Sequence[RunRecord], dataset: Dataset, users: Sequence[str | int], path: Path
) -> None:
    """Write the best unseen items of every row, seed and test target as one parquet table.

    Columns: ``user``, ``arm``, ``seed`` (null if nothing is random), ``target`` and ``items``, the
    item IDs of the list, best first.

    Args:
        records: Runs over the same users.
        dataset: Their data.
        users: The user ID of each test target.
        path: The file to write, atomically.
    """
    test = dataset.splits.test
    ids = pl.Series(dataset.catalog.item_ids)
    target = ids[test.items[test.targets()[1]]]
    frames = []
    for record, top in ((record, record.top) for record in records):
        if top is None:
            continue
        rows = pl.Series(top.ravel())
        items = ids[rows.replace(-1, 0)].zip_with(rows >= 0, pl.Series([None], dtype=ids.dtype))
        frame = pl.DataFrame({"user": users, "target": target})
        frames.append(
            frame.select(
                "user",
                pl.lit(record.arm).alias("arm"),
                pl.lit(record.seed, dtype=pl.Int64).alias("seed"),
                "target",
                items.reshape(top.shape).arr.to_list().list.drop_nulls().alias("items"),
            )
        )
    buffer = io.BytesIO()
    pl.concat(frames).write_parquet(buffer)
    atomic_write(path, buffer.getvalue())


def examples(
    records: Sequence[RunRecord],
    dataset: Dataset,
    users: Sequence[str | int],
    ids: Mapping[Scheme, SemanticIds],
) -> dict[str, Any]:
    """The histories and lists of the users whose IDs have the smallest hashes.

    The choice depends on no result, and stays when rows are added.

    Args:
        records: Runs over the same users; of each row, the first one with lists is shown.
        dataset: Their data.
        users: The user ID of each test target.
        ids: The semantic IDs of each scheme.

    Returns:
        JSON values: ``users``, each with ``user``, ``history`` (its last items, oldest first),
        ``earlier`` (the number of items before those), ``target`` and ``lists`` by row, all items
        as catalogue rows; ``seeds`` by row; and ``items`` by row, each with ``id``, ``title`` and
        ``codes`` by name of the scheme ("" for the comparison's own).
    """
    shown = {record.arm: record for record in reversed(records) if record.top is not None}
    rows = [record.arm for record in records if record is shown.get(record.arm)]
    test = dataset.splits.test
    sequence, event = test.targets()
    found = []
    for number in _chosen(users):
        history = test.items[test.offsets[sequence[number]] : event[number]]
        found.append(
            {
                "user": users[number],
                "history": history[-_SHOWN_HISTORY:].tolist(),
                "earlier": max(0, len(history) - _SHOWN_HISTORY),
                "target": int(test.items[event[number]]),
                "lists": {row: _listed(shown[row].top, number) for row in rows},
            }
        )
    named = {
        item
        for one in found
        for items in (one["history"], [one["target"]], *one["lists"].values())
        for item in items
    }
    titles = titles_of(dataset.catalog)
    return {
        "users": found,
        "seeds": {row: shown[row].seed for row in rows},
        "items": {
            str(item): {
                "id": dataset.catalog.item_ids[item],
                "title": titles[item],
                "codes": {scheme.name or "": of.codes[item].tolist() for scheme, of in ids.items()},
            }
            for item in sorted(named)
        },
    }


def _chosen(users: Sequence[str | int]) -> list[int]:
    """The first target of each of the users whose IDs have the smallest SHA-256."""
    first: dict[str | int, int] = {}
    for number, user in enumerate(users):
        first.setdefault(user, number)
    by_hash = sorted(first, key=lambda user: hashlib.sha256(str(user).encode()).digest())
    return [first[user] for user in by_hash[:NUM_EXAMPLES]]


def _listed(top: IntArray | None, number: int) -> list[int]:
    assert top is not None
    of_user: IntArray = np.asarray(top[number])
    return [int(item) for item in of_user if item >= 0]
