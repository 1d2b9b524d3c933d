"""A causal transformer over item or code embeddings, shared by the teachers and the backbones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from baselines.dropout import Dropout

KeyValues = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of a causal transformer.

    Raises:
        ValueError: If ``dim`` is not a multiple of ``num_heads``.
    """

    dim: int = 64
    num_layers: int = 2
    num_heads: int = 1
    ff_dim: int = 256
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.dim < 1 or self.dim % self.num_heads:
            raise ValueError(
                f"dim must be a multiple of num_heads, got dim {self.dim} and "
                f"{self.num_heads} heads"
            )


class CausalEncoder(nn.Module):
    """Pre-norm causal transformer; the caller adds positions.

    Attention is written as two matrix products and a softmax: on CPU the fused kernel's backward
    in bfloat16 is many times slower.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, KeyValues]:
        """States of all positions.

        Args:
            x: float ``(batch, pos, dim)``.
            mask: bool ``(batch, pos)``, True at real positions.

        Returns:
            States ``(batch, pos, dim)``, and each layer's keys and values
            ``(batch, head, pos, head_dim)`` for ``extend``.
        """
        pos = x.shape[1]
        allowed = torch.ones(pos, pos, dtype=torch.bool, device=x.device).tril()
        if not mask.all():
            # a padded query sees itself, so that no softmax is over nothing
            itself = torch.eye(pos, dtype=torch.bool, device=x.device)
            allowed = allowed & (mask[:, None, None, :] | itself)
        bias = torch.zeros(allowed.shape, device=x.device).masked_fill(~allowed, -torch.inf)
        x = self.dropout(x)
        cache: KeyValues = []
        for block in self.blocks:
            x, keys_values = block(x, bias)
            cache.append(keys_values)
        return self.norm(x), cache

    def extend(self, x: Tensor, mask: Tensor, cache: KeyValues) -> Tensor:
        """States of a few positions that follow a cached history, many continuations at once.

        Args:
            x: float ``(batch, beam, pos, dim)``.
            mask: bool ``(batch, past)``, real positions of the history.
            cache: What ``forward`` returned for the history; shared by all beams, not repeated.

        Returns:
            States ``(batch, beam, pos, dim)``.
        """
        pos = x.shape[2]
        past_bias = torch.zeros(mask.shape, device=x.device).masked_fill(~mask, -torch.inf)
        own_bias = torch.full((pos, pos), -torch.inf, device=x.device).triu(1)
        block: Any
        for block, keys_values in zip(self.blocks, cache, strict=True):
            x = block.extend(x, keys_values, past_bias, own_bias)
        states: Tensor = self.norm(x)
        return states


class _Block(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.attention_norm = nn.LayerNorm(config.dim)
        self.query_key_value = nn.Linear(config.dim, 3 * config.dim)
        self.project = nn.Linear(config.dim, config.dim)
        self.ff_norm = nn.LayerNorm(config.dim)
        self.ff_in = nn.Linear(config.dim, config.ff_dim)
        self.ff_out = nn.Linear(config.ff_dim, config.dim)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, bias: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        query, key, value = rearrange(
            self.query_key_value(self.attention_norm(x)),
            "batch pos (three head dim) -> three batch head pos dim",
            three=3,
            head=self.num_heads,
        )
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5 + bias
        weights = self.dropout(scores.softmax(dim=-1).to(value.dtype))
        mixed = rearrange(weights @ value, "batch head pos dim -> batch pos (head dim)")
        return self._feed_forward(x + self.dropout(self.project(mixed))), (key, value)

    def extend(
        self, x: Tensor, keys_values: tuple[Tensor, Tensor], past_bias: Tensor, own_bias: Tensor
    ) -> Tensor:
        beam = x.shape[1]
        query, key, value = rearrange(
            self.query_key_value(self.attention_norm(x)),
            "batch beam pos (three head dim) -> three batch head beam pos dim",
            three=3,
            head=self.num_heads,
        )
        past_key, past_value = keys_values
        scale = query.shape[-1] ** -0.5
        flat_query = rearrange(query, "batch head beam pos dim -> batch head (beam pos) dim")
        past = flat_query @ past_key.transpose(-1, -2) * scale + past_bias[:, None, None, :]
        past = rearrange(past, "batch head (beam pos) key -> batch head beam pos key", beam=beam)
        own = query @ key.transpose(-1, -2) * scale + own_bias
        weights = torch.cat([past, own], dim=-1).softmax(dim=-1).to(value.dtype)
        past_weights, own_weights = weights.tensor_split([past.shape[-1]], dim=-1)
        past_weights = rearrange(
            past_weights, "batch head beam pos key -> batch head (beam pos) key"
        )
        from_past = rearrange(
            past_weights @ past_value,
            "batch head (beam pos) dim -> batch beam pos (head dim)",
            beam=beam,
        )
        from_own = rearrange(
            own_weights @ value, "batch head beam pos dim -> batch beam pos (head dim)"
        )
        return self._feed_forward(x + self.dropout(self.project(from_past + from_own)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        hidden = F.relu(self.ff_in(self.ff_norm(x)))
        out: Tensor = x + self.dropout(self.ff_out(self.dropout(hidden)))
        return out
