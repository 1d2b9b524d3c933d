"""Recommendations under Spark: spark_recommend.py --model FOLDER --histories IN --out OUT.

``mapInPandas`` with the function of rows that ``semid recommend`` runs. The model's folder must be
at the same place on all machines. It is loaded once per partition, so a few large ones are best.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa

from baselines.models.recommender import Recommender
from baselines.models.rows import RecommendRows, Request


def recommended(frames: Iterator[Any], model: str, k: int) -> Iterator[Any]:
    """What ``mapInPandas`` calls: frames of histories in, frames of lists out."""
    lists = RecommendRows(Recommender.from_pretrained(model), Request(k=k, empty="popular"))
    for frame in frames:
        yield lists(pa.Table.from_pandas(frame, preserve_index=False)).to_pandas()


def main(argv: list[str] | None = None) -> int:
    """Read histories from parquet, recommend, and write parquet."""
    from pyspark.sql import SparkSession

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a trained model")
    parser.add_argument("--histories", required=True, help="parquet with user_id and history")
    parser.add_argument("--out", required=True, help="folder of parquet files to write")
    parser.add_argument("--k", type=int, default=10)
    args = parser.parse_args(argv)

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else python3 of the machine
    spark = SparkSession.builder.appName("semid recommend").getOrCreate()
    histories = spark.read.parquet(args.histories).select("user_id", "history")
    ids = Recommender.from_pretrained(args.model).model.items.catalog.ids
    item = "string" if ids.dtype == pl.String else "bigint"
    user = histories.schema["user_id"].dataType.simpleString()
    histories.mapInPandas(
        partial(recommended, model=args.model, k=args.k),
        schema=f"user_id {user}, rank int, item_id {item}, score float, title string",
    ).write.parquet(args.out, mode="overwrite")
    spark.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
