"""The lists of a comparison in the formats of TREC, so that other programs can score them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import polars as pl

from semid.atomic import atomic_write

QRELS = "qrels.txt"


def write_trec(lists: Path, folder: Path) -> list[Path]:
    """Write the test targets as ``qrels.txt``, and a ``.run`` file for each row and seed.

    A query is a test target, by its number from 0. Scores are places from the end of the list, so
    that equal scores of a model stay in its order. Lists hold the best unseen items: they have what
    the metrics with seen items removed need, up to their length.

    Args:
        lists: ``lists.parquet`` of a comparison's folder.
        folder: Folder to write to.

    Returns:
        The run files.

    Raises:
        FileNotFoundError: If the comparison was run by a version that kept no lists.
    """
    if not lists.exists():
        raise FileNotFoundError(
            f"no file {lists}: the comparison was run by an earlier version. Run the same semid "
            "compare once more; nothing is trained again."
        )
    table = pl.read_parquet(lists)
    folder.mkdir(parents=True, exist_ok=True)
    runs = table.partition_by("arm", "seed", maintain_order=True)
    target = _named(runs[0]["target"])
    qrels = pl.DataFrame({"query": range(len(target)), "none": 0, "item": target, "gain": 1})
    atomic_write(folder / QRELS, _lines(qrels))
    paths = []
    for run in runs:
        label, seed = run["arm"][0], run["seed"][0]
        tag = re.sub(r"[^\w.=+@-]+", "_", label) + ("" if seed is None else f"-{seed}")
        paths.append(folder / f"{tag}.run")
        atomic_write(paths[-1], _lines(_ranked(run, tag)))
    return paths


def _ranked(run: pl.DataFrame, tag: str) -> pl.DataFrame:
    """The lines of a run file: query, iteration, item, rank, score, tag."""
    longest = int(run["items"].list.len().max())  # type: ignore[arg-type]
    lines = run.select("items").with_row_index("query").explode("items").drop_nulls("items")
    lines = lines.with_columns(rank=pl.int_range(1, pl.len() + 1).over("query"))
    return lines.select(
        "query",
        pl.lit("Q0").alias("iteration"),
        pl.Series("item", _named(lines["items"])),
        "rank",
        (longest + 1 - pl.col("rank")).alias("score"),
        pl.lit(tag).alias("tag"),
    )


def _named(ids: pl.Series) -> pl.Series:
    """Item IDs as text without blanks, which end a field."""
    text = ids.cast(pl.String)
    return text.str.replace_all("%", "%25", literal=True).str.replace_all(r"\s", "%20")


def _lines(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_csv(buffer, include_header=False, separator=" ", quote_style="never")
    return buffer.getvalue()
