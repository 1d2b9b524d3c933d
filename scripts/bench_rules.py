"""What rules cost on a random world: bench_rules.py --users 1000000 --items 1000000.

Counting all pairs, then scoring the whole catalogue for some of the histories, and the peak memory.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
from measuring import prepare, write_figures

from baselines.data.batches import histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.teachers.counting_config import RulesConfig
from baselines.teachers.rules import Rules


def skewed_sequences(users: int, items: int, length: int, seed: int) -> SequenceSet:
    """Sequences of random items, some of which are far more frequent than others."""
    share = np.random.default_rng(seed).random(users * length) ** 3
    return SequenceSet(
        items=(items * share).astype(np.int64),
        offsets=np.arange(users + 1) * length,
        first_target=np.full(users, length - 1),
        users=np.arange(users),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--length", type=int, default=10, help="events of each user")
    parser.add_argument("--scored", type=int, default=256, help="histories to score")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)

    prepare(args)
    train = skewed_sequences(args.users, args.items, args.length, args.seed)
    rules = Rules(RulesConfig(), args.items)
    started = time.perf_counter()
    rules.count(train)
    counted = time.perf_counter()
    chosen = np.arange(min(args.scored, args.users))
    for _, histories in histories_of_targets(train, rules.max_history, args.batch, chosen):
        rules.score(histories)
    figures = {
        "entries": rules.counts.values.numel(),
        "seconds_to_count": counted - started,
        "histories_per_second": len(chosen) / (time.perf_counter() - counted),
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    for name, value in figures.items():
        print(f"{name:<24}{value:>14,.1f}")
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
