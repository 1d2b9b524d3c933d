"""Codebook training: moving averages, and restarts of unused codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from semid.tokenizers.residual import nearest

__all__ = ["MovingAverages", "forget_moments", "restart_unused"]


class MovingAverages:
    """Codebooks updated as moving averages of their items instead of by gradient.

    ``N[k] <- decay N[k] + (1 - decay) n[k]``, ``m[k] <- decay m[k] + (1 - decay) sum of r`` and
    ``e[k] = m[k] / N[k]``, with the ``n[k]`` items of the batch that chose code ``k`` and their
    residuals ``r`` (van den Oord et al. 2017, arXiv:1711.00937, appendix A.1).

    A code that no item of the batch chose stays exactly where it is; there is no smoothing.

    Args:
        codebooks: Per level, float32 ``(code, dim)``; changed in place by `update`.
        decay: Weight of the previous average, in [0, 1).
        batch_size: Items per step; an average starts with the weight of an equal share of them.
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
        """Update from a batch.

        Args:
            codes: Per level, int64 ``(item,)``.
            residuals: Per level, float32 ``(item, dim)``: the level's inputs.
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
        """Reset the averages of these codes of a level to their current codewords."""
        weight = self._weight_at_start[level]
        self.weights[level][codes] = weight
        self.sums[level][codes] = self._codebooks[level][codes] * weight


@torch.no_grad()
def restart_unused(
    latents: Tensor, codebooks: Sequence[Tensor], generator: torch.Generator
) -> list[Tensor]:
    """Move each code that no item uses to the residual of a random item, level by level.

    Args:
        latents: float32 ``(item, dim)``, the latents of all items.
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
    """Reset the optimiser's moments for these rows of a parameter.

    The moments of a restarted code would push it away from its new position.
    """
    for value in optimizer.state[parameter].values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0
