"""What a teacher of a large catalogue costs: bench_teacher.py --sizes 10000 1000000.

``semid teacher train`` for one epoch on random events, as a command of its own, with the softmax
over a sample of the items and, up to a size, over all of them. Time and peak memory are those of
the whole command, validation over the whole catalogue included.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from measuring import prepare, run_measured, write_figures


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6])
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--events", type=int, default=12, help="events of a user")
    parser.add_argument("--sampled", type=int, default=4096, help="items of the sample")
    parser.add_argument("--full-up-to", type=int, default=10**5, help="items of the full softmax")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)
    prepare(args)
    found = {}
    for size in args.sizes:
        for loss in ("sampled_softmax", "ce"):
            if loss == "ce" and size > args.full_up_to:
                continue
            with TemporaryDirectory() as folder:
                write_shop(args, size, Path(folder) / "shop")
                command = [sys.executable, "-m", "baselines.cli", "teacher", "train", "--data"]
                command += [f"{folder}/shop", "--out", f"{folder}/out", "--training.epochs", "1"]
                command += ["--training.precision", "fp32", "--teacher.sasrec.loss", loss]
                command += ["--teacher.sasrec.sampled_items", str(args.sampled)]
                found[f"{size:,} items, {loss}"] = run_measured(command, args.threads)
    print(f"{args.users:,} users of {args.events} events, {args.threads} threads")
    for name, row in found.items():
        print(f"  {name:<36}{row['seconds']:>8.0f} s{row['peak_mib']:>10,.0f} MiB")
    write_figures(args, {"teachers": found})
    return 0


def write_shop(args: argparse.Namespace, size: int, folder: Path) -> None:
    """Random events of all users, and a catalogue of ids alone, in the plain layout."""
    rng = np.random.default_rng(args.seed)
    folder.mkdir()
    user = np.repeat(np.arange(args.users), args.events)
    events = {
        "user_id": user,
        "item_id": rng.integers(size, size=len(user)),
        "timestamp": np.tile(np.arange(args.events), args.users),
    }
    pl.DataFrame(events).write_parquet(folder / "interactions.parquet")
    items = pl.DataFrame({"item_id": np.arange(size)})
    items.write_parquet(folder / "items.parquet")


if __name__ == "__main__":
    sys.exit(main())
