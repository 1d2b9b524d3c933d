"""Implicit logits: hidden states and the output matrix of a large vocabulary.

Of a language model's 128,000 logits a loss needs only those of the tokens that may follow and,
without the mask, their log-sum over the vocabulary. ``Objective`` accepts a ``Projection`` in place
of logits and computes just these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
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
        columns: int64 ``(target, pos, child)``: column of each requested token in ``logits``.
        log_total: float32 ``(target, pos)``: ``logsumexp`` of all tokens' logits over ``tau``; None
            if not requested.
    """

    logits: Tensor
    columns: Tensor
    log_total: Tensor | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """The logits ``states @ weight.T + bias``, without computing them all.

    Under autocast the products are in its dtype; sums over tokens are in float32.

    Attributes:
        states: Float ``(target, pos, dim)`` or ``(position, dim)``, the model's last hidden states.
        weight: Float ``(token, dim)``, its output embeddings, tied or not. Or a tuple of parts
            along the token axis, such as a frozen matrix and rows for added tokens: they are never
            concatenated, and only trainable parts get a gradient.
        bias: Float ``(token,)``, or None.

    Raises:
        ValueError: If the shapes do not fit each other.
    """

    states: Tensor
    weight: Tensor | tuple[Tensor, ...]
    bias: Tensor | None = None

    def __post_init__(self) -> None:
        for part in self.parts:
            if part.dim() != 2 or self.states.shape[-1] != part.shape[1]:
                raise ValueError(
                    f"weight must be (token, dim) with dim {self.states.shape[-1]} as the states "
                    f"have it, got {tuple(part.shape)}"
                )
        if self.bias is not None and self.bias.shape != (self.num_tokens,):
            raise ValueError(
                f"bias must hold one value for each of the {self.num_tokens} tokens, got "
                f"{tuple(self.bias.shape)}"
            )

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The weight's parts; a single one if it is not split."""
        return (self.weight,) if isinstance(self.weight, Tensor) else self.weight

    @property
    def num_tokens(self) -> int:
        """Size of the token axis."""
        return sum(self._lengths())

    def logits(self) -> Tensor:
        """Compute all logits; float ``(target, pos, token)``."""
        return _joined([F.linear(self.states, *part) for part in self._split()])

    def narrowed(self, tokens: Tensor, tau: float | None = None) -> Narrowed:
        """The logits of all tokens that occur anywhere in ``tokens``.

        Prefixes share most of their next tokens, especially at the root, so one product with the
        rows of the tokens in use is both fast and small.

        Args:
            tokens: int64 ``(target, pos, child)`` or ``(position, child)``, for each state.
            tau: Temperature of the total over all tokens, above 0; None for no total. It is summed
                over blocks of the vocabulary, and once more for the gradient of trainable weights,
                so no more than one block's logits are in memory at a time.
        """
        in_use = torch.zeros(self.num_tokens, dtype=torch.bool, device=tokens.device)
        in_use.index_fill_(0, tokens.flatten(), True)
        columns = (in_use.cumsum(0) - 1)[tokens]
        used = [own.nonzero().squeeze(1) for own in torch.split(in_use, self._lengths())]
        if tau is None:
            logits = [
                F.linear(self.states, weight[rows], None if bias is None else bias[rows])
                for (weight, bias), rows in zip(self._split(), used, strict=True)
            ]
            return Narrowed(_joined(logits), columns, None)
        states = self.states.flatten(0, -2)
        if torch.is_autocast_enabled(states.device.type):
            states = states.to(torch.get_autocast_dtype(states.device.type))
        flat = chain.from_iterable(self._split())
        logits, total = _UsedAndTotal.apply(states, used, tau, *flat)  # type: ignore[no-untyped-call]
        shape = self.states.shape[:-1]
        return Narrowed(logits.view(*shape, logits.shape[-1]), columns, total.view(shape))

    def _split(self) -> list[tuple[Tensor, Tensor | None]]:
        if self.bias is None:
            return [(part, None) for part in self.parts]
        return list(zip(self.parts, torch.split(self.bias, self._lengths()), strict=True))

    def _lengths(self) -> list[int]:
        return [len(part) for part in self.parts]


