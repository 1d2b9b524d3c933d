"""T5's layers run without padding, and decoded one position at a time for many beams.

The parameters are those of ``transformers``; only the order of computation differs from its
forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        shapes: Number of rows and their length, by block.
        longest: Length of the longest row.
    """

    def __init__(self, mask: Tensor) -> None:
        lengths = mask.sum(dim=1)
        self.order = lengths.argsort(stable=True)
        self.place = self.order.argsort()
        row, pos = mask[self.order].nonzero().unbind(1)
        self._real = self.order[row] * mask.shape[1] + pos
        length, rows = torch.unique_consecutive(lengths[self.order], return_counts=True)
        self.shapes = list(zip(rows.tolist(), length.tolist(), strict=True))
        self.longest = self.shapes[-1][1]

    def pack(self, x: Tensor) -> Tensor:
        """Real positions of ``(batch, pos)``; ``(real,)``."""
        return x.flatten().index_select(0, self._real)

    def blocks(self, x: Tensor) -> list[Tensor]:
        """Split ``(real, head, dim)`` into one block ``(row, head, pos, dim)`` per length."""
        parts = torch.split(x, [rows * length for rows, length in self.shapes])
        shapes = zip(parts, self.shapes, strict=True)
        return [part.view(*shape, *x.shape[1:]).transpose(1, 2) for part, shape in shapes]


class Paths:
    """The paths that are decoded from each row, written along its end.

    All rows of a block have equally many, as many as the row with the most of them. The last path
    reads its whole row, and each one before it ``stride`` positions less.

    Args:
        packing: The rows.
        counts: int64 ``(batch,)``, the paths of each row, at least one.
        stride: Positions of a row between the ends of what two consecutive paths read.

    Attributes:
        row: int64 ``(path,)``, the row of each path; paths are in packed order.
        age: int64 ``(path,)``, the number of later paths of the same row.
        masks: By block, bool ``(path, pos)``: what each path of a row reads; None for the whole
            row, if there is a single path.
    """

    def __init__(self, packing: Packing, counts: Tensor, stride: int) -> None:
        device = counts.device
        by_block = torch.split(counts[packing.order], [rows for rows, _ in packing.shapes])
        most = torch.stack([part.max() for part in by_block])
        rows = torch.tensor([rows for rows, _ in packing.shapes], device=device)
        per_row = most.repeat_interleave(rows)
        last = per_row.cumsum(0) - 1
        self.row = packing.order.repeat_interleave(per_row)
        path = torch.arange(len(self.row), device=device)
        self.age = last.repeat_interleave(per_row) - path
        self._last = last[packing.place]
        self.masks = [
            _ends(number, length, stride, device) if number > 1 else None
            for number, (_, length) in zip(most.tolist(), packing.shapes, strict=True)
        ]

    def index(self, row: Tensor, age: Tensor) -> Tensor:
        """Number of the path of some age of a row."""
        return self._last[row] - age


def _ends(number: int, length: int, stride: int, device: torch.device) -> Tensor:
    """Positions before the end of each of ``number`` paths, the last at ``length``."""
    end = length - stride * torch.arange(number - 1, -1, -1, device=device)
    return torch.arange(length, device=device) < end[:, None]


def make_causal(stack: Any) -> None:
    """Let each position of an encoder ``T5Stack`` attend to itself and to earlier ones only.

    As in T5's decoder, all buckets of its relative positions are then for earlier ones.
    """
    stack.config.is_decoder = True  # for the forward pass of ``transformers``
    for block in stack.block:
        block.layer[0].SelfAttention.is_decoder = True


def encode(stack: Any, tokens: Tensor, packing: Packing, weights_dropout: Dropout) -> Tensor:
    """Hidden states of the encoder; float ``(real, dim)``.

    Args:
        stack: An encoder ``T5Stack``; one made causal by ``make_causal`` reads no later position.
        tokens: int64 ``(batch, pos)``.
        packing: Packing of the real positions.
        weights_dropout: Dropout of the attention weights.
    """
    bias = _position_bias(stack, packing.longest)
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

    def attend(
        self, number: int, cross: Any, x: Tensor, biases: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """Cross-attention of layer ``number``; float ``(path, pos, dim)`` in packed order.

        Args:
            number: Number of the layer.
            cross: Its modules.
            x: float ``(path, pos, dim)``.
            biases: By block, added to the scores of a row's queries, ``(query, pos of the row)``;
                None where each row has a single path, which reads the whole row.
        """
        layer = cross.EncDecAttention
        queries = _heads(layer, layer.q(cross.layer_norm(x))).flatten(0, 1)
        biases = [None] * len(self.packing.shapes) if biases is None else biases
        widths = [x.shape[1] if bias is None else len(bias) for bias in biases]
        sizes = [rows * width for (rows, _), width in zip(self.packing.shapes, widths, strict=True)]
        mixed = []
        for query, width, key, value, bias in zip(
            torch.split(queries, sizes), widths, *self._blocks[number], biases, strict=True
        ):
            of_rows = query.unflatten(0, (-1, width)).transpose(1, 2)
            mixed.append(_attend(of_rows, key, value, bias, self._dropout).flatten(0, 1))
        out: Tensor = x + cross.dropout(layer.o(torch.cat(mixed).view(*x.shape[:2], -1)))
        return out


def decode(
    stack: Any, tokens: Tensor, source: Source, paths: Paths, weights_dropout: Dropout
) -> Tensor:
    """Teacher-forced hidden states of the decoder; float ``(path, pos, dim)``.

    Args:
        stack: A decoder ``T5Stack``.
        tokens: int64 ``(path, pos)``, without padding.
        source: The histories.
        paths: The paths of each history.
        weights_dropout: Dropout of the attention weights.
    """
    pos = tokens.shape[1]
    bias = _position_bias(stack, pos)
    cross_biases = [
        None if mask is None else _bias(mask, bias.dtype).repeat_interleave(pos, dim=0)
        for mask in paths.masks
    ]
    x = stack.dropout(stack.embed_tokens(tokens))
    for number, block in enumerate(stack.block):
        attention, cross, feed_forward = block.layer
        query, key, value = (part.transpose(1, 2) for part in _queries_keys_values(attention, x))
        mixed = _attend(query, key, value, bias, weights_dropout)
        x = x + attention.dropout(attention.SelfAttention.o(mixed))
        x = source.attend(number, cross, x, cross_biases)
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


def _position_bias(stack: Any, length: int) -> Tensor:
    """Bias of self-attention by relative position, ``(1, head, pos, pos)``.

    It closes later positions where the stack's attention is causal.
    """
    layer = stack.block[0].layer[0].SelfAttention
    bias: Tensor = layer.compute_bias(length, length)
    if layer.is_decoder:
        later = torch.ones(length, length, dtype=torch.bool, device=bias.device).triu(1)
        bias = bias.masked_fill(later, torch.finfo(bias.dtype).min)
    return bias


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where ``mask`` is True; elsewhere so low that attention does not read the position."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill(~mask, torch.finfo(dtype).min)


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
