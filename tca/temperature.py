"""A temperature that adapts to the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tca.candidates import Candidates
from tca.functional import adaptive_tau


class AdaptiveTemperature(nn.Module):
    """MSL's adaptive temperature (ATS, arXiv:2504.04178; values of its released code).

    In training each batch moves the running temperature, a buffer, a little towards
    ``adaptive_tau`` of the logits at the *first* position of its paths, before the loss uses it. A
    batch for which that is undefined (a root with fewer than ``1 / eta`` children, no first
    positions) leaves it unchanged.

    The released code gathers the statistics over all devices; here each process uses its own share
    of the batch, and the training loop averages the running temperatures.

    Args:
        start: Initial temperature.
        eta: Share of the valid tokens that compete.
        lowest: Lower bound of a batch's target temperature.
        highest: Upper bound of it.
        step: Fraction of the way that a batch moves the running temperature.
    """

    tau: Tensor

    def __init__(
        self,
        *,
        start: float = 1.5,
        eta: float = 0.25,
        lowest: float = 1.5,
        highest: float = 5.0,
        step: float = 0.05,
    ) -> None:
        super().__init__()
        self.eta, self.lowest, self.highest, self.step = eta, lowest, highest, step
        self.register_buffer("tau", torch.tensor(start))

    @torch.no_grad()
    def forward(self, logits: Tensor, candidates: Candidates) -> Tensor:
        """The temperature for this batch; scalar float32, without gradient.

        Args:
            logits: Float ``(target, pos, token)`` or ``(position, token)``.
            candidates: For the same positions.
        """
        if not self.training:
            return self.tau
        first = candidates.branching & (candidates.pos == 0)
        among = logits[first].gather(-1, candidates.tokens[first])
        target = among.gather(-1, candidates.target_slot[first].unsqueeze(-1)).squeeze(-1)
        best = adaptive_tau(target, among, candidates.valid[first], self.eta)
        best = best.clamp(self.lowest, self.highest)
        self.tau = torch.where(best.isfinite(), torch.lerp(self.tau, best, self.step), self.tau)
        return self.tau
