"""A temperature that follows the logits it is used on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tca.candidates import Candidates
from tca.functional import adaptive_tau


class AdaptiveTemperature(nn.Module):
    """MSL's adaptive temperature (ATS, arXiv:2504.04178; values of its released code).

    In training each batch moves the running temperature a little towards ``adaptive_tau`` of the
    logits at the *first* position of its paths, before the loss takes it. It is a buffer, and so
    goes where the module's state goes. A batch without an answer (a root of fewer than
    ``1 / eta`` children, a batch without first positions) leaves it where it is.

    The released code gathers the statistics over all devices; of several processes here, each takes
    those of its share, and the training loop averages the running temperatures.

    Args:
        start: The first temperature.
        eta: Share of the valid tokens that compete.
        lowest: Least temperature that a batch may draw to.
        highest: Largest.
        step: Share of the way that a batch moves it.
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
        """The temperature of this batch; scalar float32, without gradient.

        Args:
            logits: Float ``(target, pos, token)`` or ``(position, token)``.
            candidates: Of the same positions.
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
