"""How much the teacher counts at each position: alpha as a number, a schedule, or a function.

A learned alpha is a sigmoid; everything else multiplies the number ``alpha`` by shares in
``[0, 1]``, and the cap then takes a minimum: alpha never leaves ``[0, 1]``. All works on
``(target, pos)``, or on ``(position,)``.
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
    """What a policy may look at beside the teacher. What no policy asks for may be missing.

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
"""A trust of one's own: from the labels' ``p`` float32 ``(target, pos, child)``, ``num_children``
int64 ``(target, pos)`` and the context to a share in ``[0, 1]`` a position, ``(target, pos)``."""


def entropy_confidence(p: Tensor, num_children: Tensor) -> Tensor:
    """One less the entropy relative to its largest: ``1 - H(p) / log(num_children)``.

    Args:
        p: float32 ``(target, pos, child)``, a distribution or zero.
        num_children: int64 ``(target, pos)``.

    Returns:
        float32 ``(target, pos)`` in ``[0, 1]``: 0 for equal masses, 1 for all mass on one token, 1
        where there is one only.
    """
    most = num_children.clamp_min(2).float().log()
    return (1 + torch.xlogy(p, p).sum(dim=-1) / most).clamp(0, 1)


def margin(p: Tensor) -> Tensor:
    """Mass of the likeliest token less that of the next; float32 ``(target, pos)`` in ``[0, 1]``.

    Args:
        p: float32 ``(target, pos, child)``, a distribution or zero.
    """
    if p.shape[-1] == 1:
        return p.squeeze(-1)
    first, second = p.topk(2, dim=-1).values.unbind(-1)
    return first - second


def saturation(count: Tensor, half: float) -> Tensor:
    """``n / (n + half)``: 0 for nothing, one half at ``half``, and 1 in the limit.

    Args:
        count: Numbers of at least 0, any shape.
        half: Above 0.
    """
    return count / (count + half)


def schedule(progress: float, start: float, rise: float) -> float:
    """0 up to the share ``start`` of the training, then linear to 1 over the share ``rise``.

    Args:
        progress: Share of the training that is done, in ``[0, 1]``.
        start: In ``[0, 1]``.
        rise: At least 0; 0 for a step at ``start``.
    """
    if rise == 0:
        return float(progress >= start)
    return min(max((progress - start) / rise, 0.0), 1.0)


def largest_alpha(p: Tensor, target_slot: Tensor) -> Tensor:
    """The largest alpha with which the target is still the mode of the soft label.

    The label of the target is ``1 - alpha + alpha p(target)``, that of another token
    ``alpha p(v)``. The former is the larger for all ``v`` where
    ``alpha (max p - p(target)) <= 1 - alpha``, so
    ``alpha <= 1 / (1 + max p - p(target))``. Soft-NTP's optimum has all mass on the label's mode
    (it is linear in ``P`` below the logarithm), so above this it has left the target.

    Args:
        p: float32 ``(target, pos, child)``, the labels' token distribution.
        target_slot: int64 ``(target, pos)``.

    Returns:
        float32 ``(target, pos)`` in ``[1/2, 1]``; 1 where the target is the teacher's mode too.
    """
    own = p.gather(-1, target_slot.unsqueeze(-1)).squeeze(-1)
    return 1 / (1 + (p.amax(dim=-1) - own))


class AlphaGate(nn.Module):
    """An alpha that is learned: ``sigmoid(logit(alpha) + w . confidence + b)``.

    The confidence of a position is ``(entropy_confidence, margin, max p)``. Weights and bias begin
    at 0, which is the number alpha everywhere. The loss itself only asks which label is easier to
    meet, so ``penalty`` holds the gate near the number: ``KL(Bernoulli(alpha), Bernoulli(gate))``.

    Args:
        alpha: Where the gate begins, between 0 and 1.
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
    """The share of alpha that a policy, not a learned one, grants at each position.

    Args:
        policy: What it depends on.
        p: float32 ``(target, pos, child)``, the labels' token distribution.
        num_children: int64 ``(target, pos)``.
        context: Holds what the policy asks for.

    Returns:
        1, or float32 in ``[0, 1]`` that broadcasts to ``(target, pos)``.

    Raises:
        ValueError: If the context lacks what the policy asks for.
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
