"""Prefixes decoded by a language model, with all beams of a history in one row.

The beams of a row are positions of one sequence, each of which attends to the prompt and to the
tokens of its own prefix. The prompt's keys and values are thus stored once per row, and a prefix
token's once for all beams that extend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from baselines.data.batches import Histories
from baselines.lm.prompts import positions
from baselines.nn.kv_cache import KeysAndValues
from semid.prefixes import gather_parents


class PromptReader(Protocol):
    """The interface that prefixes need of a language model."""

    @property
    def base(self) -> Any:
        """The causal language model of ``transformers``."""
        ...

    def read(
        self,
        tokens: Tensor,
        mask: Tensor,
        position: Tensor,
        cache: Any = None,
        *,
        past: Histories | None = None,
    ) -> Tensor:
        """Last hidden states of tokens ``(batch, pos)``; float ``(batch, pos, dim)``."""
        ...

    def token_logits(self, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits of ``tokens`` (default: all) from last hidden states ``(..., dim)``."""
        ...


class _Reading(DynamicCache):
    """A cache that returns stored keys/values unchanged and collects new ones separately.

    Args:
        stored: By layer, the stored parts, each ``(batch, head, pos, dim)``.
    """

    def __init__(self, stored: list[list[KeysAndValues]]) -> None:
        super().__init__()
        self.stored = stored
        self.read: list[KeysAndValues] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> KeysAndValues:
        """All keys and values of a layer, the new ones last."""
        if layer_idx != len(self.read):
            raise ValueError(f"expected layers in order, got layer {layer_idx}")
        self.read.append((key_states, value_states))
        if not self.stored:
            return key_states, value_states
        parts = [*self.stored[layer_idx], (key_states, value_states)]
        keys, values = zip(*parts, strict=True)
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)


@dataclass(frozen=True, eq=False)
class LanguagePrefixes:
    """Prefixes of paths, following prompts.

    Attributes:
        backbone: The model.
        prompt: By layer, keys and values of the prompts, shared by all prefixes of a row.
        mask: bool ``(batch, pos)``, the real positions of the prompts.
        prefix_kv: By layer, keys and values of prefix tokens, ``(batch, head, token, dim)``.
        visible: bool ``(batch, beam, token)``, which of these belong to each prefix.
        states: float ``(batch, beam, dim)``, last hidden states of the prefixes.
        depth: Number of tokens in each prefix.
    """

    backbone: PromptReader
    prompt: list[KeysAndValues]
    mask: Tensor
    prefix_kv: list[KeysAndValues]
    visible: Tensor
    states: Tensor
    depth: int

    @property
    def batch_size(self) -> int:
        """Number of histories."""
        return len(self.states)

    def logits(self, tokens: Tensor | None = None) -> Tensor:
        """Score the token that follows each prefix."""
        return self.backbone.token_logits(self.states, tokens)

    def extend(self, parent: Tensor, token: Tensor) -> LanguagePrefixes:
        """Extend each parent by one token."""
        prefix_kv, visible = _drop_unused(self.prefix_kv, gather_parents(self.visible, parent))
        itself = torch.eye(parent.shape[1], dtype=torch.bool, device=parent.device)
        visible = torch.cat([visible, itself.expand(len(parent), -1, -1)], dim=2)
        before = self.mask.unsqueeze(1).expand(-1, parent.shape[1], -1)
        position = (self.mask.sum(dim=1, keepdim=True) + self.depth).expand(parent.shape)
        stored = [[prompt] for prompt in self.prompt]
        for layer, part in zip(stored, prefix_kv, strict=False):
            layer.append(part)
        cache = _Reading(stored)
        seen = torch.cat([before, visible], dim=2).unsqueeze(1)
        states = self.backbone.read(token, self._attention(seen), position, cache)
        if prefix_kv:
            prefix_kv = [
                (torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2))
                for (keys, values), (k, v) in zip(prefix_kv, cache.read, strict=True)
            ]
        return LanguagePrefixes(
            backbone=self.backbone,
            prompt=self.prompt,
            mask=self.mask,
            prefix_kv=prefix_kv or cache.read,
            visible=visible,
            states=states,
            depth=self.depth + 1,
        )

    def read_after(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Last hidden states of texts, each attending only to its prompt and itself.

        Args:
            tokens: int64 ``(batch, text, pos)``, several texts per prompt, left-padded.
            real: bool, the same shape.

        Returns:
            Float ``(batch, text, pos, dim)``.
        """
        batch, texts, width = tokens.shape
        number = torch.arange(texts, device=tokens.device)
        itself = real.new_zeros(batch, texts, width, texts, width)
        past = real.new_ones(width, width).tril() & real.unsqueeze(2)
        itself[:, number, :, number] = past.transpose(0, 1)
        before = self.mask.unsqueeze(1).expand(-1, texts * width, -1)
        seen = torch.cat([before, itself.view(batch, texts * width, -1)], dim=2).unsqueeze(1)
        position = self.mask.sum(dim=1).view(-1, 1, 1) + (real.cumsum(dim=2) - 1).clamp_min_(0)
        cache = _Reading([[prompt] for prompt in self.prompt])
        states = self.backbone.read(
            tokens.flatten(1), self._attention(seen), position.flatten(1), cache
        )
        return states.view(batch, texts, width, -1)

    def _attention(self, seen: Tensor) -> Tensor:
        if self.backbone.base.config._attn_implementation != "eager":
            return seen
        dtype = self.states.dtype  # eager attention expects an additive mask
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(
            ~seen, torch.finfo(dtype).min
        )


def read_prompts(
    backbone: PromptReader, tokens: Tensor, mask: Tensor, past: Histories
) -> LanguagePrefixes:
    """Encode prompts once and return the empty prefix after each.

    Args:
        backbone: The model.
        tokens: int64 ``(batch, pos)``, padded on the left.
        mask: bool ``(batch, pos)``.
        past: The histories of the prompts.
    """
    cache = _Reading([])
    states = backbone.read(tokens, mask, positions(mask), cache, past=past)
    return LanguagePrefixes(
        backbone=backbone,
        prompt=cache.read,
        mask=mask,
        prefix_kv=[],
        visible=mask.new_zeros(len(mask), 1, 0),
        states=states[:, -1:],
        depth=0,
    )


def _drop_unused(
    prefix_kv: list[KeysAndValues], visible: Tensor
) -> tuple[list[KeysAndValues], Tensor]:
    """Drop the tokens that no prefix extends."""
    needed = visible.any(dim=1)
    count = int(needed.sum(dim=1).max()) if prefix_kv else 0
    if count == visible.shape[2]:
        return prefix_kv, visible
    order = (~needed).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    visible = visible.gather(2, order.unsqueeze(1).expand(-1, visible.shape[1], -1))

    def kept(values: Tensor) -> Tensor:
        place = order[:, None, :, None].expand(-1, values.shape[1], -1, values.shape[3])
        return values.gather(2, place)

    return [(kept(keys), kept(values)) for keys, values in prefix_kv], visible
