"""Top-down Gumbel noise: sampling paths without replacement by beam search."""

from __future__ import annotations

import torch
from torch import Tensor


def perturbed(scores: Tensor, parent: Tensor, generator: torch.Generator) -> Tensor:
    """Perturb scores of children with Gumbel noise so that their maximum is their parent's.

    If the children's probabilities sum to their parent's, each leaf's perturbed score is its
    log-probability plus independent Gumbel noise and an inner node's is the highest below it, so
    the ``k`` best leaves are ``k`` draws without replacement (stochastic beam search,
    arXiv:1903.06059, section 4.1, computed as in its appendix B.3). Otherwise the children are
    treated as if rescaled to that sum.

    Args:
        scores: float32 ``(batch, beam, slot)``, log-probabilities of the children's prefixes;
            ``-inf`` excludes a child.
        parent: float32 ``(batch, beam)``, perturbed scores of their parents.
        generator: Source of the noise.

    Returns:
        float32 ``(batch, beam, slot)``, ``-inf`` where ``scores`` is.
    """
    uniform = torch.rand(scores.shape, generator=generator, device=scores.device)
    noisy = scores - (-uniform.clamp_min(torch.finfo(torch.float32).tiny).log()).log()
    highest = noisy.amax(dim=-1, keepdim=True)
    target = parent.unsqueeze(-1)
    shift = target - noisy + torch.log1p(-(noisy - highest).exp())
    moved = target - shift.clamp_min(0) - torch.log1p((-shift.abs()).exp())
    return torch.where(noisy == -torch.inf, -torch.inf, moved)
