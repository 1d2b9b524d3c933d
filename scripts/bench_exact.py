"""What exact scoring costs: bench_exact.py --codes semantic_ids.letter.json --batch 64.

TIGER with random weights scores every item of the catalogue for random histories, by one walk of
the trie. The limit is the arithmetic of its nodes: the decoder's positions for every prefix of the
catalogue, each once for each history, at the rate of the fastest matrix product of that size on the
same machine in the same run. With scores relative to the children, prefixes that lead to one item
need no model, so less is left than the trie has nodes.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import torch
from measuring import (
    add_catalogue,
    add_tiger,
    arithmetic,
    codes_of,
    fastest_rate,
    prepare,
    random_histories,
    tiger_of,
    write_figures,
)

from semid.config import Renormalize
from semid.prefixes import Prefixes
from semid.scoring import score_all


def operations_of_a_node(start: Prefixes, *, width: int = 64) -> float:
    """Operations that one prefix of the deepest level but one costs in one row."""
    row = torch.zeros(start.batch_size, width, dtype=torch.int64)
    token = torch.ones_like(row)

    def one() -> object:
        return start.extend(row, token).logits()

    return arithmetic(one) / row.numel()


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    add_tiger(parser)
    parser.add_argument("--batch", type=int, default=64, help="histories scored together")
    parser.add_argument(
        "--chunks", type=int, nargs="+", default=[64, 512], help="prefixes at a time"
    )
    args = parser.parse_args(argv)

    gen = prepare(args)
    codes = codes_of(args, gen)
    backbone = tiger_of(args, codes)
    histories = random_histories(args.batch, len(codes), backbone.max_history, gen)
    trie = backbone.trie
    inner = int((trie.num_children(torch.arange(trie.num_nodes)) > 0).sum())

    figures: dict[str, Any] = {"items": len(codes), "batch": args.batch, "inner_nodes": inner}
    print(f"TIGER, {len(codes)} items, {inner} prefixes, {args.batch} histories")
    with torch.inference_mode():
        start = backbone.start(histories)
        nodes = args.batch * inner * operations_of_a_node(start)
        limit = nodes / fastest_rate()
        figures["limit_seconds"] = limit
        print(f"  {'arithmetic of the nodes':<44}{limit:>10.2f} s")
        scores: dict[str, Renormalize] = {"all tokens": "none", "the children": "children"}
        for relative_to, how in scores.items():
            for chunk in args.chunks:
                begin = time.perf_counter()
                score_all(start, trie, renormalize=how, chunk=chunk)
                seconds = time.perf_counter() - begin
                name = f"relative to {relative_to}, chunk {chunk}"
                figures[name] = {"seconds": seconds, "over_limit": seconds / limit}
                print(f"  {name:<44}{seconds:>10.2f} s{seconds / limit:>8.2f} x the limit")
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
