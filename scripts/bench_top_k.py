"""The teacher's mass from its best items: bench_top_k.py --items 1000000 --k 100 1000 10000.

Random item vectors of SASRec's width, random codes: for each k, faiss finds the best items, those
near the target are added, the tail is estimated, and the tokenizer sums. Beside it scoring all
items and the exact tokenizer; and how far the distributions are from exact, position by position,
also of the best items alone and with other tails. All figures come from one run on one machine; the
ratios are what travels.
"""

from __future__ import annotations

import argparse
import math
import sys
from statistics import median
from typing import Any

import torch
from measuring import add_catalogue, interleaved, paths_of, prepare, ratios, write_figures
from torch import Tensor

from baselines.nn.config import EncoderConfig
from baselines.teachers.top_k_index import TopKIndex
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.top_k import TopKTokenizer, uniform_tail

_EXACT = "all items scored"
_NEAR = "with those near the target"


def errors(
    best: TopKIndex,
    tokenizer: TopKTokenizer,
    users: Tensor,
    targets: Tensor,
    exact: Tensor,
) -> dict[str, dict[str, list[float]]]:
    """Total variation from ``exact`` at each position, for each list of items and kind of tail."""
    scores, items, sampled = best(users)
    lists = {
        _NEAR: best.with_prefix_neighbours(users, tokenizer.trie, targets),
        "the best items alone, tail sampled": (scores, items, sampled),
        "the best items alone, tail uniform": (
            scores,
            items,
            uniform_tail(scores, best.num_items),
        ),
    }
    found = {}
    for name, (scores, items, tail) in lists.items():
        error = (tokenizer(scores, items, targets, tail) - exact).abs().sum(dim=-1) / 2
        found[name] = {"mean": error.mean(dim=0).tolist(), "largest": error.amax(dim=0).tolist()}
    return found


def measure(
    trie: CodeTrie, vectors: Tensor, users: Tensor, k: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Costs and errors of one k."""
    gen = torch.Generator().manual_seed(args.seed + k)
    targets = torch.randint(trie.num_items, (len(users),), generator=gen)
    exact, top_k = CollaborativeTokenizer(trie), TopKTokenizer(trie)
    best = TopKIndex(vectors, k)
    everything = users @ vectors.T
    scores, items, tail = best.with_prefix_neighbours(users, trie, targets)

    def searched() -> Tensor:
        scores, items, tail = best.with_prefix_neighbours(users, trie, targets)
        return top_k(scores, items, targets, tail)

    ways = {
        _EXACT: lambda: exact(users @ vectors.T, targets),
        "the exact tokenizer alone": lambda: exact(everything, targets),
        "the top-k tokenizer alone": lambda: top_k(scores, items, targets, tail),
        "all vectors searched": searched,
    }
    times, found = interleaved(ways, args.rounds)
    return {
        "milliseconds": {name: median(values) for name, values in times.items()},
        "over_all_items_scored": ratios(times, _EXACT),
        "total_variation": errors(best, top_k, users, targets, found[_EXACT]),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.set_defaults(items=1_000_000)
    parser.add_argument("--k", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--batch", type=int, default=64, help="targets a call")
    parser.add_argument("--scale", type=float, default=3.0, help="spread of the teacher's scores")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each way")
    args = parser.parse_args(argv)

    gen = prepare(args)
    trie = CodeTrie.from_paths(paths_of(args, gen), args.levels * args.codebook)
    dim = EncoderConfig().dim
    vectors = torch.randn(trie.num_items, dim, generator=gen)
    users = args.scale / math.sqrt(dim) * torch.randn(args.batch, dim, generator=gen)
    rows = {}
    print(f"{trie.num_items} items, {dim} wide, batch {args.batch}, {args.threads} threads")
    for k in args.k:
        row = measure(trie, vectors, users, k, args)
        rows[str(k)] = row
        print(f"k {k}")
        for name, ms in row["milliseconds"].items():
            print(f"  {name:<34}{ms:>12.1f} ms{row['over_all_items_scored'][name]:>9.3f} x")
        for listed, error in row["total_variation"].items():
            shown = ", ".join(
                f"{mean:.4f} ({largest:.4f})"
                for mean, largest in zip(error["mean"], error["largest"], strict=True)
            )
            print(f"  total variation, mean (largest) by position, {listed}: {shown}")
    write_figures(args, {"items": trie.num_items, "batch": args.batch, "k": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
