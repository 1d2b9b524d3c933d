"""Sorting by score with a defined order of ties."""

from __future__ import annotations

import torch
from torch import Tensor

_LOW_BITS = 0xFFFFFFFF


def sort_keys(scores: Tensor, place: Tensor) -> Tensor:
    """Integers that sort like the scores, and equal scores by place, the lowest first.

    ``topk`` and ``sort`` do not define the order of ties; these keys have none if places differ.
    The bits of a float, read as an integer, sort like its value once those of negatives are
    flipped; the place fills the bits below.

    Args:
        scores: Float of any shape, compared in float32; no NaN.
        place: Integers in ``[0, 2**32)``, of a shape that broadcasts to that of ``scores``.

    Returns:
        int64, of the shape of ``scores``; the best has the largest.
    """
    bits = (scores.float() + 0.0).view(torch.int32)  # no -0.0, which would sort below 0.0
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (bits.long() << 32) | (_LOW_BITS - place.long())
