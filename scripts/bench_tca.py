"""What collaborative alignment costs: bench_tca.py --items 12101 --batch 256.

First the Collaborative Tokenizer beside its definition, a loop over dictionaries: for each target
and each prefix of its path, a softmax over the prefix's items (listed beforehand, which is
generous) summed by next token. Then a whole training step of the causal backbone with each
objective, the teacher's mass computed once or on the fly. All figures come from one run on one
machine; the ratios are what travels.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import islice
from statistics import median

import numpy as np
import torch
from measuring import add_catalogue, paths_of, prepare, write_figures
from torch import Tensor

from baselines.backbones.causal import CausalBackbone, CausalConfig
from baselines.data.batches import TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.teachers.mass import teacher_mass
from baselines.teachers.sasrec import SASRec, SASRecConfig
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.objective import Objective, ObjectiveConfig, candidates

Prefixes = dict[tuple[int, ...], list[int]]
StepTimes = dict[str, list[float]]


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


def largest_error(trie: CodeTrie, p: Tensor, oracle: list[list[dict[int, float]]]) -> float:
    """Largest difference between the two over all targets, positions and tokens."""
    expected = torch.zeros_like(p)
    for row, distributions in enumerate(oracle):
        for pos, distribution in enumerate(distributions):
            for slot, token in enumerate(sorted(distribution)):
                expected[row, pos, slot] = distribution[token]
    return float((p - expected).abs().max())


def best_ms(function: Callable[[], object], repeats: int) -> float:
    """Shortest wall time of a call in milliseconds: what the machine does when left alone."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def random_sequences(items: int, gen: torch.Generator) -> SequenceSet:
    """Sequences of random items, about as long as those of Amazon Beauty."""
    lengths = torch.empty(4_000).exponential_(1 / 5, generator=gen).long() + 3
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    return SequenceSet(
        items=torch.randint(items, (int(offsets[-1]),), generator=gen).numpy(),
        offsets=offsets.numpy(),
        first_target=np.ones(len(lengths), dtype=np.int64),
        users=np.arange(len(lengths)),
    )


