"""A transformer over item or code embeddings, shared by the teachers and the backbones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from baselines.nn.config import EncoderConfig
from baselines.nn.dropout import Dropout
from baselines.nn.kv_cache import (
    KeysAndValues,
    KeyValues,
    PrefixCache,
    mix_prefix_values,
    prefix_scores,
)
from baselines.nn.low_pass import LowPass, causal_low_pass, over_existing


@dataclass(frozen=True, eq=False)
class Past:
    """Keys and values of histories, stored once per history and shared by its continuations.

    Attributes:
        cache: By layer, keys and values ``(batch, head, pos, dim)``.
        mask: bool ``(batch, pos)``, True at real positions.
    """

    cache: KeyValues
    mask: Tensor


class CausalEncoder(nn.Module):
    """Pre-norm causal transformer; the caller adds positions.

    With ``both_ways``, every position attends to all others, and histories cannot be extended.

    With ``low_pass``, a layer's update is ``share`` times ``low + b^2 (h - low)`` plus the rest
    times attention's. Here ``h`` are its normalised inputs, ``low`` is ``h`` smoothed over the past
    and ``b`` is learned per channel. This is BSARec's layer (arXiv:2312.10325, section 4) in
    pre-norm form and with a causal filter. The filter is written as extra attention heads with
    fixed weights and the values ``h``.

    Attention is written as two matrix products and a softmax: on CPU the backward pass of the
    fused kernel is many times slower in bfloat16.
    """

    low_pass: Tensor | None

    def __init__(
        self, config: EncoderConfig, *, both_ways: bool = False, low_pass: LowPass | None = None
    ) -> None:
        super().__init__()
        self.both_ways = both_ways
        share = None if low_pass is None else low_pass.share
        self.blocks = nn.ModuleList(_Block(config, share) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)
        weights = None
        if low_pass is not None:
            weights = causal_low_pass(low_pass.length, low_pass.num_frequencies)
        self.register_buffer("low_pass", weights, persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, KeyValues]:
        """Hidden states of all positions.

        Args:
            x: float ``(batch, pos, dim)``.
            mask: bool ``(batch, pos)``, True at real positions.

        Returns:
            States ``(batch, pos, dim)``, and each layer's keys and values
            ``(batch, head, pos, head_dim)`` for ``Past``; a filter has values but no keys.
        """
        pos = x.shape[1]
        allowed = torch.ones(pos, pos, dtype=torch.bool, device=x.device)
        allowed = allowed if self.both_ways else allowed.tril()
        if not mask.all():
            # a padded query attends to itself, so that no softmax is over an empty set
            itself = torch.eye(pos, dtype=torch.bool, device=x.device)
            allowed = allowed & (mask[:, None, None, :] | itself)
        bias = torch.zeros(allowed.shape, device=x.device).masked_fill(~allowed, -torch.inf)
        smoothing = None
        if self.low_pass is not None:
            smoothing = over_existing(self.low_pass[-pos:, -pos:], allowed)
        x = self.dropout(x)
        cache: KeyValues = []
        for block in self.blocks:
            x, keys_values = block(x, bias, smoothing)
            cache.append(keys_values)
        return self.norm(x), cache

    def extend(self, x: Tensor, past: Past, prefixes: PrefixCache) -> tuple[Tensor, PrefixCache]:
        """Hidden states after one more position of many continuations of each history.

        Args:
            x: float ``(batch, beam, dim)``, embeddings of the new position.
            past: The histories.
            prefixes: Cache of the continuations so far.

        Returns:
            States ``(batch, beam, dim)``, and the cache with the new position.
        """
        bias = torch.zeros(past.mask.shape, device=x.device).masked_fill(~past.mask, -torch.inf)
        bias = bias[:, None, None, :]
        smoothing = None
        if self.low_pass is not None:
            exists = F.pad(past.mask, (0, prefixes.depth + 1), value=True)
            last = self.low_pass[-1, -exists.shape[1] :]
            smoothing = over_existing(last, exists)[:, None, None, :]
        token: KeyValues = []
        block: Any
        for layer, block in enumerate(self.blocks):
            prefix_kv = prefixes.lookup(layer)
            x, keys_values = block.extend(x, past.cache[layer], prefix_kv, bias, smoothing)
            token.append(keys_values)
        return self.norm(x), prefixes.append(token)


class _Block(nn.Module):
    def __init__(self, config: EncoderConfig, filter_share: float | None) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.filter_share = filter_share
        self.attention_norm = nn.LayerNorm(config.dim)
        self.query_key_value = nn.Linear(config.dim, 3 * config.dim)
        self.project = nn.Linear(config.dim, config.dim)
        self.ff_norm = nn.LayerNorm(config.dim)
        self.ff_in = nn.Linear(config.dim, config.ff_dim)
        self.ff_out = nn.Linear(config.ff_dim, config.dim)
        self.dropout = Dropout(config.dropout)
        if filter_share is not None:
            self.b = nn.Parameter(torch.randn(config.dim))

    def forward(
        self, x: Tensor, bias: Tensor, smoothing: Tensor | None
    ) -> tuple[Tensor, KeysAndValues]:
        normed = self.attention_norm(x)
        query, key, value = rearrange(
            self.query_key_value(normed),
            "batch pos (three head dim) -> three batch head pos dim",
            three=3,
            head=self.num_heads,
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
        weights = self.dropout(scores.softmax(dim=-1).to(value.dtype))
        if smoothing is not None:
            weights = torch.cat([weights, smoothing.expand_as(weights).to(weights)], dim=1)
            smoothed = rearrange(
                normed, "batch pos (head dim) -> batch head pos dim", head=self.num_heads
            )
            value = torch.cat([value, smoothed.to(value)], dim=1)
        mixed = rearrange(weights @ value, "batch head pos dim -> batch pos (head dim)")
        return self._feed_forward(x + self._update(normed, mixed)), (key, value)

    def extend(
        self,
        x: Tensor,
        shared: KeysAndValues,
        prefix_kv: KeyValues,
        bias: Tensor,
        smoothing: Tensor | None,
    ) -> tuple[Tensor, KeysAndValues]:
        normed = self.attention_norm(x)
        query, key, value = rearrange(
            self.query_key_value(normed),
            "batch beam (three head dim) -> three batch beam head dim",
            three=3,
            head=self.num_heads,
        )
        if smoothing is not None:
            smoothed = rearrange(
                normed, "batch beam (head dim) -> batch beam head dim", head=self.num_heads
            )
            value = torch.cat([value, smoothed.to(value)], dim=2)
        prefix_kv = [*prefix_kv, (key, value)]
        query = query * query.shape[-1] ** -0.5
        past_scores = query.transpose(1, 2) @ shared[0].transpose(-1, -2) + bias
        scores = torch.cat([past_scores, prefix_scores(query, prefix_kv).transpose(1, 2)], dim=-1)
        weights = scores.softmax(dim=-1).to(value.dtype)
        if smoothing is not None:
            weights = torch.cat([weights, smoothing.expand_as(weights).to(weights)], dim=1)
        on_past, on_prefix = weights.tensor_split([past_scores.shape[-1]], dim=-1)
        mixed = (on_past @ shared[1]).transpose(1, 2)
        mixed = mixed + mix_prefix_values(on_prefix.transpose(1, 2), prefix_kv)
        return self._feed_forward(x + self._update(normed, mixed.flatten(2))), (key, value)

    def _update(self, normed: Tensor, mixed: Tensor) -> Tensor:
        """Added to the inputs; ``mixed`` is ``(batch, pos, dim)``, with a filter ``2 * dim``."""
        update: Tensor = self.dropout(self.project(mixed[..., : normed.shape[-1]]))
        if self.filter_share is None:
            return update
        low = mixed[..., normed.shape[-1] :]
        filtered = self.dropout(low + self.b.square() * (normed - low))
        update = self.filter_share * filtered + (1 - self.filter_share) * update
        return update

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.ff_in(self.ff_norm(x)))
        out: Tensor = x + self.dropout(self.ff_out(self.dropout(hidden)))
        return out
