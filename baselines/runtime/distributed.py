"""Several processes that train one model together, each on its share of every batch.

All of them run the whole program; what is written to disk is written by the main process. Started
by ``torchrun`` or ``accelerate launch``; in a program of one process nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed.nn  # before there is a group, of which its functions would keep hold
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor

from semid.atomic import alone_in

_PATIENCE = timedelta(days=7)  # the others wait while the main process embeds, fits or certifies


def processes() -> PartialState:
    """Which process this is, out of how many, and its device; the first call connects them.

    Whatever is called on one process must be called on all of them, in the same order.

    Raises:
        ValueError: If this is one of several processes that cannot exchange tensors.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    here = PartialState(cpu=cpu, timeout=_PATIENCE)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != here.num_processes:
        raise ValueError(
            f"expected {started} processes (WORLD_SIZE), got {here.num_processes} that can share "
            f"tensors on {here.device}. Start one process, or set ACCELERATE_USE_CPU=1."
        )
    return here


@contextmanager
def one_run_at_a_time(folder: Path) -> Iterator[None]:
    """Let the processes of this run into a folder when those of other runs have left it."""
    here = processes()
    with alone_in(folder) if here.is_main_process else nullcontext():
        here.wait_for_everyone()
        yield


def is_my_turn(turn: int) -> bool:
    """Whether work number ``turn`` of a list that all processes walk through falls to this one."""
    here = processes()
    return turn % int(here.num_processes) == int(here.process_index)


def as_main_says(answer: Callable[[], bool]) -> bool:
    """Ask the main process, and tell all of them what it says."""
    return bool(add_up(torch.tensor(float(processes().is_main_process and answer()))) > 0)


def add_up(part: Tensor) -> Tensor:
    """Sum of ``part`` over the processes, on its device; ``part`` may be overwritten."""
    here = processes()
    if here.num_processes == 1:
        return part
    total = part.to(here.device)
    torch.distributed.all_reduce(total)
    return total.to(part.device)


@torch.no_grad()
def average(tensors: Sequence[Tensor], weight: Tensor) -> None:
    """Replace tensors by their mean over the processes, in one exchange.

    Args:
        tensors: Changed in place. Float, of the same shapes on all processes.
        weight: Scalar, how much this process's values count; where it is zero on all of them, the
            tensors stay as they are.
    """
    if processes().num_processes == 1:
        return
    weight = weight.to(tensors[0].device, torch.float32).reshape(1)
    flat = add_up(torch.cat([weight, *(tensor.float().flatten() * weight for tensor in tensors)]))
    means = torch.split(flat[1:] / flat[0], [tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(torch.where(flat[0] > 0, mean.view_as(tensor), tensor))
