"""Gumbel noise down a tree: sampling paths without replacement by a beam search."""

from __future__ import annotations

import torch
from torch import Tensor


def perturbed(scores: Tensor, parent: Tensor, generator: torch.Generator) -> Tensor:
    """Scores of children with Gumbel noise whose highest is their parent's.

    Where the children share all of their parent's probability, each leaf's perturbed score is its
    log-probability plus independent Gumbel noise, and an inner node's the highest below it, so the
    ``k`` best leaves are ``k`` draws without replacement (stochastic beam search, arXiv:1903.06059,
    section 4.1, computed as in its appendix B.3). Otherwise they are as if it was shared out.

    Args:
        scores: float32 ``(batch, beam, slot)``, log-probabilities of the children's prefixes;
            ``-inf`` for what is not to be drawn.
        parent: float32 ``(batch, beam)``, perturbed scores of their parents.
        generator: Source of the noise.

    Returns:
        float32 ``(batch, beam, slot)``, ``-inf`` where ``scores`` are.
    """
    uniform = torch.rand(scores.shape, generator=generator, device=scores.device)
    noisy = scores - (-uniform.clamp_min(torch.finfo(torch.float32).tiny).log()).log()
    highest = noisy.amax(dim=-1, keepdim=True)
    target = parent.unsqueeze(-1)
    shift = target - noisy + torch.log1p(-(noisy - highest).exp())
    moved = target - shift.clamp_min(0) - torch.log1p((-shift.abs()).exp())
    return torch.where(noisy == -torch.inf, -torch.inf, moved)
