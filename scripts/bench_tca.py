"""What the Collaborative Tokenizer costs: bench_tca.py --items 12101 --larger 100000 1000000.

Beside it, in every catalogue: its definition, a loop over dictionaries (for each target and each
prefix of its path, a softmax over the prefix's items, listed beforehand, which is generous, summed
by next token); one plain read of the scores, which nothing exact can go below; the softmax over all
items, whose exponentials it needs; and the sum of what that softmax gives by first token. All
figures come from one run on one machine; the ratios are what travels. On a machine that others use
too, take ``--threads 1 --processor``. What it costs in a training step is for bench_step.py.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from measuring import add_catalogue, interleaved, paths_of, prepare, write_figures
from torch import Tensor

from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer

Prefixes = dict[tuple[int, ...], list[int]]

_SCORES = 2**26  # 256 MB of scores at most, so larger catalogues have smaller batches
_LOOPED = 2**22  # scores that the loop over dictionaries reads at most, so it has fewer targets


def items_of_prefix(paths: list[list[int]]) -> Prefixes:
    """Every prefix of every path with the items below it."""
    below: Prefixes = defaultdict(list)
    for item, path in enumerate(paths):
        for pos in range(len(path)):
            below[tuple(path[:pos])].append(item)
    return below


def loop_over_dictionaries(
    paths: list[list[int]], below: Prefixes, scores: list[list[float]], targets: list[int]
) -> list[list[dict[int, float]]]:
    """The definition: for each target and position, token to probability."""
    result = []
    for row, target in zip(scores, targets, strict=True):
        path, distributions = paths[target], []
        for pos in range(len(path)):
            items = below[tuple(path[:pos])]
            highest = max(row[item] for item in items)
            mass: dict[int, float] = defaultdict(float)
            for item in items:
                mass[paths[item][pos]] += math.exp(row[item] - highest)
            total = sum(mass.values())
            distributions.append({token: m / total for token, m in mass.items()})
        result.append(distributions)
    return result


def largest_error(p: Tensor, oracle: list[list[dict[int, float]]]) -> float:
    """Largest difference between the two over the oracle's targets, all positions and tokens."""
    expected = torch.zeros_like(p[: len(oracle)])
    for row, distributions in enumerate(oracle):
        for pos, distribution in enumerate(distributions):
            for slot, token in enumerate(sorted(distribution)):
                expected[row, pos, slot] = distribution[token]
    return float((p[: len(oracle)] - expected).abs().max())


def best_ms(
    ways: dict[str, Callable[[], object]], repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Shortest time of each in milliseconds: what the machine does when left alone."""
    times, _ = interleaved(ways, repeats, clock)
    return {name: min(of_way) for name, of_way in times.items()}


def catalogues(args: argparse.Namespace, gen: torch.Generator) -> Iterator[Tensor]:
    """Paths of the catalogue that the command line names, then of the larger, random ones."""
    yield paths_of(args, gen)
    for items in args.larger:
        yield paths_of(argparse.Namespace(**{**vars(args), "items": items, "codes": None}), gen)


def measure(paths: Tensor, args: argparse.Namespace, gen: torch.Generator) -> dict[str, Any]:
    """Times in one catalogue; those of the loop over dictionaries are scaled to the whole batch."""
    trie = CodeTrie.from_paths(paths, paths.shape[1] * args.codebook)
    batch = min(args.batch, max(1, _SCORES // trie.num_items))
    scores = args.scale * torch.randn(batch, trie.num_items, generator=gen)
    targets = torch.randint(trie.num_items, (batch,), generator=gen)
    tokenizer = CollaborativeTokenizer(trie)
    clock = time.process_time if args.processor else time.perf_counter
    slot = trie.path(torch.arange(trie.num_items))[:, 1] - trie.first_child[0]
    by_item, by_token = scores.softmax(dim=-1), torch.zeros(batch, trie.width_of_depth(0))
    milliseconds = best_ms(
        {
            "one read of the scores": scores.sum,
            "softmax over all items": lambda: scores.softmax(dim=-1),
            "sum by first token": lambda: by_token.scatter_add_(1, slot.expand(batch, -1), by_item),
            "collaborative tokenizer": lambda: tokenizer(scores, targets),
        },
        args.repeats,
        clock,
    )

    looped = min(batch, max(1, _LOOPED // trie.num_items))
    path_list, score_list = paths.tolist(), scores[:looped].tolist()
    below, target_list = items_of_prefix(path_list), targets[:looped].tolist()
    start = clock()
    oracle = loop_over_dictionaries(path_list, below, score_list, target_list)
    loop_ms = 1e3 * (clock() - start) * batch / looped
    fast = milliseconds["collaborative tokenizer"]
    return {
        "items": trie.num_items,
        "batch": batch,
        "targets_of_the_loop": looped,
        "milliseconds": {**milliseconds, "loop over dictionaries": loop_ms},
        "loop_over_tokenizer": loop_ms / fast,
        "tokenizer_over_read": fast / milliseconds["one read of the scores"],
        "tokenizer_over_softmax": fast / milliseconds["softmax over all items"],
        "sum_over_softmax": milliseconds["sum by first token"]
        / milliseconds["softmax over all items"],
        "largest_error": largest_error(tokenizer(scores, targets), oracle),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.add_argument(
        "--larger",
        type=int,
        nargs="*",
        default=[100_000, 1_000_000],
        help="items of further random catalogues",
    )
    parser.add_argument("--batch", type=int, default=256, help="targets a call, memory permitting")
    parser.add_argument("--scale", type=float, default=3.0, help="spread of the teacher's scores")
    parser.add_argument("--repeats", type=int, default=30, help="timed calls of what is fast")
    parser.add_argument("--processor", action="store_true", help="time of the processor, not wall")
    args = parser.parse_args(argv)

    gen = prepare(args)
    rows = []
    for paths in catalogues(args, gen):
        row = measure(paths, args, gen)
        rows.append(row)
        print(
            f"{row['items']} items x {paths.shape[1]} levels, batch {row['batch']}, "
            f"{args.threads} threads"
        )
        for name, value in row["milliseconds"].items():
            print(f"  {name:<30}{value:>12.2f} ms")
        print(
            f"  loop / tokenizer {row['loop_over_tokenizer']:.0f} "
            f"(the loop over {row['targets_of_the_loop']} targets), "
            f"tokenizer / read {row['tokenizer_over_read']:.1f}, "
            f"tokenizer / softmax {row['tokenizer_over_softmax']:.2f}, "
            f"sum by first token / softmax {row['sum_over_softmax']:.2f}, "
            f"largest error {row['largest_error']:.1e}"
        )
    write_figures(args, {"catalogues": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
