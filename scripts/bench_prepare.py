"""Time and memory of ``semid data prepare``: bench_prepare.py --events 1000000 --items 100000.

Random events, with a long tail of items, are written in each format; ``semid data prepare`` reads
each in a process of its own. Reported are its seconds, those of the processor (which others on the
machine change less), and its peak resident set.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from measuring import run_measured
from pyarrow import parquet

from semid.provenance import atomic_write

_BLOCK = 10**6
_SETTINGS = ["--prepare.user_core", "5", "--prepare.item_core", "5", "--prepare.repeats", "exact"]


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[10**5, 10**6])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=None, help="a twentieth of the events if None")
    parser.add_argument("--formats", nargs="+", default=["parquet", "csv", "quoted.csv", "jsonl"])
    parser.add_argument("--dates", action="store_true", help="write times as dates")
    parser.add_argument("--folder", type=Path, help="where files are written, and removed again")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)

    figures = []
    print(f"{'events':>12} {'format':<12} {'file MB':>8} {'seconds':>8} {'CPU':>8} {'peak MB':>8}")
    for events in args.events:
        for kind in args.formats:
            with TemporaryDirectory(dir=args.folder) as folder:
                source = Path(folder) / f"log.{kind}"
                write(source, events, args.items, args.users or max(events // 20, 1), args.dates)
                size = source.stat().st_size / 1e6
                command = [sys.executable, "-m", "baselines.cli", "data", "prepare", str(source)]
                command += ["--out", f"{folder}/out", *_SETTINGS]
                found = run_measured(command)
            peak = found["peak_mib"] * 2**20 / 1e6
            print(
                f"{events:>12,} {kind:<12} {size:>8.0f} {found['seconds']:>8.1f} "
                f"{found['processor_seconds']:>8.1f} {peak:>8.0f}",
                flush=True,
            )
            figures.append({"events": events, "format": kind, **found})
    if args.out:
        atomic_write(args.out, json.dumps(figures, indent=2) + "\n")
    return 0


def write(path: Path, events: int, items: int, users: int, dates: bool) -> None:
    """Write random events as parquet, CSV (``quoted.csv`` with all cells in quotes) or JSON."""
    kind = path.name.partition(".")[2]
    if kind == "parquet":
        first = next(blocks(1, items, users, dates)).to_arrow()
        with parquet.ParquetWriter(path, first.schema) as writer:
            for block in blocks(events, items, users, dates):
                writer.write_table(block.to_arrow().cast(first.schema))
        return
    with path.open("wb") as file:
        for number, block in enumerate(blocks(events, items, users, dates)):
            if kind == "jsonl":
                block.write_ndjson(file)
            else:
                quotes = "always" if kind == "quoted.csv" else "necessary"
                block.write_csv(file, include_header=number == 0, quote_style=quotes)


def blocks(events: int, items: int, users: int, dates: bool) -> Iterator[pl.DataFrame]:
    """Random events in blocks: users log-normal, items with a long tail, times in order."""
    rng = np.random.default_rng(0)
    for start in range(0, events, _BLOCK):
        rows = min(_BLOCK, events - start)
        user = rng.integers(users, size=rows)
        item = np.minimum(items * rng.random(rows) ** 3, items - 1).astype(np.int64)
        seconds = pl.Series(1_400_000_000 + (start + np.arange(rows)) // 3)
        yield pl.DataFrame(
            {
                "user_id": "U" + pl.Series(user).cast(pl.String).str.zfill(13),
                "item_id": "B" + pl.Series(item).cast(pl.String).str.zfill(9),
                "rating": rng.integers(1, 6, size=rows).astype(np.float64),
                "timestamp": pl.from_epoch(seconds) if dates else seconds,
            }
        )


if __name__ == "__main__":
    sys.exit(main())
