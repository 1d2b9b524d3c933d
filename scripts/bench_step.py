"""What alignment costs in a training step: bench_step.py --items 12101 --steps 20.

Whole training steps (forward, backward, clipping, AdamW) of TIGER and of the causal backbone with
each objective, beside plain next-token prediction, the teacher's mass computed once or on the fly;
and what of a step the mass takes: read from the cache, or scored by the teacher and summed by the
Collaborative Tokenizer. All figures come from one run on one machine; the ratios are what travels.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from statistics import median
from typing import Any

import numpy as np
import torch
from measuring import (
    add_catalogue,
    add_tiger,
    codes_of,
    prepare,
    random_sequences,
    tiger_of,
    write_figures,
)
from torch import Tensor

from baselines.backbones.backbone import Backbone
from baselines.backbones.causal import CausalBackbone, CausalConfig
from baselines.data.batches import TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.teachers.mass import teacher_mass
from baselines.teachers.sasrec import SASRec, SASRecConfig
from tca.alignment import AlphaPolicy
from tca.candidates import Positions, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.objective import Objective, ObjectiveConfig

Parts = dict[str, float]  # milliseconds of the parts of one step
MassOf = Callable[[TrainBatch, Positions, Parts], Tensor]

_WARM_UP = 3  # steps before the clock counts
_CACHE, _TEACHER, _TOKENIZER = "read the cache", "teacher's scores", "collaborative tokenizer"


@contextmanager
def clocked(parts: Parts, name: str) -> Iterator[None]:
    """Add the milliseconds of the block to a part of the step."""
    start = time.perf_counter()
    yield
    parts[name] = parts.get(name, 0.0) + 1e3 * (time.perf_counter() - start)


def sources(
    backbone: Backbone, teacher: SASRec, data: SequenceSet
) -> tuple[Tensor, MassOf, MassOf]:
    """The teacher's mass of all targets, and two ways to that of a batch: cached and on the fly."""
    tokenizer = CollaborativeTokenizer(backbone.trie)
    mass = teacher_mass(teacher, tokenizer, data)
    targets = Windows.per_target(data, teacher.max_history)

    def cached(batch: TrainBatch, at: Positions, parts: Parts) -> Tensor:
        with clocked(parts, _CACHE):
            return mass[batch.target_id[at.target], at.pos]

    def on_the_fly(batch: TrainBatch, at: Positions, parts: Parts) -> Tensor:
        with clocked(parts, _TEACHER):
            histories = targets.batch(batch.target_id.numpy()).windows.without_last()
            scores = teacher.score(histories)
        with clocked(parts, _TOKENIZER):
            return tokenizer(scores, batch.target_items)[at.target, at.pos]

    return mass, cached, on_the_fly


def training_steps(
    backbone: Backbone, cached: MassOf, on_the_fly: MassOf, batches: Iterator[TrainBatch]
) -> dict[str, list[Parts]]:
    """The parts of a training step for each way to train, one step a round.

    Every round trains on the same batch once in each way, so the ways share what the machine does
    at that moment; the ratio to plain NTP is taken round by round.
    """
    optimizer = torch.optim.AdamW(backbone.parameters(), fused=True)
    soft_ce = ObjectiveConfig(name="soft_ce", alpha=0.5)
    by_entropy = dataclasses.replace(soft_ce, policy=AlphaPolicy(by="entropy"))
    by_margin = dataclasses.replace(soft_ce, policy=AlphaPolicy(by="margin", cap=True))
    ways: dict[str, tuple[ObjectiveConfig, MassOf | None]] = {
        "ntp": (ObjectiveConfig(), None),
        "soft_ntp, cached": (ObjectiveConfig(name="soft_ntp", alpha=0.1), cached),
        "soft_ce, cached": (soft_ce, cached),
        "soft_ce by entropy, cached": (by_entropy, cached),
        "soft_ce by margin, capped, cached": (by_margin, cached),
        "soft_ce, on the fly": (soft_ce, on_the_fly),
    }
    steps: dict[str, list[Parts]] = {name: [] for name in ways}
    names = list(ways)
    for turn, batch in enumerate(batches):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            config, mass_of = ways[name]
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
            if turn >= _WARM_UP:
                steps[name].append(parts)
    return steps


def measure(
    backbone: Backbone, teacher: SASRec, data: SequenceSet, args: argparse.Namespace
) -> dict[str, Any]:
    """Medians over the rounds of one backbone."""
    mass, cached, on_the_fly = sources(backbone, teacher, data)
    epoch = backbone.windows(data).epoch(args.events, np.random.default_rng(args.seed))
    batches = list(islice(epoch, args.steps + _WARM_UP))
    steps = training_steps(backbone.train(), cached, on_the_fly, iter(batches))

    def share(way: str, part: str) -> float:
        return median(parts[part] / parts["step"] for parts in steps[way])

    return {
        "targets_of_a_step": sum(len(batch.target_id) for batch in batches) / len(batches),
        "cache_bytes_of_a_target": mass[0].nbytes,
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
        "share_of_the_step": {
            _CACHE: share("soft_ce, cached", _CACHE),
            _TEACHER: share("soft_ce, on the fly", _TEACHER),
            _TOKENIZER: share("soft_ce, on the fly", _TOKENIZER),
        },
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    add_tiger(parser)
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
        CausalBackbone(CausalConfig(), codes, sizes, seed=args.seed),
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
            print(f"  {name:<30}{ms:>12.1f} ms{found['step_over_ntp'][name]:>10.3f} x ntp")
        for name, share in found["share_of_the_step"].items():
            print(f"  {name:<30}{100 * share:>12.2f} % of its step with soft_ce")
    write_figures(args, {"items": len(codes), "events": args.events, "backbones": figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
