"""The teacher's mass from its best items: bench_top_k.py --items 1000000 --k 100 1000 10000.

Random item vectors of SASRec's width, random codes: for each k, faiss finds the best items, by
searching all vectors or some lists of them, those near the target are added, the tail is estimated,
and the tokenizer sums. Beside it scoring all items and the exact tokenizer; and how far the
distributions are from exact, position by position, also of the best items alone and with other
tails. Random vectors have no clusters, so lists miss more here than
among trained ones. All figures come from one run on one machine; the ratios are what travels.
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
from baselines.teachers.best_items import BestItems
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.top_k import TopKTokenizer, uniform_tail

_EXACT = "all items scored"
_NEAR = "with those near the target"


def errors(
    best: BestItems,
    tokenizer: TopKTokenizer,
    users: Tensor,
    targets: Tensor,
    exact: Tensor,
) -> dict[str, dict[str, list[float]]]:
    """Total variation from ``exact`` at each position, for each list of items and kind of tail."""
    scores, items, sampled = best(users)
    lists = {
        _NEAR: best.and_near(users, tokenizer.trie, targets),
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
    """Costs and errors of one k, with all vectors searched and with lists of them."""
    gen = torch.Generator().manual_seed(args.seed + k)
    targets = torch.randint(trie.num_items, (len(users),), generator=gen)
    exact, top_k = CollaborativeTokenizer(trie), TopKTokenizer(trie)
    searches = {
        "all vectors searched": BestItems(vectors, k),
        f"{args.probed} of {args.lists} lists searched": BestItems(
            vectors, k, lists=args.lists, probed=args.probed
        ),
    }

    def mass(best: BestItems) -> Tensor:
        scores, items, tail = best.and_near(users, trie, targets)
        return top_k(scores, items, targets, tail)

    everything = users @ vectors.T
    scores, items, tail = searches["all vectors searched"].and_near(users, trie, targets)
    ways = {
        _EXACT: lambda: exact(users @ vectors.T, targets),
        "the exact tokenizer alone": lambda: exact(everything, targets),
        "the top-k tokenizer alone": lambda: top_k(scores, items, targets, tail),
        **{name: lambda best=best: mass(best) for name, best in searches.items()},
    }
    times, found = interleaved(ways, args.rounds)
    best = searches["all vectors searched"](users).items
    return {
        "milliseconds": {name: median(values) for name, values in times.items()},
        "over_all_items_scored": ratios(times, _EXACT),
        "best_items_found": {
            name: found_share(search(users).items, best) for name, search in searches.items()
        },
        "total_variation": {
            name: errors(search, top_k, users, targets, found[_EXACT])
            for name, search in searches.items()
        },
    }


def found_share(items: Tensor, best: Tensor) -> float:
    """Share of the best items that are among those found."""
    rows = torch.arange(len(best))[:, None] * (int(best.max()) + 1)
    return float(torch.isin(best + rows, torch.where(items < 0, -1, items + rows)).double().mean())


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.set_defaults(items=1_000_000)
    parser.add_argument("--k", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--batch", type=int, default=64, help="targets a call")
    parser.add_argument("--scale", type=float, default=3.0, help="spread of the teacher's scores")
    parser.add_argument("--lists", type=int, default=1024, help="lists of the vectors")
    parser.add_argument("--probed", type=int, default=32, help="lists searched for a history")
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
        for name, kinds in row["total_variation"].items():
            print(f"  {name}: {row['best_items_found'][name]:.1%} of the best items found")
            for listed, error in kinds.items():
                shown = ", ".join(
                    f"{mean:.4f} ({largest:.4f})"
                    for mean, largest in zip(error["mean"], error["largest"], strict=True)
                )
                print(f"    total variation, mean (largest) by position, {listed}: {shown}")
    write_figures(args, {"items": trie.num_items, "batch": args.batch, "k": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
