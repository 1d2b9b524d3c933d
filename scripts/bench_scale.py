"""What the size of the catalogue costs a search: bench_scale.py --sizes 10000 10000000.

TIGER with random weights, the same shape for every catalogue, answers the same number of random
histories by beam search; only the trie grows. All sizes take turns in one run, and each is held
against the smallest.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from statistics import median

import torch
from measuring import (
    add_catalogue,
    add_tiger,
    interleaved,
    prepare,
    random_histories,
    ratios,
    tiger_of,
    write_figures,
)

from baselines.backbones.config import TigerConfig
from baselines.backbones.tiger import TigerBackbone
from semid.decoding import BeamResult, beam_search


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    add_tiger(parser)
    parser.add_argument("--batch", type=int, default=64, help="histories decoded together")
    parser.add_argument("--beam", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=7, help="timed searches in each catalogue")
    args = parser.parse_args(argv)

    gen = prepare(args)
    histories = random_histories(args.batch, min(args.sizes), TigerConfig.max_history, gen)

    def search(backbone: TigerBackbone) -> BeamResult:
        start = backbone.start(histories)
        return beam_search(start, backbone.trie, beam=args.beam, renormalize="none")

    ways = {}
    for size in args.sizes:
        codes = torch.randint(args.codebook, (size, args.levels), generator=gen)
        ways[f"{size:,} items"] = partial(search, tiger_of(args, codes))
    with torch.inference_mode():
        times, _ = interleaved(ways, args.rounds)
    over = ratios(times, next(iter(ways)))
    print(f"TIGER, {args.batch} histories, beam {args.beam}, {args.threads} threads")
    for name, values in times.items():
        print(f"  {name:<20}{median(values):>12.1f} ms{over[name]:>10.2f} x")
    milliseconds = {name: median(values) for name, values in times.items()}
    write_figures(args, {"milliseconds": milliseconds, "over_the_smallest": over})
    return 0


if __name__ == "__main__":
    sys.exit(main())
