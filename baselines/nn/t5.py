"""T5's layers run without padding, and decoded one position at a time for many beams.

The parameters are those of ``transformers``; only the order of computation differs from its
forward pass.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.nn.dropout import Dropout
from baselines.nn.kv_cache import (
    KeysAndValues,
    PrefixCache,
    mix_prefix_values,
    prefix_scores,
)


class Packing:
    """Rows of different lengths packed without padding, shortest first.

    Position-wise layers run on ``(real, dim)``. Rows of equal length form a contiguous block
    ``(row, pos, dim)``, over which attention runs.

    Args:
        mask: bool ``(batch, pos)``, True at real positions.

    Attributes:
        order: int64 ``(batch,)``, the rows in packed order.
        place: int64 ``(batch,)``, the place of each row in that order.
        longest: Length of the longest row.
    """

    def __init__(self, mask: Tensor) -> None:
        lengths = mask.sum(dim=1)
        self.order = lengths.argsort(stable=True)
        self.place = self.order.argsort()
        row, pos = mask[self.order].nonzero().unbind(1)
        self._real = self.order[row] * mask.shape[1] + pos
        length, rows = torch.unique_consecutive(lengths[self.order], return_counts=True)
        self._shapes = list(zip(rows.tolist(), length.tolist(), strict=True))
        self.longest = self._shapes[-1][1]

    def pack(self, x: Tensor) -> Tensor:
        """Real positions of ``(batch, pos)``; ``(real,)``."""
        return x.flatten().index_select(0, self._real)

    def blocks(self, x: Tensor) -> list[Tensor]:
        """Split ``(real, head, dim)`` into one block ``(row, head, pos, dim)`` per length."""
        parts = torch.split(x, [rows * length for rows, length in self._shapes])
        shapes = zip(parts, self._shapes, strict=True)
        return [part.view(*shape, *x.shape[1:]).transpose(1, 2) for part, shape in shapes]

    def rows(self, x: Tensor) -> list[Tensor]:
        """Split ``(batch, pos, head, dim)`` in packed order into the rows of each block."""
        parts = torch.split(x, [rows for rows, _ in self._shapes])
        return [part.transpose(1, 2) for part in parts]


def encode(stack: Any, tokens: Tensor, packing: Packing, weights_dropout: Dropout) -> Tensor:
    """Hidden states of the encoder; float ``(real, dim)``.

    Args:
        stack: An encoder ``T5Stack``.
        tokens: int64 ``(batch, pos)``.
        packing: Packing of the real positions.
        weights_dropout: Dropout of the attention weights.
    """
    longest = packing.longest
    bias = stack.block[0].layer[0].SelfAttention.compute_bias(longest, longest)
    x = stack.dropout(stack.embed_tokens(packing.pack(tokens)))
    for block in stack.block:
        attention, feed_forward = block.layer
        layer = attention.SelfAttention
        parts = [packing.blocks(part) for part in _queries_keys_values(attention, x)]
        mixed = []
        for query, key, value in zip(*parts, strict=True):
            near = bias[..., : query.shape[2], : query.shape[2]]
            mixed.append(_attend(query, key, value, near, weights_dropout).flatten(0, 1))
        x = x + attention.dropout(layer.o(torch.cat(mixed)))
        x = _feed_forward(feed_forward, x)
    states: Tensor = stack.dropout(stack.final_layer_norm(x))
    return states


class Source:
    """The encoded histories as keys and values of the decoder's cross-attention, unpadded.

    Args:
        stack: A decoder ``T5Stack``.
        encoded: float ``(real, dim)``, from ``encode``.
        packing: Packing of the real positions.
        weights_dropout: Dropout of the attention weights.
    """

    def __init__(
        self, stack: Any, encoded: Tensor, packing: Packing, weights_dropout: Dropout
    ) -> None:
        self.packing = packing
        self._dropout = weights_dropout
        layers = [block.layer[1].EncDecAttention for block in stack.block]
        self._blocks = [
            [packing.blocks(_heads(layer, f(encoded))) for f in (layer.k, layer.v)]
            for layer in layers
        ]

    def attend(self, number: int, cross: Any, x: Tensor) -> Tensor:
        """Cross-attention of layer ``number``; float ``(batch, pos, dim)`` in packed order."""
        layer = cross.EncDecAttention
        queries = self.packing.rows(_heads(layer, layer.q(cross.layer_norm(x))))
        mixed = [
            _attend(query, key, value, None, self._dropout)
            for query, key, value in zip(queries, *self._blocks[number], strict=True)
        ]
        out: Tensor = x + cross.dropout(layer.o(torch.cat(mixed)))
        return out


def decode(stack: Any, tokens: Tensor, source: Source, weights_dropout: Dropout) -> Tensor:
    """Teacher-forced hidden states of the decoder; float ``(batch, pos, dim)``.

    Args:
        stack: A decoder ``T5Stack``.
        tokens: int64 ``(batch, pos)``, rows in packed order, no padding.
        source: The histories.
        weights_dropout: Dropout of the attention weights.
    """
    pos = tokens.shape[1]
    bias = stack.block[0].layer[0].SelfAttention.compute_bias(pos, pos)
    later = torch.ones(pos, pos, dtype=torch.bool, device=tokens.device).triu(1)
    bias = bias.masked_fill(later, torch.finfo(bias.dtype).min)
    x = stack.dropout(stack.embed_tokens(tokens))
    for number, block in enumerate(stack.block):
        attention, cross, feed_forward = block.layer
        query, key, value = (part.transpose(1, 2) for part in _queries_keys_values(attention, x))
        mixed = _attend(query, key, value, bias, weights_dropout)
        x = x + attention.dropout(attention.SelfAttention.o(mixed))
        x = source.attend(number, cross, x)
        x = _feed_forward(feed_forward, x)
    states: Tensor = stack.dropout(stack.final_layer_norm(x))
    return states


def extend(
    stack: Any, tokens: Tensor, source: Source, past: PrefixCache
) -> tuple[Tensor, PrefixCache]:
    """Hidden states of the decoder after one more token of many continuations of each history.

    Args:
        stack: A decoder ``T5Stack`` in eval mode.
        tokens: int64 ``(batch, beam)``, rows in packed order.
        source: The histories.
        past: Cache of the continuations so far.

    Returns:
        float ``(batch, beam, dim)``, and the cache with the new token.
    """
    x = stack.embed_tokens(tokens)
    pos = past.depth + 1
    bias = stack.block[0].layer[0].SelfAttention.compute_bias(pos, pos)[0, :, -1]
    token: list[KeysAndValues] = []
    for number, block in enumerate(stack.block):
        attention, cross, feed_forward = block.layer
        query, key, value = _queries_keys_values(attention, x)
        prefix_kv = [*past.lookup(number), (key, value)]
        weights = (prefix_scores(query, prefix_kv) + bias).softmax(dim=-1)  # T5 does not scale
        mixed = mix_prefix_values(weights.to(value.dtype), prefix_kv)
        x = x + attention.SelfAttention.o(mixed.flatten(2))
        token.append((key, value))
        x = source.attend(number, cross, x)
        x = _feed_forward(feed_forward, x)
    return stack.final_layer_norm(x), past.append(token)


def _queries_keys_values(attention: Any, x: Tensor) -> list[Tensor]:
    """Queries, keys and values of self-attention, each ``(..., head, dim)``."""
    layer, normed = attention.SelfAttention, attention.layer_norm(x)
    return [_heads(layer, f(normed)) for f in (layer.q, layer.k, layer.v)]


def _heads(layer: Any, x: Tensor) -> Tensor:
    heads: Tensor = x.view(*x.shape[:-1], layer.n_heads, layer.key_value_proj_dim)
    return heads


def _attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: Dropout
) -> Tensor:
    """Unscaled attention, as in T5, over ``(row, head, pos, dim)``; ``(row, pos, head dim)``."""
    if dropout.training:  # on CPU the fused kernel's backward is many times slower in bfloat16
        scores = query @ key.transpose(-1, -2)
        weights = dropout((scores if bias is None else scores + bias).softmax(dim=-1))
        mixed = weights.to(value.dtype) @ value
    else:
        bias = None if bias is None else bias.to(query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, bias, scale=1.0)
    out: Tensor = mixed.transpose(1, 2).flatten(2)
    return out


def _feed_forward(layer: Any, x: Tensor) -> Tensor:
    inner = layer.DenseReluDense
    hidden = inner.dropout(inner.wi(layer.layer_norm(x)).relu_())
    out: Tensor = x + layer.dropout(inner.wo(hidden))
    return out
