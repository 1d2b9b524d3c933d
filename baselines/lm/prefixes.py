"""Prefixes that a language model has read, all beams of a history in one row.

The beams of a row are positions of one sequence, each of which sees the prompt and the tokens of
its own prefix. So the prompt's keys and values stand once for a row, however many beams there are,
and a token of a prefix stands once for all that continue it.
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
from semid.prefixes import of_parents


class PromptReader(Protocol):
    """What prefixes ask of a language model."""

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
        """Last states of tokens ``(batch, pos)``; float ``(batch, pos, dim)``."""
        ...

    def token_logits(self, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits of ``tokens``, of all by default, from last states ``(..., dim)``."""
        ...


class _Reading(DynamicCache):
    """A cache that never changes what was read before: it gives it out, and keeps the new apart.

    Args:
        back: By layer, what every new token may look back on: parts ``(batch, head, pos, dim)``.
    """

    def __init__(self, back: list[list[KeysAndValues]]) -> None:
        super().__init__()
        self.back = back
        self.read: list[KeysAndValues] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> KeysAndValues:
        """Keys and values of all that was read, the new last."""
        if layer_idx != len(self.read):
            raise ValueError(f"expected layers one after another, got layer {layer_idx}")
        self.read.append((key_states, value_states))
        if not self.back:
            return key_states, value_states
        parts = [*self.back[layer_idx], (key_states, value_states)]
        keys, values = zip(*parts, strict=True)
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)


@dataclass(frozen=True, eq=False)
class LanguagePrefixes:
    """Prefixes of paths after prompts.

    Attributes:
        backbone: The model.
        prompt: By layer, keys and values of the prompts, once for all prefixes of a row.
        mask: bool ``(batch, pos)``, the real positions of the prompts.
        own: By layer, keys and values of tokens of prefixes, ``(batch, head, token, dim)``.
        visible: bool ``(batch, beam, token)``, which of these are of each prefix.
        states: float ``(batch, beam, dim)``, the last states of the prefixes.
        depth: Number of tokens of the prefixes.
    """

    backbone: PromptReader
    prompt: list[KeysAndValues]
    mask: Tensor
    own: list[KeysAndValues]
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
        """Read one token more."""
        own, visible = _of_living(self.own, of_parents(self.visible, parent))
        itself = torch.eye(parent.shape[1], dtype=torch.bool, device=parent.device)
        visible = torch.cat([visible, itself.expand(len(parent), -1, -1)], dim=2)
        before = self.mask.unsqueeze(1).expand(-1, parent.shape[1], -1)
        position = (self.mask.sum(dim=1, keepdim=True) + self.depth).expand(parent.shape)
        back = [[prompt] for prompt in self.prompt]
        for layer, part in zip(back, own, strict=False):
            layer.append(part)
        cache = _Reading(back)
        seen = torch.cat([before, visible], dim=2).unsqueeze(1)
        states = self.backbone.read(token, self._attention(seen), position, cache)
        if own:
            own = [
                (torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2))
                for (keys, values), (k, v) in zip(own, cache.read, strict=True)
            ]
        return LanguagePrefixes(
            backbone=self.backbone,
            prompt=self.prompt,
            mask=self.mask,
            own=own or cache.read,
            visible=visible,
            states=states,
            depth=self.depth + 1,
        )

    def read_after(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Last states of texts after the empty prefix, each of which sees its prompt and itself.

        Args:
            tokens: int64 ``(batch, text, pos)``, several texts after each prompt, padded on the
                left.
            real: bool, the same shape.

        Returns:
            Float ``(batch, text, pos, dim)``.
        """
        batch, texts, width = tokens.shape
        number = torch.arange(texts, device=tokens.device)
        own = real.new_zeros(batch, texts, width, texts, width)
        past = real.new_ones(width, width).tril() & real.unsqueeze(2)
        own[:, number, :, number] = past.transpose(0, 1)
        before = self.mask.unsqueeze(1).expand(-1, texts * width, -1)
        seen = torch.cat([before, own.view(batch, texts * width, -1)], dim=2).unsqueeze(1)
        position = self.mask.sum(dim=1).view(-1, 1, 1) + (real.cumsum(dim=2) - 1).clamp_min_(0)
        cache = _Reading([[prompt] for prompt in self.prompt])
        states = self.backbone.read(
            tokens.flatten(1), self._attention(seen), position.flatten(1), cache
        )
        return states.view(batch, texts, width, -1)

    def _attention(self, seen: Tensor) -> Tensor:
        if self.backbone.base.config._attn_implementation != "eager":
            return seen
        dtype = self.states.dtype  # eager attention adds its mask
        return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(
            ~seen, torch.finfo(dtype).min
        )


def read_prompts(
    backbone: PromptReader, tokens: Tensor, mask: Tensor, past: Histories
) -> LanguagePrefixes:
    """Read prompts once; the empty prefix after each.

    Args:
        backbone: The model.
        tokens: int64 ``(batch, pos)``, padded on the left.
        mask: bool ``(batch, pos)``.
        past: The histories that they are written from.
    """
    cache = _Reading([])
    states = backbone.read(tokens, mask, positions(mask), cache, past=past)
    return LanguagePrefixes(
        backbone=backbone,
        prompt=cache.read,
        mask=mask,
        own=[],
        visible=mask.new_zeros(len(mask), 1, 0),
        states=states[:, -1:],
        depth=0,
    )


def _of_living(own: list[KeysAndValues], visible: Tensor) -> tuple[list[KeysAndValues], Tensor]:
    """Only the tokens that some prefix continues, the others are forgotten."""
    needed = visible.any(dim=1)
    count = int(needed.sum(dim=1).max()) if own else 0
    if count == visible.shape[2]:
        return own, visible
    order = (~needed).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]
    visible = visible.gather(2, order.unsqueeze(1).expand(-1, visible.shape[1], -1))

    def kept(values: Tensor) -> Tensor:
        place = order[:, None, :, None].expand(-1, values.shape[1], -1, values.shape[3])
        return values.gather(2, place)

    return [(kept(keys), kept(values)) for keys, values in own], visible
