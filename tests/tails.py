"""What tests of top-k token distributions measure: the known tail, and errors."""

from __future__ import annotations

import torch
from torch import Tensor


def known_tail(scores: Tensor, items: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log mass, float32 ``(batch,)``, of the items of ``scores`` that ``items`` does not list."""
    others = (scores.double() / temperature).scatter(1, items, -torch.inf)
    return others.logsumexp(dim=1).float()


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    """``sum_v |p(v) - q(v)| / 2`` of distributions ``(target, pos, child)``, by target and pos."""
    return (p.float() - q.float()).abs().sum(dim=-1) / 2