def training_steps(codes: Tensor, codebook: int, rounds: int, gen: torch.Generator) -> StepTimes:
    """Milliseconds of a training step for each way to train, one time a round.

    Every round trains on the same batch once in each way, so the ways share what the machine does
    at that moment; the ratio to plain NTP is taken round by round.
    """
    data = random_sequences(len(codes), gen)
    backbone = CausalBackbone(CausalConfig(), codes, (codebook,) * codes.shape[1], seed=0).train()
    optimizer = torch.optim.AdamW(backbone.parameters(), fused=True)
    teacher = SASRec(SASRecConfig(), len(codes), seed=0).eval()
    tokenizer = CollaborativeTokenizer(backbone.trie)
    mass = teacher_mass(teacher, tokenizer, data)
    targets = Windows.per_target(data, teacher.max_history)

    def step(batch: TrainBatch, config: ObjectiveConfig, *, on_the_fly: bool = False) -> None:
        found = candidates(backbone.trie, batch.target_items)
        p = mass[batch.target_id] if config.alpha > 0 else None
        if on_the_fly:
            histories = targets.batch(batch.target_id.numpy()).windows.without_last()
            p = tokenizer(teacher.score(histories), batch.target_items)
        with torch.autocast("cpu", torch.bfloat16):
            loss = Objective(config)(backbone(batch), found, p).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()

    ntp = ObjectiveConfig()
    soft_ntp = ObjectiveConfig(name="soft_ntp", alpha=0.1)
    soft_ce = ObjectiveConfig(name="soft_ce", alpha=0.5)
    ways: dict[str, Callable[[TrainBatch], None]] = {
        "ntp": lambda batch: step(batch, ntp),
        "soft_ntp": lambda batch: step(batch, soft_ntp),
        "soft_ce": lambda batch: step(batch, soft_ce),
        "soft_ce, on the fly": lambda batch: step(batch, soft_ce, on_the_fly=True),
    }
    times: StepTimes = {name: [] for name in ways}
    batches = backbone.windows(data).epoch(640, np.random.default_rng(0))
    for turn, batch in enumerate(islice(batches, rounds + 3)):
        for name in sorted(ways, key=lambda name: (list(ways).index(name) + turn) % len(ways)):
            start = time.perf_counter()
            ways[name](batch)
            if turn >= 3:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.add_argument("--batch", type=int, default=256, help="targets a call")
    parser.add_argument("--scale", type=float, default=3.0, help="spread of the teacher's scores")
    parser.add_argument("--repeats", type=int, default=100, help="timed calls of what is fast")
    parser.add_argument("--steps", type=int, default=60, help="training steps of each kind")
    args = parser.parse_args(argv)

    gen = prepare(args)
    paths = paths_of(args, gen)
    trie = CodeTrie.from_paths(paths, paths.shape[1] * args.codebook)
    scores = args.scale * torch.randn(args.batch, trie.num_items, generator=gen)
    targets = torch.randint(trie.num_items, (args.batch,), generator=gen)
    logits = torch.randn(args.batch, trie.depth, trie.num_tokens, generator=gen).requires_grad_()

    tokenizer = CollaborativeTokenizer(trie)
    p = tokenizer(scores, targets)
    found = candidates(trie, targets)

    def loss_step(config: ObjectiveConfig) -> Callable[[], None]:
        objective = Objective(config)

        def step() -> None:
            logits.grad = None
            objective(logits, found, p).loss.backward()

        return step

    path_list, score_list, target_list = paths.tolist(), scores.tolist(), targets.tolist()
    below = items_of_prefix(path_list)
    oracle = loop_over_dictionaries(path_list, below, score_list, target_list)
    loop_ms = best_ms(
        lambda: loop_over_dictionaries(path_list, below, score_list, target_list), repeats=3
    )

    timings = {
        "one read of the scores": best_ms(scores.sum, args.repeats),
        "collaborative tokenizer": best_ms(lambda: tokenizer(scores, targets), args.repeats),
        "loop over dictionaries": loop_ms,
        "candidates": best_ms(lambda: candidates(trie, targets), args.repeats),
        "ntp, forward + backward": best_ms(loss_step(ObjectiveConfig()), args.repeats),
        "soft_ntp, forward + backward": best_ms(
            loss_step(ObjectiveConfig(name="soft_ntp", alpha=0.1)), args.repeats
        ),
        "soft_ce, forward + backward": best_ms(
            loss_step(ObjectiveConfig(name="soft_ce", alpha=0.5)), args.repeats
        ),
    }
    fast = timings["collaborative tokenizer"]
    codes = paths - args.codebook * torch.arange(paths.shape[1])
    steps = training_steps(codes, args.codebook, args.steps, gen)
    over_ntp = {
        name: median(a / b for a, b in zip(times, steps["ntp"], strict=True))
        for name, times in steps.items()
    }
    figures = {
        "items": trie.num_items,
        "levels": trie.depth,
        "batch": args.batch,
        "milliseconds": timings,
        "loop_over_tokenizer": loop_ms / fast,
        "tokenizer_over_read": fast / timings["one read of the scores"],
        "largest_error": largest_error(trie, p, oracle),
        "training_step_milliseconds": {name: median(times) for name, times in steps.items()},
        "training_step_over_ntp": over_ntp,
    }
    print(
        f"{trie.num_items} items x {trie.depth} levels, batch {args.batch}, {args.threads} threads"
    )
    for name, value in timings.items():
        print(f"  {name:<30}{value:>12.2f} ms{value / fast:>10.2f} x")
    print(
        f"  loop / tokenizer {figures['loop_over_tokenizer']:.0f}, "
        f"largest error {figures['largest_error']:.1e}"
    )
    print("a training step of the causal backbone, beside NTP (median of rounds)")
    for name, times in steps.items():
        print(f"  {name:<30}{median(times):>12.2f} ms{over_ntp[name]:>10.3f} x")
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
