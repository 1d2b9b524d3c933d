"""Low-pass filters of sequences, written as matrices over positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LowPass:
    """A low-pass filter beside attention, as in BSARec (arXiv:2312.10325).

    Attributes:
        share: Share of the filter in a layer's update; the rest is attention's.
        length: Maximum number of positions.
        num_frequencies: Number of frequencies kept, from 1 to ``length // 2 + 1``.
    """

    share: float
    length: int
    num_frequencies: int


def fourier_low_pass(length: int, bins: int) -> Tensor:
    """The part of a sequence in its lowest frequencies: a projection, and a circular convolution.

    ``matrix @ x`` equals ``irfft`` of ``rfft(x)`` with all but its first ``bins`` coefficients set
    to zero. **Every output reads every input, later ones included.**

    Args:
        length: Number of positions.
        bins: Number of frequencies kept, the constant included; from 1 to ``length // 2 + 1``.

    Returns:
        float32 ``(pos, pos)``, symmetric.
    """
    spectrum = torch.fft.rfft(torch.eye(length, dtype=torch.float64), dim=0, norm="ortho")
    spectrum[bins:] = 0
    matrix: Tensor = torch.fft.irfft(spectrum, n=length, dim=0, norm="ortho")
    return matrix.float()


def causal_low_pass(length: int, bins: int) -> Tensor:
    """Weights of the past in a smoothed sequence: the kernel of ``fourier_low_pass``, one-sided.

    The weight of the position ``lag`` steps back is that kernel's for a lag of at most half the
    length, where it starts to repeat, and zero beyond; nothing wraps around. Rows do not sum to
    one: see ``over_existing``.

    Args:
        length: Number of positions; fewer positions need the last rows and columns only.
        bins: As in ``fourier_low_pass``.

    Returns:
        float32 ``(pos, pos)``, zero above the diagonal.
    """
    return fourier_low_pass(length, bins).tril().triu(-(length // 2))


def over_existing(weights: Tensor, exists: Tensor) -> Tensor:
    """Weights of the positions that exist, divided by their sum: a constant passes unchanged.

    Args:
        weights: float ``(..., pos)``, of ``causal_low_pass``, up to the present position.
        exists: bool, broadcast with ``weights``; True at least at the present position.

    Returns:
        float, zero where a position does not exist.
    """
    existing = weights * exists
    return existing / existing.sum(dim=-1, keepdim=True)
