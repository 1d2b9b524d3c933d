"""What ``generate`` within a catalogue's titles costs: bench_titles_decode.py --data FOLDER.

A small Llama with random weights writes titles after random prompts of different lengths,
left-padded: without a constraint, with ``prefix_allowed_tokens_fn`` over a dictionary of prefixes,
and with ``TrieLogitsProcessor``. Both constraints must write the same titles. All figures come from
one run in which all ways take turns; the ratios are what travels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measuring import interleaved, prepare, ratios, write_figures
from torch import Tensor
from transformers import LogitsProcessor, PrefixConstrainedLogitsProcessor

from baselines.data.loading import load_catalog
from baselines.pretraining.config import SmallModelConfig
from baselines.pretraining.small import small_llama, train_tokenizer
from semid.generation import TrieLogitsProcessor
from semid.titles import title_paths
from semid.trie import CodeTrie


class Timed(LogitsProcessor):
    """Counts the milliseconds that a constraint takes within ``generate``."""

    def __init__(self, constraint: Any) -> None:
        self.constraint = constraint
        self.milliseconds = 0.0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Do what the constraint does."""
        start = time.perf_counter()
        scores = self.constraint(input_ids, scores)
        self.milliseconds += 1e3 * (time.perf_counter() - start)
        return scores


def allowed_tokens(paths: list[list[int]], start: int, end: int) -> Callable[[int, Tensor], Any]:
    """``prefix_allowed_tokens_fn`` over a dictionary of prefixes, as reference codes write it."""
    following: dict[tuple[int, ...], set[int]] = {}
    for path in paths:
        for pos, token in enumerate(path):
            following.setdefault(tuple(path[:pos]), set()).add(token)
    listed = {prefix: sorted(tokens) for prefix, tokens in following.items()}

    def allowed(_: int, written: Tensor) -> list[int]:
        tokens = written.tolist()
        begin = len(tokens) - tokens[::-1].index(start)
        return listed.get(tuple(tokens[begin:]), [end])

    return allowed


def random_prompts(rows: int, longest: int, tokens: int, special: Any, gen: Any) -> Tensor:
    """Left-padded prompts of 1 to ``longest`` random tokens that end in the token of a beginning.

    Args:
        rows: Prompts.
        longest: Most tokens.
        tokens: Size of the vocabulary, whose first tokens are the special ones.
        special: The tokenizer that names them.
        gen: Generator.
    """
    ids = torch.randint(3, tokens, (rows, longest + 1), generator=gen)
    length = torch.randint(1, longest + 1, (rows, 1), generator=gen)
    ids[torch.arange(longest + 1) < longest - length] = special.pad_token_id
    ids[:, -1] = special.bos_token_id
    return ids


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="synthetic", help="folder whose titles are written")
    parser.add_argument("--vocabulary", type=int, default=SmallModelConfig.vocab_size)
    parser.add_argument("--dim", type=int, default=SmallModelConfig.dim, help="of the Llama")
    parser.add_argument("--layers", type=int, default=SmallModelConfig.num_layers)
    parser.add_argument("--batch", type=int, default=16, help="prompts written to together")
    parser.add_argument("--prompt", type=int, default=150, help="tokens of the longest prompt")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 10, 20])
    parser.add_argument("--rounds", type=int, default=5, help="timed calls of each way")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    args = parser.parse_args(argv)

    gen = prepare(args)
    titles = [title for title in load_catalog(args.data).texts("{title}") if title.strip()]
    tokenizer = train_tokenizer(titles, args.vocabulary)
    made = title_paths(titles, tokenizer)
    trie = CodeTrie.from_paths(made.paths, len(tokenizer))
    shape = SmallModelConfig(vocab_size=args.vocabulary, dim=args.dim, num_layers=args.layers)
    model: Any = small_llama(tokenizer, shape, seed=args.seed).eval()
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    processor = TrieLogitsProcessor(trie, start=start, end=end)
    prefix_allowed = allowed_tokens([row[row >= 0].tolist() for row in made.paths], start, end)
    prompts = random_prompts(args.batch, args.prompt, len(tokenizer), tokenizer, gen)

    figures: dict[str, Any] = {
        "items": len(titles),
        "longest_title": trie.depth,
        "vocabulary": len(tokenizer),
        "batch": args.batch,
        "beams": {},
    }
    print(
        f"{len(titles)} titles of at most {trie.depth} tokens, vocabulary {len(tokenizer)}, "
        f"{args.batch} prompts, {args.threads} threads"
    )
    for beam in args.beams:

        def generate(constraint: Timed | None = None, beam: int = beam) -> Tensor:
            found: Tensor = model.generate(
                input_ids=prompts,
                attention_mask=(prompts != tokenizer.pad_token_id).long(),
                num_beams=beam,
                num_return_sequences=beam,
                max_new_tokens=trie.depth,
                do_sample=False,
                logits_processor=[] if constraint is None else [constraint],
                **({"length_penalty": 0.0} if beam > 1 else {}),
            )
            return found

        constraints = {
            "prefix_allowed_tokens_fn": Timed(
                PrefixConstrainedLogitsProcessor(prefix_allowed, num_beams=beam)
            ),
            "TrieLogitsProcessor": Timed(processor),
        }
        ways: dict[str, Callable[[], Tensor]] = {"no constraint": generate}
        for name, constraint in constraints.items():
            ways[name] = partial(generate, constraint)
        with torch.inference_mode():
            times, found = interleaved(ways, args.rounds)
        over = ratios(times, "TrieLogitsProcessor")
        calls = 2 * args.rounds
        spent = {name: timed.milliseconds / calls for name, timed in constraints.items()}
        theirs, ours = found["prefix_allowed_tokens_fn"], found["TrieLogitsProcessor"]
        items = processor.items(ours)
        figures["beams"][beam] = {
            "milliseconds": {name: median(values) for name, values in times.items()},
            "over_trie_logits_processor": over,
            "milliseconds_in_the_constraint": spent,
            "share_of_items": float((items >= 0).float().mean()),
            "same_titles": theirs.tolist() == ours.tolist(),
        }
        print(f"beam {beam}: {figures['beams'][beam]['share_of_items']:.1%} are items")
        for name, values in times.items():
            within = f"{spent[name]:>10.1f} ms of it in the constraint" if name in spent else ""
            print(f"  {name:<26}{median(values):>10.1f} ms{over[name]:>8.2f} x{within}")
        print(f"  both constraints wrote the same: {figures['beams'][beam]['same_titles']}")
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
