"""What alignment costs in a training step: bench_step.py --items 12101 --steps 20.

Whole training steps (forward, backward, clipping, AdamW) of TIGER and of the causal backbone with
each objective, beside plain next-token prediction, the teacher's mass computed once or on the fly:
their time, the memory that they take beyond weights and optimizer, and what of a step the mass
takes, read from a mapped file as in training, or computed, and how much of the teacher's scores are
its users' vectors rather than their product with all items. With ``--top_k`` the mass is that of
the teacher's best items, which is what a catalogue of a million items asks for. All figures come
from one run on one machine; the ratios are what travels.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from measuring import (
    add_catalogue,
    add_tiger,
    codes_of,
    peak_memory,
    prepare,
    random_sequences,
    tiger_of,
    write_figures,
)
from torch import Tensor

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import Backbone, BuildContext
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.teachers.config import SASRecConfig
from baselines.teachers.sasrec import SASRec
from baselines.teachers.top_k_index import TopKIndex
from semid.trie import CodeTrie
from tca.candidates import Positions, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.config import AlphaPolicy, ObjectiveConfig
from tca.objective import Objective
from tca.top_k import TopKTokenizer

Parts = dict[str, float]  # milliseconds of the parts of one step
Compute = Callable[[Histories, Tensor, Parts], Tensor]  # (target, pos, child)
MassOf = Callable[[TrainBatch, Positions, Parts], Tensor]  # (position, child)
Way = tuple[ObjectiveConfig, MassOf | None]

_WARM_UP = 3  # steps before the clock counts
_WEIGHED = 3  # steps whose memory is counted: it differs between batches, not between runs
_CACHE, _TEACHER, _TOKENIZER = "read the cache", "teacher's scores", "collaborative tokenizer"
_USERS = "of these, user vectors"


@contextmanager
def clocked(parts: Parts, name: str) -> Iterator[None]:
    """Add the milliseconds of the block to a part of the step."""
    start = time.perf_counter()
    yield
    parts[name] = parts.get(name, 0.0) + 1e3 * (time.perf_counter() - start)


def mass_of_all(teacher: SASRec, trie: CodeTrie) -> Compute:
    """The teacher's mass from its scores of all items."""
    tokenizer, vectors = CollaborativeTokenizer(trie), teacher.item_vectors()

    def compute(histories: Histories, items: Tensor, parts: Parts) -> Tensor:
        with clocked(parts, _TEACHER):
            with clocked(parts, _USERS):
                users = teacher.user_vectors(histories)
            scores = users @ vectors.T
        with clocked(parts, _TOKENIZER):
            return tokenizer(scores, items)

    return compute


def mass_of_best(teacher: SASRec, trie: CodeTrie, k: int) -> Compute:
    """The teacher's mass from its best items, those near the target and a tail."""
    tokenizer, best = TopKTokenizer(trie), TopKIndex(teacher.item_vectors(), k)

    def compute(histories: Histories, items: Tensor, parts: Parts) -> Tensor:
        with clocked(parts, _TEACHER):
            with clocked(parts, _USERS):
                users = teacher.user_vectors(histories)
            listed = best.with_prefix_neighbours(users, trie, items)
        with clocked(parts, _TOKENIZER):
            return tokenizer(listed.scores, listed.items, items, listed.tail_log_mass)

    return compute


def sources(
    compute: Compute,
    trie: CodeTrie,
    data: SequenceSet,
    max_history: int,
    batches: Sequence[TrainBatch],
    folder: Path,
) -> tuple[MassOf, MassOf]:
    """Two ways to the mass of a batch: from a mapped file as ``cached_mass`` has it, and computed.

    The file is as large as that of all targets, and holds those of the batches.
    """
    targets = Windows.per_target(data, max_history)

    def of_batch(batch: TrainBatch, parts: Parts) -> Tensor:
        histories = targets.batch(batch.target_id.numpy()).windows.without_last()
        return compute(histories, batch.target_items, parts)

    path, shape = folder / "mass.npy", (data.num_targets, trie.depth, trie.max_children)
    written = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    for batch in batches:
        written[batch.target_id.numpy()] = of_batch(batch, {}).half().numpy()
    written.flush()
    del written
    mass = torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))

    def cached(batch: TrainBatch, at: Positions, parts: Parts) -> Tensor:
        with clocked(parts, _CACHE):
            return mass[batch.target_id[at.target], at.pos]

    def on_the_fly(batch: TrainBatch, at: Positions, parts: Parts) -> Tensor:
        return of_batch(batch, parts)[at.target, at.pos]

    return cached, on_the_fly


def ways_to_train(cached: MassOf, on_the_fly: MassOf) -> dict[str, Way]:
    """Each objective, and where it has its mass from."""
    soft_ce = ObjectiveConfig(name="soft_ce", alpha=0.5)
    by_entropy = dataclasses.replace(soft_ce, policy=AlphaPolicy(by="entropy"))
    by_margin = dataclasses.replace(soft_ce, policy=AlphaPolicy(by="margin", cap=True))
    return {
        "ntp": (ObjectiveConfig(), None),
        "soft_ntp, cached": (ObjectiveConfig(name="soft_ntp", alpha=0.1), cached),
        "soft_ce, cached": (soft_ce, cached),
        "soft_ce by entropy, cached": (by_entropy, cached),
        "soft_ce by margin, capped, cached": (by_margin, cached),
        "soft_ce, on the fly": (soft_ce, on_the_fly),
    }


