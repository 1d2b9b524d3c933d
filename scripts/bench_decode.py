"""What decoding within the trie costs: bench_decode.py --codes semantic_ids.letter.json.

TIGER with random weights, the same for every row of the table, writes the next item of random
histories: by our beam search, with and without a filter; by the same search without a trie, which
may write anything; and by ``transformers.generate``, constrained by ``prefix_allowed_tokens_fn`` or
by ``TrieLogitsProcessor``. Ours and ``generate`` must find the same items with the same scores. All
figures come from one run in which all ways take turns; the ratios are what travels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from measuring import (
    add_catalogue,
    add_tiger,
    arithmetic,
    codes_of,
    fastest_rate,
    interleaved,
    prepare,
    random_histories,
    ratios,
    tiger_of,
    write_figures,
)
from torch import Tensor

from baselines.backbones.tiger import TigerBackbone
from baselines.data.batches import Histories
from semid.boosts import ItemBoosts
from semid.decoding import beam_search
from semid.filters import ItemFilter
from semid.generation import TrieLogitsProcessor
from semid.prefixes import Prefixes

Found = tuple[Tensor, Tensor]  # items and scores, (batch, beam)


def unconstrained(prefixes: Prefixes, depth: int, beam: int) -> None:
    """Beam search over all tokens: what a search costs when it need not write items."""
    scores = torch.zeros(prefixes.batch_size, 1)
    for level in range(depth):
        log_p = prefixes.logits().float().log_softmax(dim=-1)
        total = (scores.unsqueeze(-1) + log_p).flatten(1)
        scores, best = total.topk(min(beam, total.shape[1]), dim=1)
        if level + 1 < depth:
            prefixes = prefixes.extend(best // log_p.shape[-1], best % log_p.shape[-1])


def allowed_tokens(paths: list[list[int]]) -> Callable[[int, Tensor], list[int]]:
    """``prefix_allowed_tokens_fn`` over a dictionary of prefixes, as reference codes write it."""
    following: dict[tuple[int, ...], set[int]] = {}
    for path in paths:
        for pos, token in enumerate(path):
            following.setdefault(tuple(path[:pos]), set()).add(token)
    listed = {prefix: sorted(tokens) for prefix, tokens in following.items()}

    def allowed(_: int, written: Tensor) -> list[int]:
        return listed.get(tuple(written.tolist()[1:]), [0])  # a beam without a path ends

    return allowed


def searched(backbone: TigerBackbone, histories: Histories, beam: int, **options: Any) -> Found:
    """What our beam search finds, by default with the probabilities that ``generate`` has."""
    trie = backbone.trie
    start = backbone.start(histories)
    found = beam_search(start, trie, beam=beam, **{"renormalize": "none", **options})
    first = trie.item_order[trie.first_item[found.leaves]]  # of twins
    return first.masked_fill(found.leaves < 0, -1), found.scores


def generated(
    backbone: TigerBackbone, histories: Histories, beam: int, **constraint: object
) -> Found:
    """What ``transformers.generate`` finds with the same weights under a constraint."""
    tokens, mask = backbone.encoder_input(histories)
    written = backbone.t5.generate(
        input_ids=tokens,
        attention_mask=mask.long(),
        num_beams=beam,
        num_return_sequences=beam,
        max_new_tokens=backbone.trie.depth,
        length_penalty=0.0,
        return_dict_in_generate=True,
        output_scores=True,
        **constraint,
    )
    items = TrieLogitsProcessor(backbone.trie, start=0, end=0).items(written.sequences)
    return items.view(len(mask), beam), written.sequences_scores.view(len(mask), beam)


def ways_to_decode(
    backbone: TigerBackbone, histories: Histories, denied: Tensor, boosts: Tensor, beam: int
) -> dict[str, Callable[[], Found | None]]:
    """Every way to decode, by name; what it finds, where that is comparable."""
    trie = backbone.trie
    processor = TrieLogitsProcessor(trie, start=0, end=0)
    prefix_allowed = allowed_tokens(backbone.vocab.tokens(backbone.codes).tolist())
    search = partial(searched, backbone, histories, beam)
    generate = partial(generated, backbone, histories, beam)

    def free() -> None:
        unconstrained(backbone.start(histories), trie.depth, beam)

    return {
        "beam search": search,
        "beam search without a trie": free,
        "beam search, a list denied": lambda: search(within=ItemFilter(trie, deny=denied)),
        "beam search, items boosted": lambda: search(boosts=ItemBoosts(trie, boosts)),
        "beam search, relative to children": lambda: search(renormalize="children"),
        "generate, prefix_allowed_tokens_fn": lambda: generate(
            prefix_allowed_tokens_fn=prefix_allowed
        ),
        "generate, TrieLogitsProcessor": lambda: generate(logits_processor=[processor]),
    }


def disagreement(ours: Found, theirs: Found) -> tuple[int, float]:
    """Ranks that hold another item, near ties left out, and the largest difference of scores."""
    items, scores = ours
    tied = scores.diff(dim=1).abs() < 1e-4
    near = torch.nn.functional.pad(tied, (1, 0)) | torch.nn.functional.pad(tied, (0, 1))
    moved = (items != theirs[0]) & ~near
    return int(moved.sum()), float((scores - theirs[1]).abs().max())


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    add_tiger(parser)
    parser.add_argument("--batch", type=int, default=64, help="histories decoded together")
    parser.add_argument("--beams", type=int, nargs="+", default=[10, 20, 50])
    parser.add_argument("--denied", type=int, default=100, help="items that the filter denies")
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each way")
    parser.add_argument("--processor", action="store_true", help="time of the processor, not wall")
    args = parser.parse_args(argv)

    gen = prepare(args)
    clock = time.process_time if args.processor else time.perf_counter
    codes = codes_of(args, gen)
    backbone = tiger_of(args, codes)
    backbone.t5.set_attn_implementation("eager")  # on CPU ``generate`` is faster so than by default
    histories = random_histories(args.batch, len(codes), backbone.max_history, gen)
    denied = torch.randint(len(codes), (args.batch, args.denied), generator=gen)
    boosts = torch.randn(len(codes), generator=gen)

    figures: dict[str, Any] = {"items": len(codes), "batch": args.batch, "beams": {}}
    print(f"TIGER, {len(codes)} items, {args.batch} histories, {args.threads} threads")
    for beam in args.beams:
        ways = ways_to_decode(backbone, histories, denied, boosts, beam)
        with torch.inference_mode():
            times, found = interleaved(ways, args.rounds, clock)
            limit = 1e3 * arithmetic(ways["beam search"]) / fastest_rate(clock)
        over = ratios(times, "beam search")
        share = limit / min(times["beam search"])
        checks = {
            name: disagreement(found["beam search"], found[name])
            for name in found
            if name.startswith("generate")
        }
        figures["beams"][beam] = {
            "milliseconds": {name: median(values) for name, values in times.items()},
            "over_beam_search": over,
            "share_of_arithmetic_limit": share,
            "moved_items_and_largest_score_difference": checks,
        }
        print(f"beam {beam}: {share:.0%} of the arithmetic limit")
        for name, values in times.items():
            print(f"  {name:<36}{median(values):>12.1f} ms{over[name]:>10.2f} x")
        for name, (moved, difference) in checks.items():
            print(f"  {name}: {moved} items moved, scores differ by {difference:.1e} at most")
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
