"""Starts of RQ-KMeans: bench_starts.py --embeddings item_embeddings.lsa128.npy --threads 1.

For each start and seed: the squared error that the codes leave, as a share of that of the mean
alone, the items that share their codes with others, and the seconds of a fit. Starts take turns on
one seed after another, so that the machine's pace falls on all alike.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from measuring import write_figures
from torch import Tensor

from semid.collisions import collision_report
from semid.tokenizers import RQKMeans
from semid.tokenizers.kmeans import KMEANS_STARTS
from semid.tokenizers.residual import codebooks_of, reconstruct


def fit(args: argparse.Namespace, vectors: Tensor, start: str, seed: int) -> dict[str, float]:
    """One fit: its error, colliding items and seconds."""
    tokenizer = RQKMeans(
        codebook_sizes=tuple(args.sizes), balanced=args.balanced, start=start, seed=seed
    )
    begin = time.perf_counter()
    tokenizer.fit(vectors)
    seconds = time.perf_counter() - begin
    codes, centred = tokenizer.encode(vectors), vectors - tokenizer.learned["mean"]
    left = centred - reconstruct(codes, codebooks_of(tokenizer.learned))
    return {
        "error": float(left.square().sum() / centred.square().sum()),
        "colliding_items": collision_report(codes).colliding_items,
        "seconds": seconds,
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--embeddings", type=Path, required=True, help=".npy, one row an item")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 256, 256])
    parser.add_argument("--balanced", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    vectors = torch.from_numpy(np.load(args.embeddings).astype(np.float32))
    fit(args, vectors, KMEANS_STARTS[0], args.seeds[0])  # loads the libraries
    runs: dict[str, list[dict[str, float]]] = {start: [] for start in KMEANS_STARTS}
    for seed in args.seeds:
        for start, found in runs.items():
            found.append(fit(args, vectors, start, seed))
    print(f"{len(vectors)} items, sizes {args.sizes}, seeds {args.seeds}; means over the seeds")
    names = ("error", "colliding_items", "seconds")
    print(f"{'start':<18}" + "".join(f"{name:>18}" for name in names))
    for start, found in runs.items():
        means = [mean(run[name] for run in found) for name in names]
        print(f"{start:<18}{means[0]:>18.4%}{means[1]:>18.1f}{means[2]:>18.2f}")
    write_figures(args, {"starts": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