def next_token_loss(logits: Tensor | Projection, tokens: Tensor) -> Tensor:
    """Mean cross-entropy of tokens under the softmax over the vocabulary.

    Args:
        logits: Float ``(position, token)``, or a projection.
        tokens: int64 ``(position,)``, the target tokens.

    Returns:
        Scalar float32, zero if there are no positions.
    """
    if isinstance(logits, Projection):
        found = logits.narrowed(tokens.unsqueeze(1), 1.0)
        own = found.logits.float().gather(1, found.columns).squeeze(1)
        assert found.log_total is not None
        losses = found.log_total - own
    else:
        losses = F.cross_entropy(logits.float(), tokens, reduction="none")
    return losses.sum() / max(len(tokens), 1)


class _UsedAndTotal(torch.autograd.Function):
    """Logits of the tokens in use and the total over all, with one gradient per weight.

    States are ``(position, dim)``; each part of the weights is followed by its bias, if any. The
    gradient of a total with respect to its logits is the softmax over ``tau``; with respect to the
    states it is the mean weight row under that softmax, accumulated along with the total and
    rescaled as the total grows. Only trainable weights need the softmax a second time, block by
    block.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        used: list[Tensor],
        tau: float,
        *weights_and_biases: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        # finite, for a first block of tokens whose bias forbids them all
        highest = states.new_full((len(states), 1), _LOWEST, dtype=torch.float32)
        mass = torch.zeros_like(highest)
        mean_row = torch.zeros_like(states, dtype=torch.float32)
        parts = _pairs(weights_and_biases)
        for weight, bias in parts:
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
        ctx.save_for_backward(states, total, mean_row, *weights_and_biases)
        ctx.used, ctx.tau = used, tau
        logits = [_logits(states, *part, rows) for part, rows in zip(parts, used, strict=True)]
        return _joined(logits), total.squeeze(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_used: Tensor, of_total: Tensor) -> tuple[Tensor | None, ...]:
        states, total, mean_row, *weights_and_biases = ctx.saved_tensors
        share = of_total[:, None] / ctx.tau
        for_states = share * mean_row
        shared_states = (share * states).to(states.dtype)
        gradients: list[Tensor | None] = []
        of_parts = torch.split(of_used, [len(rows) for rows in ctx.used], dim=1)
        needed = _pairs(ctx.needs_input_grad[3:])
        for (weight, bias), rows, own, (of_weight, of_bias) in zip(
            _pairs(weights_and_biases), ctx.used, of_parts, needed, strict=True
        ):
            for_states += own @ weight[rows].to(own.dtype)
            for_weight = torch.empty_like(weight) if of_weight else None
            for_bias = torch.empty_like(bias) if of_bias else None
            gradients += [for_weight, for_bias]
            if for_weight is None and for_bias is None:
                continue
            for block in _blocks(states, weight):
                scores = _logits(states, weight, bias, block).float().div_(ctx.tau)
                p = scores.sub_(total).exp_()
                if for_bias is not None:
                    for_bias[block] = (p * share).sum(dim=0)
                if for_weight is not None:
                    for_weight[block] = p.to(states.dtype).T @ shared_states
            if for_weight is not None:
                for_weight.index_add_(0, rows, (own.T @ states).to(for_weight.dtype))
            if for_bias is not None:
                for_bias.index_add_(0, rows, own.sum(dim=0).to(for_bias.dtype))
        return for_states.to(states.dtype), None, None, *gradients


def _pairs(values: Sequence[Any]) -> list[tuple[Any, Any]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _joined(logits: list[Tensor]) -> Tensor:
    return logits[0] if len(logits) == 1 else torch.cat(logits, dim=-1)


def _blocks(states: Tensor, weight: Tensor) -> Iterator[slice]:
    """Slices of the vocabulary with about the same number of logits each."""
    size = max(1, _LOGITS_AT_ONCE // max(1, len(states)))
    return (slice(begin, begin + size) for begin in range(0, len(weight), size))


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, tokens: Tensor | slice) -> Tensor:
    own = None if bias is None else bias[tokens].to(states.dtype)
    return F.linear(states, weight[tokens].to(states.dtype), own)
