"""Several processes that fit one tokenizer together: shares of a batch, sums, one result.

Built on ``torch.distributed`` alone. Where no process group is initialised there is one process,
and nothing here does anything. Whatever is called on one process is called on all, in one order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch import distributed as dist

if dist.is_available():
    # Its functions keep, as a default, the group there is when they are first imported (the first
    # optimizer does it). Then the group's threads outlive its end, and may abort the process's.
    import torch.distributed.nn

__all__ = ["add_up", "first_before_others", "num_ranks", "require_equal", "share_of", "spread"]


def num_ranks() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def share_of(count: int) -> slice:
    """This process's share of ``count`` rows: consecutive, as even as can be, maybe empty."""
    ranks = num_ranks()
    if ranks == 1:
        return slice(0, count)
    rank = dist.get_rank()
    return slice(count * rank // ranks, count * (rank + 1) // ranks)


@torch.no_grad()
def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its sum over the processes, in one exchange; the same bits on all.

    Args:
        tensors: Changed in place. Of one dtype, of the same shapes on all processes.
    """
    if num_ranks() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors]).to(_device(tensors[0]))
    dist.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def spread(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor, in place, by that of the first process; any dtype."""
    if num_ranks() == 1:
        return
    for tensor in tensors:
        sent = tensor.contiguous().to(_device(tensor))
        dist.broadcast(sent.reshape(-1).view(torch.uint8), src=0)
        tensor.copy_(sent)


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
