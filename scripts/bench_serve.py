"""Requests a second and latencies of ``semid serve``: bench_serve.py --backbone causal.

A model on a random catalogue as large as Amazon Beauty is served on the loopback twice, with
dynamic batching and one request at a time. Each client waits for its answer before it asks again.
Servers and clients share the cores. The servers take turns within a round, and the ratio is taken
round by round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from measuring import add_catalogue, codes_of, prepare, write_figures

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


def write_model(folder: Path, args: argparse.Namespace, gen: torch.Generator) -> list[int]:
    """Write a model with random codes, hardly trained; the item IDs."""
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
    return [int(item) for item in item_ids]


@contextmanager
def served(folder: Path, args: argparse.Namespace, *options: str) -> Iterator[int]:
    """A server in a process of its own; its port."""
    words = [sys.executable, "-m", "baselines.cli", "serve", str(folder), "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline().rsplit(":", 1)[1])
        finally:
            process.terminate()


async def ask(port: int, bodies: list[bytes], seconds: list[float]) -> None:
    """Send requests over one connection, each after the answer to the last."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in bodies:
        head = (
            "POST /v1/recommend HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        start = time.perf_counter()
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert answer.startswith(b"http/1.1 200"), answer
        length = answer.split(b"content-length: ")[1].split(b"\r\n")[0]
        await reader.readexactly(int(length))
        seconds.append(time.perf_counter() - start)
    writer.close()
    await writer.wait_closed()


async def load(port: int, clients: int, bodies: list[bytes]) -> tuple[float, list[float]]:
    """Requests a second of some clients, and the seconds of each request."""
    seconds: list[float] = []
    start = time.perf_counter()
    parts = [bodies[number::clients] for number in range(clients)]
    await asyncio.gather(*(ask(port, part, seconds) for part in parts))
    return len(bodies) / (time.perf_counter() - start), seconds


def bodies_of(item_ids: list[int], args: argparse.Namespace, gen: torch.Generator) -> list[bytes]:
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
    for _ in range(rounds):
        for name, port in ports.items():
            rate, times = asyncio.run(load(port, clients, bodies))
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
    return {**figures, "gain": median(gains)}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark, print a table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_catalogue(parser)
    parser.add_argument("--backbone", default="causal", help="causal or tiger")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=256, help="in each round, of all clients")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--k", type=int, default=10)
    args = parser.parse_args(argv)

    gen = prepare(args)
    ways = {BATCHES: [], ALONE: ["--max_batch", "1", "--max_wait_ms", "0"]}
    figures: dict[str, Any] = {}
    with TemporaryDirectory() as place, ExitStack() as servers:
        folder = Path(place) / "model"
        bodies = bodies_of(write_model(folder, args, gen), args, gen)
        ports = {
            name: servers.enter_context(served(folder, args, *options))
            for name, options in ways.items()
        }
        for port in ports.values():
            asyncio.run(load(port, 4, bodies[:32]))
        print(f"{'clients':>7} {'':<18}{'req/s':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}")
        for clients in args.clients:
            found = measured(ports, clients, bodies, args.rounds)
            figures[str(clients)] = found
            for name in ports:
                row = "".join(f"{value:>9.1f}" for value in found[name].values())
                print(f"{clients:>7} {name:<18}{row[1:]}")
            print(f"{clients:>7} gain {found['gain']:.2f}", flush=True)
    write_figures(args, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
