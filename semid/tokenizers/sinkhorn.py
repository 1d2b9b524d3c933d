"""Entropic optimal transport: a balanced assignment of items to codes at least cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sinkhorn"]

_LARGEST_FACTOR = 1e100
"""Up to this, entries that underflowed in ``exp(log_plan)`` are negligible."""


@torch.no_grad()
def sinkhorn(costs: Tensor, *, epsilon: float = 0.003, iterations: int = 50) -> Tensor:
    """Log of the transport plan with equal column sums and nearly equal row sums.

    ``P[i, c] = u[i] exp(-d[i, c] / epsilon) v[c]`` with every row to sum to ``1 / item`` and every
    column to ``1 / code`` (Cuturi, arXiv:1306.0895, algorithm 1), where ``d`` is ``costs`` moved
    and scaled to [-1, 1], so that ``epsilon`` means the same on every scale (LETTER,
    arXiv:2405.07314, section 3.2.3 and its code, as LC-Rec, arXiv:2311.09049, section 3.1). Rows
    and columns are normalised in turn, columns last, by factors that are moved into the logarithm
    before they can overflow, however small ``epsilon`` is. ``plan.argmax(dim=1)`` is each item's
    code.

    Args:
        costs: Finite float ``(item, code)``, at least one of each; at any scale.
        epsilon: Weight of the entropy, above 0; smaller values approach one code per item.
        iterations: Rounds of normalising rows, then columns.

    Returns:
        float64 ``(item, code)``, the logarithm of the plan. Deterministic.

    Raises:
        ValueError: If ``costs`` is not such a matrix, or a setting is out of range.
    """
    if costs.ndim != 2 or 0 in costs.shape or not costs.isfinite().all():
        raise ValueError(
            f"expected costs: finite float (item, code) with at least one of each, got "
            f"{costs.dtype} {tuple(costs.shape)}, or NaN or infinity in it. Pass squared distances."
        )
    if not epsilon > 0 or iterations < 1:
        raise ValueError(
            f"expected epsilon above 0 and at least one iteration, got {epsilon} and {iterations}. "
            "The paper's are 0.003 and 50."
        )
    log_plan = _normalised(_centred(costs.double()) / -epsilon)
    kernel = log_plan.exp()
    rows, columns = kernel.new_ones(len(kernel)), kernel.new_ones(kernel.shape[1])
    for _ in range(iterations - 1):
        next_rows = (kernel @ columns).reciprocal() / len(rows)
        next_columns = (next_rows @ kernel).reciprocal() / len(columns)
        if max(next_rows.max(), next_columns.max()) < _LARGEST_FACTOR:
            rows, columns = next_rows, next_columns
        else:
            log_plan = _normalised(log_plan + rows.log()[:, None] + columns.log())
            kernel = log_plan.exp()
            rows, columns = torch.ones_like(rows), torch.ones_like(columns)
    return log_plan + rows.log()[:, None] + columns.log()


def _normalised(log_plan: Tensor) -> Tensor:
    """One round in log space: rows, then columns."""
    log_plan = log_plan - log_plan.logsumexp(dim=1, keepdim=True) - math.log(len(log_plan))
    return log_plan - log_plan.logsumexp(dim=0, keepdim=True) - math.log(log_plan.shape[1])


def _centred(costs: Tensor) -> Tensor:
    """Costs shifted and scaled to [-1, 1]; zero if all are equal."""
    low, high = costs.aminmax()
    half = (high - low) / 2
    return (costs - (low + high) / 2) / torch.where(half > 0, half, 1.0)
