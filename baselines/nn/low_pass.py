"""Low-pass filters of sequences, written as matrices over positions."""

from __future__ import annotations

import torch
from torch import Tensor


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
    one: divide them by their sum over the positions that exist, so that a constant passes
    unchanged.

    Args:
        length: Number of positions; fewer positions need the last rows and columns only.
        bins: As in ``fourier_low_pass``.

    Returns:
        float32 ``(pos, pos)``, zero above the diagonal.
    """
    return fourier_low_pass(length, bins).tril().triu(-(length // 2))
