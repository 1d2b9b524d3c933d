"""Keys and values for decoding many continuations of one history at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semid.prefixes import gather_parents

KeysAndValues = tuple[Tensor, Tensor]
KeyValues = list[KeysAndValues]


@dataclass(frozen=True, eq=False)
class PrefixCache:
    """Keys and values of the tokens of a beam's prefixes.

    A token's keys and values are stored once and shared by all prefixes that extend it;
    ``ancestors`` indexes them.

    Attributes:
        kv: Keys and values by depth and layer, ``(batch, n, head, dim)``; ``n`` varies by depth.
        ancestors: By depth, int64 ``(batch, beam)``: which of the ``n`` entries each prefix
            extends. The last depth has none: its entries are the prefixes' last tokens.
    """

    kv: tuple[KeyValues, ...] = ()
    ancestors: tuple[Tensor, ...] = ()

    @property
    def depth(self) -> int:
        """Number of tokens read."""
        return len(self.kv)

    def reorder(self, parent: Tensor) -> PrefixCache:
        """The cache of new prefixes, before their last token is appended.

        Args:
            parent: int64 ``(batch, beam)``, the prefix that each new one extends.
        """
        if not self.kv:
            return self  # each history has a single empty prefix, which all new ones extend
        older = [ancestor.gather(1, parent) for ancestor in self.ancestors]
        return PrefixCache(self.kv, (*older, parent))

    def append(self, keys_values: KeyValues) -> PrefixCache:
        """A cache with one more token: keys and values ``(batch, beam, head, dim)`` by layer."""
        return PrefixCache((*self.kv, keys_values), self.ancestors)

    def lookup(self, layer: int) -> KeyValues:
        """One layer's keys and values by depth, ``(batch, beam, head, dim)``.

        ``beam`` is 1 where all prefixes share a single token.
        """
        gathered = []
        for by_layer, ancestor in zip(self.kv, self.ancestors, strict=True):
            keys, values = by_layer[layer]
            if keys.shape[1] > 1:
                keys, values = gather_parents(keys, ancestor), gather_parents(values, ancestor)
            gathered.append((keys, values))
        return gathered


def prefix_scores(query: Tensor, keys_values: KeyValues) -> Tensor:
    """Dot products of each query with the keys of its prefix.

    Args:
        query: float ``(batch, beam, head, dim)``.
        keys_values: By position.

    Returns:
        float ``(batch, beam, head, pos)``.
    """
    return torch.stack([(query * keys).sum(dim=-1) for keys, _ in keys_values], dim=-1)


def mix_prefix_values(weights: Tensor, keys_values: KeyValues) -> Tensor:
    """Weighted sum of the values of each prefix.

    Args:
        weights: float ``(batch, beam, head, pos)``.
        keys_values: By position.

    Returns:
        float ``(batch, beam, head, dim)``.
    """
    mixed = torch.zeros((), device=weights.device, dtype=weights.dtype)
    for weight, (_, values) in zip(weights.unsqueeze(-1).unbind(-2), keys_values, strict=True):
        mixed = torch.addcmul(mixed, weight, values)
    return mixed
