"""Content hashes of rows: equal rows have equal hashes, in any position and on any machine."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["distinct_rows", "mix", "one_of_each", "row_hashes"]

_GOLDEN = -0x61C8864680B583EB  # 2^64 / golden ratio, odd, as signed 64 bits
_FIRST, _SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
_CHUNK = 1 << 12
"""Rows hashed at once, to bound memory."""


def mix(values: Tensor) -> Tensor:
    """Mix the bits of int64 values, bijectively.

    The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014, figure 16; constants of Stafford's variant 13), modulo 2^64.
    """
    values = (values ^ _shift(values, 30)) * _FIRST
    values = (values ^ _shift(values, 27)) * _SECOND
    return values ^ _shift(values, 31)


def row_hashes(vectors: Tensor, *, seed: int = 0) -> Tensor:
    """A 64-bit hash of each row's values.

    ``mix(sum_d mix(bits(v[d]) + key[d]))`` modulo 2^64, with ``bits`` the float32 as an integer,
    -0 taken as 0, and ``key[d] = mix(seed + (d + 1) * 2^64 / golden ratio)``. Integers only, so the
    same on every platform and device. Two different rows agree with probability 2^-64.

    Args:
        vectors: Finite float32 ``(item, dim)``.
        seed: In ``[-2^63, 2^63)``.

    Returns:
        int64 ``(item,)``.
    """
    places = torch.arange(1, vectors.shape[1] + 1, device=vectors.device)
    keys = mix(places * _GOLDEN + seed)
    parts = [
        mix(mix((part + 0.0).contiguous().view(torch.int32).long() + keys).sum(dim=1))
        for part in torch.split(vectors, _CHUNK)
    ]
    return torch.cat(parts)


def distinct_rows(vectors: Tensor, *, enough: int) -> int:
    """Number of distinct rows, counting only up to ``enough``.

    Args:
        vectors: Finite float32 ``(item, dim)``.
        enough: Where to stop.

    Returns:
        The exact number if it is below ``enough``, else any number that is at least ``enough``.
    """
    found = torch.empty(0, dtype=torch.int64, device=vectors.device)
    for part in torch.split(vectors, max(_CHUNK, enough)):
        found = torch.unique(torch.cat([found, row_hashes(part)]))
        if len(found) >= enough:
            break
    return len(found)


def one_of_each(vectors: Tensor, *, most: int) -> Tensor | None:
    """The first row of each group of equal rows, in row order.

    Args:
        vectors: Finite float32 ``(item, dim)``.
        most: Maximum number of groups.

    Returns:
        int64 ``(group,)``, or None if there are more than ``most``.
    """
    if distinct_rows(vectors, enough=most + 1) > most:
        return None
    hashes, group = torch.unique(row_hashes(vectors), return_inverse=True)
    row = torch.arange(len(vectors), device=vectors.device)
    first = torch.full_like(hashes, len(vectors)).scatter_reduce(0, group, row, "amin")
    return first.sort().values


def _shift(values: Tensor, bits: int) -> Tensor:
    """Logical right shift; ``>>`` would extend the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)
