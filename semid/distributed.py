"""Several processes with one result: what the first one makes, the others get.

Built on ``torch.distributed`` alone. Where no process group is initialised there is one process,
and nothing here does anything. Whatever is called on one process is called on all, in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

if dist.is_available():
    # Its functions keep, as a default, the group there is when they are first imported (the first
    # optimizer does it). Then the group's threads outlive its end, and may abort the process's.
    import torch.distributed.nn

__all__ = ["first_before_others", "num_ranks", "on_first", "require_equal"]

Made = TypeVar("Made")


def num_ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def on_first(make: Callable[[], Made]) -> Made:
    """What the first process makes, on all processes, while the others wait.

    So it is the same bits on all of them, and what one process alone would make.

    Args:
        make: Called on the first process. What it returns is pickled on the way to the others;
            tensors should be on the CPU.

    Raises:
        ValueError: On the others, if ``make`` raised on the first one, where its error is raised.
    """
    if num_ranks() == 1:
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
        raise ValueError(f"the first process could not go on: {outcome[1]}")
    made: Made = outcome[0]
    return made


def require_equal(digest: str, what: str) -> None:
    """Refuse to go on where processes hold different things; all of them raise.

    Args:
        digest: A hash in hexadecimal digits, equally long on all processes.
        what: What was hashed.

    Raises:
        ValueError: If it is not the same on all processes.
    """
    if num_ranks() == 1:
        return
    mine = torch.frombuffer(bytearray(digest.encode("ascii")), dtype=torch.uint8)
    mine = mine.to(_device(mine))
    found = [torch.empty_like(mine) for _ in range(num_ranks())]
    dist.all_gather(found, mine)
    other = [rank for rank, theirs in enumerate(found) if not theirs.equal(found[0])]
    if other:
        raise ValueError(
            f"expected the same {what} on all {num_ranks()} processes, got others on process "
            f"{other[0]} than on 0. Pass all of them the whole catalogue in one order."
        )


@contextmanager
def first_before_others() -> Iterator[None]:
    """Run the body on the first process, then on the others, which find what it wrote.

    Where the first one fails, the others go on and find out for themselves.
    """
    if num_ranks() == 1:
        yield
        return
    if dist.get_rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if dist.get_rank() == 0:
            dist.barrier()


def _device(tensor: Tensor) -> torch.device:
    """Where the process group can exchange a tensor."""
    backend = str(dist.get_backend(None))
    if backend == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return tensor.device if "nccl" in backend else torch.device("cpu")
