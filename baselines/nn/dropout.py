"""Dropout with cheap random numbers on CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Dropout(nn.Module):
    """``nn.Dropout``, drawing one random byte instead of one float per element on CPU.

    PyTorch draws CPU dropout masks element by element on one thread, which takes a third of a
    training step of a small transformer. With bytes the rate is a multiple of 1/256 (.2 becomes
    .199); the scaling uses the same rate. Draws from PyTorch's default generator.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout rate must lie in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Zero a random share of ``x`` while training, and scale the rest up."""
        if not self.training or self.rate == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.rate)
        dropped = min(round(self.rate * 256), 255)
        words = torch.empty(x.numel() // 8 + 1, dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped))
