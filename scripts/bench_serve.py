"""Requests a second and latencies of ``semid serve``: bench_serve.py --backbone causal --soak 10.

A model on a random catalogue as large as Amazon Beauty, or a given one, is served on the loopback
twice, with dynamic batching and one request at a time. Each client waits for its answer before it
asks again. Servers and clients share the cores. The servers take turns in pairs, each first in
every other pair, and the gain is the median of the pairs' ratios, so that what else the machine
does meanwhile weighs on both.

With ``--soak``, minutes of valid, invalid and aborted requests to one more server follow. Its
folder is replaced three times meanwhile, once after a half-copied one, and it is stopped in
mid-flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from measuring import add_catalogue, codes_of, prepare, write_figures
from serving_load import load, served
from soaking import Soak

from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.models.config import BackboneConfigs
from baselines.models.items import ModelItems
from baselines.models.spec import ModelSpec
from baselines.models.trained import TrainedModel
from baselines.teachers.config import MassConfig
from baselines.training.config import TrainingConfig
from semid.ids import SemanticIds
from tca.config import ObjectiveConfig

BATCHES, ALONE = "dynamic batching", "one at a time"
_USERS = 300  # enough for a model that is whole; how well it ranks does not matter here


def write_model(folder: Path, args: argparse.Namespace, gen: torch.Generator) -> None:
    """Write a model with random codes, hardly trained."""
    dataset = synthetic_dataset(num_users=_USERS, num_items=args.items)
    codes, item_ids = codes_of(args, gen), dataset.catalog.item_ids
    sizes = (args.codebook,) * codes.shape[1]
    ids = SemanticIds.of(item_ids, codes, sizes, scheme="random")
    spec = ModelSpec.of(
        args.backbone,
        BackboneConfigs(),
        objective=ObjectiveConfig(name="ntp"),
        training=TrainingConfig(epochs=1, precision="fp32"),
        evaluation=EvaluationConfig(validation_beam=5, validation_targets=20),
        mass=MassConfig(),
        seed=args.seed,
    )
    items = ModelItems.of(dataset, ids, None)
    model = TrainedModel.fit(spec, dataset, items, None, folder=folder, title=args.backbone)
    model.keep()


def bodies_of(item_ids: list[Any], args: argparse.Namespace, gen: torch.Generator) -> list[bytes]:
    """Requests with random histories, about as long as those of Amazon Beauty."""
    lengths = torch.empty(args.requests).exponential_(1 / 6, generator=gen).long().clamp(1, 50)
    return [
        json.dumps(
            {
                "history": [
                    item_ids[row]
                    for row in torch.randint(len(item_ids), (length,), generator=gen).tolist()
                ],
                "k": args.k,
            }
        ).encode()
        for length in lengths.tolist()
    ]


def measured(ports: dict[str, int], clients: int, bodies: list[bytes], rounds: int) -> Any:
    """The figures of one number of clients."""
    rates: dict[str, list[float]] = {name: [] for name in ports}
    seconds: dict[str, list[float]] = {name: [] for name in ports}
    for number in range(rounds):
        for name in list(ports)[:: -1 if number % 2 else 1]:
            rate, times = asyncio.run(load(ports[name], clients, bodies))
            rates[name].append(rate)
            seconds[name] += times
    gains = [a / b for a, b in zip(rates[BATCHES], rates[ALONE], strict=True)]
    figures = {
        name: {
            "requests_per_second": median(rates[name]),
            **{f"p{p}_ms": float(np.percentile(seconds[name], p) * 1e3) for p in (50, 95, 99)},
        }
        for name in ports
    }
    return {**figures, "gain": median(gains), "gains": gains}


def compare(folder: Path, args: argparse.Namespace, gen: torch.Generator) -> dict[str, Any]:
    """The figures of all numbers of clients, printed as they come."""
    ways = {BATCHES: [], ALONE: ["--max_batch", "1", "--max_wait_ms", "0"]}
    figures: dict[str, Any] = {}
    with ExitStack() as servers:
        running = {
            name: servers.enter_context(served(folder, args.threads, *options))
            for name, options in ways.items()
        }
        bodies = bodies_of(running[ALONE].item_ids, args, gen)
        ports = {name: server.port for name, server in running.items()}
        for port in ports.values():
            asyncio.run(load(port, 4, bodies[:32]))
        print(f"{'clients':>7} {'':<18}{'req/s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}")
        for clients in args.clients:
            found = figures[str(clients)] = measured(ports, clients, bodies, args.rounds)
            for name in ports:
                row = "".join(f"{value:>9.1f}" for value in found[name].values())
                print(f"{clients:>7} {name:<18}{row[1:]}")
            gains = found["gains"]
            print(
                f"{clients:>7} gain {found['gain']:.2f}, {min(gains):.2f} to {max(gains):.2f} in "
                f"{len(gains)} pairs",
                flush=True,
            )
    return figures


def soak(source: Path, place: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of the minutes of mixed requests, printed."""
    folder = Path(shutil.copytree(source, place / "model"))
    with served(folder, args.threads, "--watch", "1", "--deadline", "30") as server:
        run = Soak(server, folder, source, server.item_ids, k=args.k, seed=args.seed)
        figures = asyncio.run(run.run(60 * args.soak))
    for name, value in figures.items():
        print(f"{name.replace('_', ' ')}: {f'{value:.3f}' if isinstance(value, float) else value}")
    return figures


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.add_argument("--backbone", default="causal", help="causal or tiger")
    parser.add_argument("--model", type=Path, help="folder of a trained model instead")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=256, help="in each turn, of all clients")
    parser.add_argument("--rounds", type=int, default=6, help="pairs of turns")
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--soak", type=float, default=0, help="minutes of mixed requests")
    args = parser.parse_args(argv)

    gen = prepare(args)
    with TemporaryDirectory() as place:
        folder = args.model or Path(place) / "whole"
        if args.model is None:
            write_model(folder, args, gen)
        figures = compare(folder, args, gen)
        if args.soak:
            figures["soak"] = soak(folder, Path(place), args)
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