def training_step(
    backbone: Backbone, optimizer: torch.optim.Optimizer, way: Way, batch: TrainBatch
) -> Parts:
    """Train on a batch in one way; the parts of the step."""
    config, mass_of = way
    parts: Parts = {}
    with clocked(parts, "step"):
        objective = Objective(config)
        at = objective.positions(backbone.trie, batch.target_items)
        found = candidates(backbone.trie, batch.target_items, at)
        p = mass_of(batch, at, parts) if mass_of else None
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective(backbone(batch, at), found, p).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
    return parts


def measure(
    backbone: Backbone, teacher: SASRec, data: SequenceSet, args: argparse.Namespace
) -> dict[str, Any]:
    """Medians over the rounds of one backbone.

    Every round trains on the same batch once in each way, so the ways share what the machine does
    at that moment; the ratio to plain NTP is taken round by round.
    """
    epoch = backbone.windows(data).epoch(args.events, np.random.default_rng(args.seed))
    batches = list(islice(epoch, args.steps + _WARM_UP))
    if args.top_k is None:
        compute = mass_of_all(teacher, backbone.trie)
    else:
        compute = mass_of_best(teacher, backbone.trie, args.top_k)
    optimizer = torch.optim.AdamW(backbone.train().parameters(), fused=True)
    with TemporaryDirectory() as folder:
        cached, on_the_fly = sources(
            compute, backbone.trie, data, teacher.max_history, batches, Path(folder)
        )
        ways = ways_to_train(cached, on_the_fly)
        names = list(ways)
        steps: dict[str, list[Parts]] = {name: [] for name in ways}
        for turn, batch in enumerate(batches):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                parts = training_step(backbone, optimizer, ways[name], batch)
                if turn >= _WARM_UP:
                    steps[name].append(parts)
        memory = {
            name: [
                peak_memory(lambda way=way, batch=b: training_step(backbone, optimizer, way, batch))
                for b in batches[:_WEIGHED]
            ]
            for name, way in ways.items()
        }

    def share(way: str, part: str) -> float:
        return median(parts[part] / parts["step"] for parts in steps[way])

    return {
        "targets_of_a_step": sum(len(batch.target_id) for batch in batches) / len(batches),
        "cache_bytes_of_a_target": 2 * backbone.trie.depth * backbone.trie.max_children,
        "step_milliseconds": {
            name: median(parts["step"] for parts in rounds) for name, rounds in steps.items()
        },
        "step_over_ntp": {
            name: median(
                parts["step"] / plain["step"]
                for parts, plain in zip(rounds, steps["ntp"], strict=True)
            )
            for name, rounds in steps.items()
        },
        "step_megabytes": {name: median(sizes) / 1e6 for name, sizes in memory.items()},
        "memory_over_ntp": {
            name: median(a / b for a, b in zip(sizes, memory["ntp"], strict=True))
            for name, sizes in memory.items()
        },
        "share_of_the_step": {
            _CACHE: share("soft_ce, cached", _CACHE),
            _TEACHER: share("soft_ce, on the fly", _TEACHER),
            _USERS: share("soft_ce, on the fly", _USERS),
            _TOKENIZER: share("soft_ce, on the fly", _TOKENIZER),
        },
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    add_tiger(parser)
    parser.add_argument("--top_k", type=int, help="mass of so many best items, not of all")
    parser.add_argument("--events", type=int, default=640, help="events of a batch")
    parser.add_argument("--steps", type=int, default=20, help="training steps of each kind")
    args = parser.parse_args(argv)

    gen = prepare(args)
    codes = codes_of(args, gen)
    sizes = (args.codebook,) * codes.shape[1]
    data = random_sequences(len(codes), gen)
    teacher = SASRec(SASRecConfig(), len(codes), seed=args.seed).eval()
    backbones: list[Backbone] = [
        tiger_of(args, codes),
        CausalBackbone(CausalConfig(), BuildContext(codes, sizes, seed=args.seed)),
    ]
    figures = {}
    print(f"{len(codes)} items, {args.events} events a batch, {args.threads} threads")
    for backbone in backbones:
        found = measure(backbone, teacher, data, args)
        figures[backbone.label] = found
        print(
            f"{backbone.label}: {found['targets_of_a_step']:.0f} targets a step, "
            f"{found['cache_bytes_of_a_target']} bytes of cache a target"
        )
        for name, ms in found["step_milliseconds"].items():
            print(
                f"  {name:<34}{ms:>10.1f} ms{found['step_over_ntp'][name]:>8.3f} x ntp"
                f"{found['step_megabytes'][name]:>10.1f} MB{found['memory_over_ntp'][name]:>8.3f} x"
            )
        for name, share in found["share_of_the_step"].items():
            print(f"  {name:<34}{100 * share:>10.2f} % of its step with soft_ce")
    write_figures(args, {"items": len(codes), "events": args.events, "backbones": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
