"""Logits that are never made: states, and the matrix that projects them on a large vocabulary.

Of a language model's 128,000 logits a loss reads those of the tokens that may follow and, without
the mask, one number more: how much all tokens hold together. ``Objective`` takes a ``Projection``
in place of logits and computes just that, by the same equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_LOGITS_AT_ONCE = 2**22  # 16 MB of float32
_LOWEST = torch.finfo(torch.float32).min


class Narrowed(NamedTuple):
    """The logits of the tokens in use.

    Attributes:
        logits: Float ``(target, pos, used)``.
        columns: int64 ``(target, pos, child)``: where each token that was asked for stands there.
        log_total: float32 ``(target, pos)``: ``logsumexp`` of all tokens' logits over ``tau``; None
            where it was not asked for.
    """

    logits: Tensor
    columns: Tensor
    log_total: Tensor | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """Stands for the logits ``states @ weight.T + bias``.

    Under autocast the products are in its type; all that is summed over tokens is in float32.

    Attributes:
        states: Float ``(target, pos, dim)`` or ``(position, dim)``, the model's last hidden states.
        weight: Float ``(token, dim)``, its output embeddings, shared with the input or not.
        bias: Float ``(token,)``, if it has one.

    Raises:
        ValueError: If the shapes do not fit each other.
    """

    states: Tensor
    weight: Tensor
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        if self.weight.dim() != 2 or self.states.shape[-1] != self.weight.shape[1]:
            raise ValueError(
                f"weight must be (token, dim) with dim {self.states.shape[-1]} as the states have "
                f"it, got {tuple(self.weight.shape)}"
            )
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"bias must hold one value for each of the {len(self.weight)} tokens, got "
                f"{tuple(self.bias.shape)}"
            )

    def logits(self) -> Tensor:
        """All of them; float ``(target, pos, token)``."""
        return F.linear(self.states, self.weight, self.bias)

    def narrowed(self, tokens: Tensor, tau: float | None = None) -> Narrowed:
        """The logits of all tokens that are in use somewhere in the batch.

        Prefixes share most of what may follow them, above all at the root, so one product with the
        rows of the tokens in use is both fast and small.

        Args:
            tokens: int64 ``(target, pos, child)`` or ``(position, child)``, for each state.
            tau: Temperature of the total over all tokens, above 0; None asks for no total. The
                total is summed block by block of the vocabulary, and once more for the gradient
                of weights that are trained, so no more than a block's logits are there at a time.
        """
        in_use = torch.zeros(len(self.weight), dtype=torch.bool, device=tokens.device)
        in_use.index_fill_(0, tokens.flatten(), True)
        used = in_use.nonzero().squeeze(1)
        columns = (in_use.cumsum(0) - 1)[tokens]
        if tau is None:
            bias = None if self.bias is None else self.bias[used]
            return Narrowed(F.linear(self.states, self.weight[used], bias), columns, None)
        states = self.states.flatten(0, -2)
        if torch.is_autocast_enabled(states.device.type):
            states = states.to(torch.get_autocast_dtype(states.device.type))
        logits, total = _UsedAndTotal.apply(states, self.weight, self.bias, used, tau)  # type: ignore[no-untyped-call]
        shape = self.states.shape[:-1]
        return Narrowed(logits.view(*shape, len(used)), columns, total.view(shape))


class _UsedAndTotal(torch.autograd.Function):
    """Logits of the tokens in use, and the total of all, with one gradient for the weights.

    States are ``(position, dim)``. The gradient of a total in its logits is the softmax, over
    ``tau``; in the states it is the mean row of the weights under that softmax, which is summed
    beside the total, rescaled as the total grows. Only weights that are trained need the softmax
    again, and it goes into their gradient block by block.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, used: Tensor, tau: float
    ) -> tuple[Tensor, Tensor]:
        # finite, for a first block of tokens whose bias forbids them all
        highest = states.new_full((len(states), 1), _LOWEST, dtype=torch.float32)
        mass = torch.zeros_like(highest)
        mean_row = torch.zeros_like(states, dtype=torch.float32)
        for block in _blocks(states, weight):
            scores = _logits(states, weight, bias, block).float().div_(tau)
            before, highest = highest, highest.maximum(scores.amax(dim=-1, keepdim=True))
            shrunk = (before - highest).exp_()
            p = scores.sub_(highest).exp_()
            mass.mul_(shrunk).add_(p.sum(dim=-1, keepdim=True))
            p = p.to(states.dtype)
            mean_row.mul_(shrunk).add_(p @ weight[block].to(p.dtype))
        mean_row.div_(mass)
        total = mass.log_().add_(highest)
        ctx.save_for_backward(states, weight, bias, used, total, mean_row)
        ctx.tau = tau
        return _logits(states, weight, bias, used), total.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_used: Tensor, of_total: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, used, total, mean_row = ctx.saved_tensors
        share = of_total[:, None] / ctx.tau
        for_states = share * mean_row + of_used @ weight[used].to(of_used.dtype)
        for_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for_bias = torch.empty_like(bias) if ctx.needs_input_grad[2] else None
        if for_weight is not None or for_bias is not None:
            shared_states = (share * states).to(states.dtype)
            for block in _blocks(states, weight):
                scores = _logits(states, weight, bias, block).float().div_(ctx.tau)
                p = scores.sub_(total).exp_()
                if for_bias is not None:
                    for_bias[block] = (p * share).sum(dim=0)
                if for_weight is not None:
                    for_weight[block] = p.to(states.dtype).T @ shared_states
        if for_weight is not None:
            for_weight.index_add_(0, used, (of_used.T @ states).to(for_weight.dtype))
        if for_bias is not None:
            for_bias.index_add_(0, used, of_used.sum(dim=0).to(for_bias.dtype))
        return for_states.to(states.dtype), for_weight, for_bias, None, None


def _blocks(states: Tensor, weight: Tensor) -> Iterator[slice]:
    """Slices of the vocabulary, of about as many logits each."""
    size = max(1, _LOGITS_AT_ONCE // max(1, len(states)))
    return (slice(begin, begin + size) for begin in range(0, len(weight), size))


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor | slice) -> Tensor:
    own = None if bias is None else bias[tokens].to(states.dtype)
    return F.linear(states, weight[tokens].to(states.dtype), own)
