"""How fast training goes: bench_train.py --data ../shared/data/beauty --codes semantic_ids.json.

The training step of TIGER (batches of like length, no padding inside the model) beside a plain loop
over ``T5ForConditionalGeneration`` of the same size with every history padded to the longest, on
the same targets in the same run; both in float32 and in bfloat16. Then the causal backbone, which
learns from all targets of a sequence in one pass. The unit is targets a second; ratios are taken
round by round.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
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
from torch import nn
from transformers import T5Config, T5ForConditionalGeneration

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import Backbone, BuildContext
from baselines.data.batches import TrainBatch, Windows
from baselines.data.loading import load_dataset
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective

Step = Callable[[], int]  # one step of training; how many targets it learned from

_WARM_UP = 2


def endless(windows: Windows, batch_events: int, seed: int) -> Iterator[TrainBatch]:
    """Batches of one epoch after another."""
    rng = np.random.default_rng(seed)
    while True:
        yield from windows.epoch(batch_events, rng)


def our_step(
    backbone: Backbone, windows: Windows, batch_events: int, seed: int, *, bf16: bool
) -> Step:
    """A step as ``baselines.training.loop`` makes it, the making of the batch included."""
    objective = Objective(ObjectiveConfig())
    optimizer = torch.optim.AdamW(backbone.parameters(), fused=True)
    batches = endless(windows, batch_events, seed)

    def step() -> int:
        batch = next(batches)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            at = objective.positions(backbone.trie, batch.target_items)
            choices = candidates(backbone.trie, batch.target_items, at)
            loss = objective(backbone(batch, at), choices).loss
        return learn(backbone, optimizer, loss, len(batch.target_row))

    return step


def plain_step(
    backbone: TigerBackbone, windows: Windows, targets: int, seed: int, *, bf16: bool
) -> Step:
    """A step of the loop that reproductions write: shuffled targets, all padded to the longest."""
    shape = backbone.config
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=backbone.vocab.num_tokens,
            d_model=shape.dim,
            d_kv=shape.head_dim,
            d_ff=shape.ff_dim,
            num_layers=shape.num_layers,
            num_heads=shape.num_heads,
            dropout_rate=shape.dropout,
            decoder_start_token_id=0,
        )
    ).train()
    optimizer = torch.optim.AdamW(model.parameters())
    rng = np.random.default_rng(seed)
    longest = backbone.max_history * backbone.codes.shape[1]

    def step() -> int:
        batch = windows.batch(rng.choice(len(windows), size=targets, replace=False))
        tokens, mask = backbone.encoder_input(batch.windows.without_last())
        missing = (longest - tokens.shape[1], 0)
        tokens, mask = (nn.functional.pad(x, missing, value=0) for x in (tokens, mask))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = model(
                input_ids=tokens,
                attention_mask=mask.long(),
                labels=backbone.paths[batch.target_items],
            ).loss
        return learn(model, optimizer, loss, targets)

    return step


def learn(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: torch.Tensor, targets: int
) -> int:
    """Backward, clipping and the optimiser's step."""
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return targets


def targets_a_second(ways: dict[str, Step], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Each way trains for about ``seconds`` in every round; ways take turns."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, step in ways.items():
            for _ in range(_WARM_UP if turn == 0 else 0):
                step()
            start, targets = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < seconds:
                targets += step()
            rates[name].append(targets / passed)
    return rates


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.add_argument("--data", help="data set to train on instead of random sequences")
    add_tiger(parser)
    parser.add_argument("--events", type=int, default=2048, help="events of our batches")
    parser.add_argument("--targets", type=int, default=256, help="targets of a plain batch")
    parser.add_argument("--seconds", type=float, default=8.0, help="of every way in a round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)

    gen = prepare(args)
    codes = codes_of(args, gen)
    data = load_dataset(args.data).splits.train if args.data else random_sequences(len(codes), gen)

    def tiger() -> TigerBackbone:
        return tiger_of(args, codes).train()

    sizes = (args.codebook,) * codes.shape[1]
    causal = CausalBackbone(CausalConfig(), BuildContext(codes, sizes, seed=args.seed)).train()
    windows = tiger().windows(data)
    ways = {
        "plain T5, float32": plain_step(tiger(), windows, args.targets, args.seed, bf16=False),
        "TIGER, float32": our_step(tiger(), windows, args.events, args.seed, bf16=False),
        "plain T5, bfloat16": plain_step(tiger(), windows, args.targets, args.seed, bf16=True),
        "TIGER, bfloat16": our_step(tiger(), windows, args.events, args.seed, bf16=True),
        "causal, bfloat16": our_step(causal, causal.windows(data), 640, args.seed, bf16=True),
    }
    rates = targets_a_second(ways, args.seconds, args.rounds)
    base = rates["plain T5, float32"]
    over = {
        name: median(a / b for a, b in zip(values, base, strict=True))
        for name, values in rates.items()
    }
    history = float((windows.lengths - 1).mean())
    print(f"{len(windows)} targets, {history:.1f} items before each, {args.threads} threads")
    for name, values in rates.items():
        print(f"  {name:<22}{median(values):>10.0f} targets/s{over[name]:>8.2f} x plain float32")
    figures: dict[str, Any] = {
        "targets": len(windows),
        "mean_history": history,
        "targets_a_second": {name: median(values) for name, values in rates.items()},
        "over_plain_float32": over,
        "bfloat16_over_plain_bfloat16": median(
            a / b
            for a, b in zip(rates["TIGER, bfloat16"], rates["plain T5, bfloat16"], strict=True)
        ),
    }
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
