"""What the benchmarks share: a catalogue of codes, threads and seed, and the file of figures."""

from __future__ import annotations

import argparse
import json
import platform
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.machine import keep_freed_memory
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


def paths_of(args: argparse.Namespace, gen: torch.Generator) -> Tensor:
    """Token paths int64 ``(item, level)``, each level with tokens of its own.

    Read from a JSON file ``{"item": ["<a_12>", "<b_7>", ...]}``, or uniform.
    """
    if args.codes:
        listed = json.loads(args.codes.read_text()).values()
        codes = torch.tensor([[int(re.findall(r"\d+", c)[-1]) for c in row] for row in listed])
    else:
        codes = torch.randint(args.codebook, (args.items, args.levels), generator=gen)
    return codes + args.codebook * torch.arange(codes.shape[1])


def write_figures(args: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Write the figures, and what they were measured with, where asked."""
    machine = {
        "threads": args.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if args.out:
        atomic_write(args.out, json.dumps({**machine, **figures}, indent=2) + "\n")
