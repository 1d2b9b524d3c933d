"""How much the teacher counts at each position: alpha as a number, a schedule, or a function.

A learned alpha is a sigmoid; any other policy multiplies the number ``alpha`` by factors in
``[0, 1]``, and the cap then takes a minimum, so alpha never leaves ``[0, 1]``. All functions accept
``(target, pos)`` as well as ``(position,)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tca.config import TRUST_BY_COUNTS, AlphaPolicy


@dataclass(frozen=True, kw_only=True, eq=False)
class AlphaContext:
    """What a policy may use besides the teacher; fields it does not use may be omitted.

    Attributes:
        progress: Share of the training that is done, in ``[0, 1]``.
        history_length: Number of items before each target. Integers ``(target, 1)``, or
            ``(position,)`` in the order of ``Positions``.
        popularity: Number of events of each target item in training, in the same shape.
    """

    progress: float | None = None
    history_length: Tensor | None = None
    popularity: Tensor | None = None


TrustFunction = Callable[[Tensor, Tensor, AlphaContext], Tensor]
"""A custom trust: maps the labels' ``p`` float32 ``(target, pos, child)``, ``num_children`` int64
``(target, pos)`` and the context to a factor in ``[0, 1]`` for each position, ``(target, pos)``."""


def entropy_confidence(p: Tensor, num_children: Tensor) -> Tensor:
    """One minus the normalised entropy: ``1 - H(p) / log(num_children)``.

    Args:
        p: float32 ``(target, pos, child)``, a distribution or zero.
        num_children: int64 ``(target, pos)``.

    Returns:
        float32 ``(target, pos)`` in ``[0, 1]``: 0 for a uniform ``p``, 1 if all mass is on one
        token or there is only one.
    """
    most = num_children.clamp_min(2).float().log()
    return (1 + torch.xlogy(p, p).sum(dim=-1) / most).clamp(0, 1)


def margin(p: Tensor) -> Tensor:
    """Probability gap between the two likeliest tokens; float32 ``(target, pos)`` in ``[0, 1]``.

    Args:
        p: float32 ``(target, pos, child)``, a distribution or zero.
    """
    if p.shape[-1] == 1:
        return p.squeeze(-1)
    first, second = p.topk(2, dim=-1).values.unbind(-1)
    return first - second


def saturation(count: Tensor, half: float) -> Tensor:
    """``n / (n + half)``: 0 at 0, one half at ``half``, and 1 in the limit.

    Args:
        count: Non-negative numbers, any shape.
        half: Above 0.
    """
    return count / (count + half)


def schedule(progress: float, start: float, rise: float) -> float:
    """0 for the first ``start`` of the training, then a linear rise to 1 over the next ``rise``.

    Args:
        progress: Share of the training that is done, in ``[0, 1]``.
        start: In ``[0, 1]``.
        rise: At least 0; 0 for a step at ``start``.
    """
    if rise == 0:
        return float(progress >= start)
    return min(max((progress - start) / rise, 0.0), 1.0)


def largest_alpha(p: Tensor, target_slot: Tensor) -> Tensor:
    """The largest alpha for which the target is still the mode of the soft label.

    The label of the target is ``1 - alpha + alpha p(target)``, that of any other token
    ``alpha p(v)``. The former is the larger for all ``v`` if
    ``alpha (max p - p(target)) <= 1 - alpha``, so ``alpha <= 1 / (1 + max p - p(target))``.
    Soft-NTP is linear in ``P`` inside the logarithm, so its optimum puts all mass on the label's
    mode: beyond this alpha, that is no longer the target.

    Args:
        p: float32 ``(target, pos, child)``, the labels' token distribution.
        target_slot: int64 ``(target, pos)``.

    Returns:
        float32 ``(target, pos)`` in ``[1/2, 1]``; 1 where the target is also the teacher's mode.
    """
    own = p.gather(-1, target_slot.unsqueeze(-1)).squeeze(-1)
    return 1 / (1 + (p.amax(dim=-1) - own))


class AlphaGate(nn.Module):
    """A learned alpha: ``sigmoid(logit(alpha) + w . confidence + b)``.

    The confidence of a position is ``(entropy_confidence, margin, max p)``. Weights and bias start
    at 0, so the gate starts at ``alpha`` everywhere. The loss alone would favour whichever label is
    easier to fit, so ``penalty`` keeps the gate near ``alpha``:
    ``KL(Bernoulli(alpha), Bernoulli(gate))``.

    Args:
        alpha: Initial value of the gate, strictly between 0 and 1.
    """

    def __init__(self, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.weight = nn.Parameter(torch.zeros(3))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, p: Tensor, num_children: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and its penalty at each position; both float32 ``(target, pos)``.

        Args:
            p: float32 ``(target, pos, child)``, the labels' token distribution.
            num_children: int64 ``(target, pos)``.
        """
        confidence = (entropy_confidence(p, num_children), margin(p), p.amax(dim=-1))
        alpha = torch.tensor(self.alpha, device=p.device)
        gate = torch.logit(alpha) + self.bias + (torch.stack(confidence, -1) * self.weight).sum(-1)
        cross = F.binary_cross_entropy_with_logits(gate, alpha.expand_as(gate), reduction="none")
        entropy = -(torch.xlogy(alpha, alpha) + torch.xlogy(1 - alpha, 1 - alpha))
        return gate.sigmoid(), cross - entropy


def trust_of(
    policy: AlphaPolicy, p: Tensor, num_children: Tensor, context: AlphaContext
) -> Tensor | float:
    """The factor by which a policy other than ``learned`` multiplies alpha at each position.

    Args:
        policy: What alpha depends on.
        p: float32 ``(target, pos, child)``, the labels' token distribution.
        num_children: int64 ``(target, pos)``.
        context: Holds the fields that the policy needs.

    Returns:
        1, or float32 in ``[0, 1]`` that broadcasts to ``(target, pos)``.

    Raises:
        ValueError: If the context lacks a field that the policy needs.
    """
    if policy.by == "entropy":
        return entropy_confidence(p, num_children)
    if policy.by == "margin":
        return margin(p)
    if policy.by in TRUST_BY_COUNTS:
        name, rises = TRUST_BY_COUNTS[policy.by]
        count: Tensor | None = getattr(context, name)
        if count is None:
            raise ValueError(
                f"alpha by {policy.by} needs the context's {name}, got none. "
                f"Give AlphaContext({name}=...)."
            )
        share = saturation(count, policy.half)
        return share if rises else 1 - share
    return 1.0
