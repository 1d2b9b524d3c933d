"""What the benchmarks share: codes, histories, threads and seed, timing, arithmetic, figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from baselines.backbones.config import TigerConfig
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet
from baselines.runtime.allocator import keep_freed_memory
from semid.provenance import atomic_write


def add_catalogue(parser: argparse.ArgumentParser) -> None:
    """Add the options that all benchmarks have."""
    parser.add_argument("--items", type=int, default=12_101, help="items of the random catalogue")
    parser.add_argument("--levels", type=int, default=4, help="levels of the random codes")
    parser.add_argument("--codebook", type=int, default=256, help="codes a level")
    parser.add_argument("--codes", type=Path, help="JSON file of codes instead of random ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")


def prepare(args: argparse.Namespace) -> torch.Generator:
    """Set memory and threads up as the command line does; a generator with the seed."""
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    return torch.Generator().manual_seed(args.seed)


def codes_of(args: argparse.Namespace, gen: torch.Generator) -> Tensor:
    """Codes int64 ``(item, level)`` in ``[0, args.codebook)``.

    Read from a JSON file ``{"item": ["<a_12>", "<b_7>", ...]}``, or uniform.
    """
    if args.codes:
        listed = json.loads(args.codes.read_text()).values()
        return torch.tensor([[int(re.findall(r"\d+", c)[-1]) for c in row] for row in listed])
    return torch.randint(args.codebook, (args.items, args.levels), generator=gen)


def paths_of(args: argparse.Namespace, gen: torch.Generator) -> Tensor:
    """Token paths int64 ``(item, level)`` of ``codes_of``, each level with tokens of its own."""
    codes = codes_of(args, gen)
    return codes + args.codebook * torch.arange(codes.shape[1])


def add_tiger(parser: argparse.ArgumentParser) -> None:
    """Add the options for TIGER's shape."""
    parser.add_argument("--layers", type=int, default=TigerConfig.num_layers, help="of TIGER")
    parser.add_argument("--dim", type=int, default=TigerConfig.dim, help="of TIGER")


def tiger_of(args: argparse.Namespace, codes: Tensor) -> TigerBackbone:
    """TIGER with random weights, in eval mode."""
    config = TigerConfig(num_layers=args.layers, dim=args.dim)
    sizes = (args.codebook,) * codes.shape[1]
    return TigerBackbone(config, BuildContext(codes, sizes, seed=args.seed)).eval()


def random_histories(batch: int, items: int, longest: int, gen: torch.Generator) -> Histories:
    """Left-padded histories of 1 to ``longest`` random items."""
    length = torch.randint(1, longest + 1, (batch, 1), generator=gen)
    length[0] = longest
    return Histories(
        items=torch.randint(items, (batch, longest), generator=gen),
        mask=torch.arange(longest) >= longest - length,
        users=torch.arange(batch),
    )


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


def interleaved(
    ways: Mapping[str, Callable[[], Any]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Milliseconds of every way in every round, and what each returned.

    Ways take turns, so they share what the machine does at that moment. Each is called twice in its
    turn and the second call counts, since the way before leaves caches and memory to itself. On a
    machine that others use too, ``time.process_time`` with one thread is the fairer clock.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            way()
            start = clock()
            found[name] = way()
            times[name].append(1e3 * (clock() - start))
    return times, found


def ratios(times: Mapping[str, list[float]], base: str) -> dict[str, float]:
    """Median over the rounds of each way's time over that of ``base`` in the same round."""
    return {
        name: median(a / b for a, b in zip(values, times[base], strict=True))
        for name, values in times.items()
    }


def peak_memory(work: Callable[[], object]) -> int:
    """Most bytes that tensors on the CPU hold at once during ``work``, beside those from before.

    Every allocation of torch is counted, so the figure is the same in every run. The resident set
    is not: it depends on what the C allocator keeps and on the runs before. Scratch space inside of
    matrix products is left out.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    memory = [event for event in events if event["name"] == "[memory]"]
    memory.sort(key=lambda event: event["ts"])
    return max(accumulate(event["args"]["Bytes"] for event in memory), default=0)


def arithmetic(work: Callable[[], object]) -> float:
    """Floating-point operations of the matrix products and the attention in ``work``."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: attention}) as counter:
        work()
    return float(counter.get_total_flops())


def fastest_rate(clock: Callable[[], float] = time.perf_counter) -> float:
    """Operations a second of a matrix product of the models' size, the fastest of many calls."""
    rows, inner, columns = 4096, 128, 1024
    x, weight = torch.randn(rows, inner), torch.randn(columns, inner)
    times = []
    for _ in range(50):
        start = clock()
        torch.nn.functional.linear(x, weight)
        times.append(clock() - start)
    return 2 * rows * inner * columns / min(times)


_STARTER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
with subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL) as process:
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
figures = {
    "seconds": time.perf_counter() - start,
    "processor_seconds": used.ru_utime + used.ru_stime,
    "peak_mib": used.ru_maxrss / 1024,
}
print(json.dumps({"status": process.returncode, "figures": figures}))
"""


def run_measured(command: list[str], threads: int | None = None) -> dict[str, float]:
    """Seconds, seconds of processor and peak memory in MiB of a command, which must end well.

    The system counts what its parent holds when a command starts as the command's own, so a small
    process starts it.
    """
    limits = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    starter = [sys.executable, "-c", _STARTER, *command]
    done = subprocess.run(
        starter, env={**os.environ, **limits}, stdout=subprocess.PIPE, check=True, text=True
    )
    found = json.loads(done.stdout)
    if found["status"]:
        raise SystemExit(f"{' '.join(command)} ended with {found['status']}")
    figures: dict[str, float] = found["figures"]
    return figures


def write_figures(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Write the figures, and what they were measured with, where asked."""
    machine = {
        "threads": args.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if args.out:
        atomic_write(args.out, json.dumps({**machine, **figures}, indent=2) + "\n")
