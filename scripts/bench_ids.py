"""What the IDs of a large catalogue cost: bench_ids.py --sizes 1000000 10000000 --threads 1.

Random vectors in a ``.npy``, and ``semid build`` on them in a process of its own, with
the scheme fitted on some of the items. Time and peak memory are those of the whole command. The
codes are then held against those of another batch size.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import torch
from measuring import add_catalogue, prepare, run_measured, write_figures
from numpy.typing import NDArray

from semid.tokenizers.rqkmeans import RQKMeans

CENTRES = 4096
"""Clusters of the random vectors."""


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--dim", type=int, default=64, help="width of the vectors")
    parser.add_argument("--fit-items", type=int, default=100_000, help="items k-means is fitted on")
    parser.add_argument("--other-batch", type=int, default=10**6, help="batch size compared with")
    parser.add_argument("--folder", type=Path, help="where vectors and IDs are kept")
    args = parser.parse_args(argv)
    prepare(args)
    found = {}
    for size in args.sizes:
        with TemporaryDirectory(dir=args.folder) as folder:
            found[f"{size:,} items"] = _measured(args, size, Path(folder))
    print(f"{args.levels} levels of {args.codebook}, {args.dim} dimensions, {args.threads} threads")
    for name, row in found.items():
        print(
            f"  {name:<20}{row['seconds']:>10.1f} s{row['processor_seconds']:>10.1f} s of processor"
            f"{row['peak_mib']:>10,.0f} MiB"
            f"   equal to batches of {args.other_batch:,}: {row['equal']}"
        )
    write_figures(args, {"catalogues": found})
    return 0


def _measured(args: argparse.Namespace, size: int, folder: Path) -> dict[str, Any]:
    vectors = _written(args, size, folder)
    command = [
        *(sys.executable, "-m", "baselines.cli", "build", "--data", str(folder / "shop")),
        *("--out", str(folder / "ids"), "--ids.embeddings", str(folder / "vectors.npy")),
        *("--ids.fit_items", str(args.fit_items)),
        *("--ids.codebook_sizes", str([args.codebook] * args.levels)),
    ]
    return {
        **run_measured(command, args.threads),
        "vectors_mib": vectors.nbytes / 2**20,
        "equal": _equal(args, vectors, folder / "ids"),
    }


def _written(args: argparse.Namespace, size: int, folder: Path) -> NDArray[np.float32]:
    """Vectors around random centres in ``vectors.npy``, and their catalogue in ``shop``."""
    rng = np.random.default_rng(args.seed)
    centres = rng.normal(size=(CENTRES, args.dim)).astype(np.float32)
    vectors = np.lib.format.open_memmap(
        folder / "vectors.npy", "w+", np.dtype(np.float32), (size, args.dim)
    )
    for begin in range(0, size, 1 << 16):
        part = vectors[begin : begin + (1 << 16)]
        part[:] = centres[rng.integers(CENTRES, size=len(part))]
        part += 0.5 * rng.standard_normal(part.shape, dtype=np.float32)
    vectors.flush()
    (folder / "shop").mkdir()
    items = pl.select(pl.format("B{}", pl.int_range(size)).alias("item_id"))
    items.write_parquet(folder / "shop" / "items.parquet")
    return vectors


def _equal(args: argparse.Namespace, vectors: NDArray[np.float32], folder: Path) -> bool:
    """Whether the codes are those of larger batches, but for the level that collisions add."""
    tokenizer = RQKMeans.from_pretrained(folder / "tokenizer")
    codes = pl.read_parquet(folder / "semantic_ids.parquet")["codes"]
    first = [codes.list.get(level).to_numpy() for level in range(args.levels)]
    expected = torch.from_numpy(np.stack(first, axis=1))
    parts = range(0, len(vectors), args.other_batch)
    return all(
        tokenizer.encode(
            torch.from_numpy(np.array(vectors[begin : begin + args.other_batch]))
        ).equal(expected[begin : begin + args.other_batch])
        for begin in parts
    )


if __name__ == "__main__":
    sys.exit(main())
