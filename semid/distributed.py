"""Several processes with one result: they share the work, and the main one writes.

All of them run the whole program, started by ``torchrun`` or ``accelerate launch``; whatever is
called on one process is called on all, in one order. In a program of one process nothing here does
anything. "Rank" is kept for the place of an item in a list.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from semid.atomic import alone_in

if TYPE_CHECKING:
    from accelerate import PartialState

if dist.is_available():
    # Its functions keep, as a default, the group there is when they are first imported (the first
    # optimizer does it). Then the group's threads outlive its end, and may abort the process's.
    import torch.distributed.nn

__all__ = [
    "all_reduce",
    "all_reduce_mean",
    "broadcast_from_main",
    "distributed_state",
    "is_my_turn",
    "main_process_first",
    "num_processes",
    "once",
    "one_run_at_a_time",
    "require_equal",
]

Made = TypeVar("Made")
Found = TypeVar("Found")

_PATIENCE = timedelta(days=7)  # the others wait while the main process embeds, fits or certifies


def distributed_state() -> PartialState:
    """Process index, number of processes and device; the first call connects the processes.

    Raises:
        ValueError: If this is one of several processes that cannot exchange tensors.
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    here = PartialState(cpu=cpu, timeout=_PATIENCE)
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != here.num_processes:
        raise ValueError(
            f"expected {started} processes (WORLD_SIZE), got {here.num_processes} that can share "
            f"tensors on {here.device}. Start one process, or set ACCELERATE_USE_CPU=1."
        )
    return here


def num_processes() -> int:
    """How many processes are connected already; unlike ``distributed_state``, connects none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def once(
    read: Callable[[], Found | None],
    make: Callable[[], Made],
    write: Callable[[Made], object] = lambda _: None,
) -> Found:
    """Read a result; where there is none yet, all processes make it and the main one writes it.

    All of them look before any of them writes, so they take the same way.

    Args:
        read: Reads and checks the result; None where there is none.
        make: Computes it, on all processes together. Wrap it in ``broadcast_from_main`` where
            one process computes it alone.
        write: Writes it, whole or not at all; called on the main process. By default nothing, for
            results that ``make`` writes piece by piece.

    Returns:
        What ``read`` finds in the end.
    """
    found = read()
    if found is not None:
        return found
    here = distributed_state()
    here.wait_for_everyone()
    made = make()
    if here.is_main_process:
        write(made)
    here.wait_for_everyone()
    found = read()
    assert found is not None, "what was written cannot be found"
    return found


def broadcast_from_main(make: Callable[[], Made]) -> Made:
    """Call ``make`` on the main process, and give its result to all of them.

    So it is the same bits on all of them, and what one process alone would make.

    Args:
        make: What it returns is pickled on the way to the others; tensors should be on the CPU.

    Raises:
        ValueError: On the others, if ``make`` raised on the main one, where its error is raised.
    """
    if num_processes() == 1:
        return make()
    outcome: list[Any] = [None, None]  # what was made, or what went wrong
    failed: Exception | None = None
    if dist.get_rank() == 0:
        try:
            outcome[0] = make()
        except Exception as error:
            failed, outcome[1] = error, str(error)
    dist.broadcast_object_list(outcome, src=0)
    if failed is not None:
        raise failed
    if outcome[1] is not None:
        raise ValueError(f"the main process could not go on: {outcome[1]}")
    made: Made = outcome[0]
    return made


@contextmanager
def main_process_first() -> Iterator[None]:
    """Run the body on the main process, then on the others, which find what it wrote.

    Where the main one fails, the others go on and find out for themselves.
    """
    if num_processes() == 1:
        yield
        return
    if dist.get_rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if dist.get_rank() == 0:
            dist.barrier()


@contextmanager
def one_run_at_a_time(folder: Path) -> Iterator[None]:
    """Let the processes of this run into a folder when those of other runs have left it."""
    here = distributed_state()
    with alone_in(folder) if here.is_main_process else nullcontext():
        here.wait_for_everyone()
        yield


def is_my_turn(turn: int) -> bool:
    """Whether work number ``turn`` of a list that all processes walk through falls to this one."""
    here = distributed_state()
    return turn % int(here.num_processes) == int(here.process_index)


def all_reduce(part: Tensor) -> Tensor:
    """Sum of ``part`` over the processes, on its device; ``part`` may be overwritten."""
    here = distributed_state()
    if here.num_processes == 1:
        return part
    total = part.to(here.device)
    dist.all_reduce(total)
    return total.to(part.device)


@torch.no_grad()
def all_reduce_mean(tensors: Sequence[Tensor], weight: Tensor) -> None:
    """Replace tensors by their mean over the processes, in one exchange.

    Args:
        tensors: Changed in place. Float, of the same shapes on all processes.
        weight: Scalar, how much this process's values count; where it is zero on all of them, the
            tensors stay as they are.
    """
    if distributed_state().num_processes == 1:
        return
    weight = weight.to(tensors[0].device, torch.float32).reshape(1)
    flat = torch.cat([weight, *(tensor.float().flatten() * weight for tensor in tensors)])
    flat = all_reduce(flat)
    means = torch.split(flat[1:] / flat[0], [tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(torch.where(flat[0] > 0, mean.view_as(tensor), tensor))


def require_equal(digest: str, what: str) -> None:
    """Refuse to go on where processes hold different things; all of them raise.

    Args:
        digest: A hash in hexadecimal digits, equally long on all processes.
        what: What was hashed.

    Raises:
        ValueError: If it is not the same on all processes.
    """
    if num_processes() == 1:
        return
    mine = torch.frombuffer(bytearray(digest.encode("ascii")), dtype=torch.uint8)
    mine = mine.to(_device(mine))
    found = [torch.empty_like(mine) for _ in range(num_processes())]
    dist.all_gather(found, mine)
    other = [index for index, theirs in enumerate(found) if not theirs.equal(found[0])]
    if other:
        raise ValueError(
            f"expected the same {what} on all {num_processes()} processes, got others on process "
            f"{other[0]} than on 0. Pass all of them the whole catalogue in one order."
        )


def _device(tensor: Tensor) -> torch.device:
    """Where the process group can exchange a tensor."""
    backend = str(dist.get_backend(None))
    if backend == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return tensor.device if "nccl" in backend else torch.device("cpu")
