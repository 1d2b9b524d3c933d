"""Codebooks while they are trained: moving averages, and new life for codes that no item uses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from semid.tokenizers.residual import nearest

__all__ = ["MovingAverages", "forget_moments", "restart_unused"]


class MovingAverages:
    """Codebooks as moving averages of the items that use them, in place of a gradient.

    ``N[k] <- decay N[k] + (1 - decay) n[k]``, ``m[k] <- decay m[k] + (1 - decay) sum of r`` and
    ``e[k] = m[k] / N[k]``, with the ``n[k]`` items of the batch that chose code ``k`` and their
    residuals ``r`` (van den Oord et al. 2017, arXiv:1711.00937, appendix A.1).

    A code that no item of the batch chose stays where it is, exactly; no smoothing pulls it.

    Args:
        codebooks: Per level, float32 ``(code, dim)``; changed in place by `update`.
        decay: Weight of what was, in [0, 1).
        batch_size: Items a step; an average begins with the weight of an even share of them.
    """

    def __init__(self, codebooks: Sequence[Tensor], *, decay: float, batch_size: int) -> None:
        self._codebooks = codebooks
        self._decay = decay
        self._weight_at_start = [batch_size / len(codebook) for codebook in codebooks]
        self.weights = [
            codebook.new_full((len(codebook),), weight)
            for codebook, weight in zip(codebooks, self._weight_at_start, strict=True)
        ]
        self.sums = [
            codebook * weight
            for codebook, weight in zip(codebooks, self._weight_at_start, strict=True)
        ]

    @torch.no_grad()
    def update(self, codes: Sequence[Tensor], residuals: Sequence[Tensor]) -> None:
        """Learn from a batch.

        Args:
            codes: Per level, int64 ``(item,)``.
            residuals: Per level, float32 ``(item, dim)``: what the level was given.
        """
        counts = [torch.zeros_like(weights) for weights in self.weights]
        totals = [torch.zeros_like(sums) for sums in self.sums]
        for level, chosen in enumerate(codes):
            counts[level].index_add_(0, chosen, counts[level].new_ones(len(chosen)))
            totals[level].index_add_(0, chosen, residuals[level])
        for level, codebook in enumerate(self._codebooks):
            new = 1 - self._decay
            self.weights[level].mul_(self._decay).add_(counts[level], alpha=new)
            self.sums[level].mul_(self._decay).add_(totals[level], alpha=new)
            used = counts[level] > 0
            codebook[used] = self.sums[level][used] / self.weights[level][used, None]

    @torch.no_grad()
    def restart(self, level: int, codes: Tensor) -> None:
        """Begin anew at the place where these codes of a level are now."""
        weight = self._weight_at_start[level]
        self.weights[level][codes] = weight
        self.sums[level][codes] = self._codebooks[level][codes] * weight


@torch.no_grad()
def restart_unused(
    latents: Tensor, codebooks: Sequence[Tensor], generator: torch.Generator
) -> list[Tensor]:
    """Move each code that no item uses to the residual of a random item, level by level.

    Args:
        latents: float32 ``(item, dim)``, of all items.
        codebooks: Changed in place.
        generator: On the CPU.

    Returns:
        Per level, the codes that were moved, int64 ``(code,)``.
    """
    residual, moved = latents.detach(), []
    for codebook in codebooks:
        used = torch.bincount(nearest(residual, codebook), minlength=len(codebook)) > 0
        unused = used.logical_not().nonzero()[:, 0]
        chosen = torch.randint(len(residual), (len(unused),), generator=generator)
        codebook[unused] = residual[chosen.to(residual.device)]
        residual = residual - codebook[nearest(residual, codebook)]
        moved.append(unused)
    return moved


@torch.no_grad()
def forget_moments(optimizer: torch.optim.Optimizer, parameter: Tensor, rows: Tensor) -> None:
    """Let the optimiser know nothing of the gradients that moved these rows of a parameter.

    Moments of a code that was moved would push it away from its new place.
    """
    for value in optimizer.state[parameter].values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0
