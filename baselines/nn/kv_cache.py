"""What attention looks back on while a history is continued in many ways at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semid.prefixes import of_parents

KeysAndValues = tuple[Tensor, Tensor]
KeyValues = list[KeysAndValues]


@dataclass(frozen=True, eq=False)
class Continuations:
    """Keys and values of the tokens of prefixes.

    Those of a prefix stand once, however many others continue it: each prefix knows by index which
    positions lead to it.

    Attributes:
        own: By depth and layer, keys and values of a token, ``(batch, n, head, dim)``, ``n``
            differing by depth.
        ancestors: By depth, int64 ``(batch, beam)``: which of the ``n`` each prefix continues; the
            last depth has none, its tokens being the prefixes' own.
    """

    own: tuple[KeyValues, ...] = ()
    ancestors: tuple[Tensor, ...] = ()

    @property
    def depth(self) -> int:
        """Number of tokens read."""
        return len(self.own)

    def of_parents(self, parent: Tensor) -> Continuations:
        """What each new prefix looks back on.

        Args:
            parent: int64 ``(batch, beam)``, the prefix that each new one continues.
        """
        if not self.own:
            return self  # a history has one empty continuation, and all new ones continue that
        older = [ancestor.gather(1, parent) for ancestor in self.ancestors]
        return Continuations(self.own, (*older, parent))

    def and_token(self, keys_values: KeyValues) -> Continuations:
        """With one token more; by layer, keys and values ``(batch, beam, head, dim)``."""
        return Continuations((*self.own, keys_values), self.ancestors)

    def back(self, layer: int) -> KeyValues:
        """By depth, a layer's keys and values of each prefix's tokens ``(batch, beam, head, dim)``.

        Where a single token leads to all prefixes, ``beam`` is 1.
        """
        found = []
        for by_layer, ancestor in zip(self.own, self.ancestors, strict=True):
            keys, values = by_layer[layer]
            if keys.shape[1] > 1:
                keys, values = of_parents(keys, ancestor), of_parents(values, ancestor)
            found.append((keys, values))
        return found


def scores_of_own(query: Tensor, keys_values: KeyValues) -> Tensor:
    """Products of queries with their own prefix's keys.

    Args:
        query: float ``(batch, beam, head, dim)``.
        keys_values: By position.

    Returns:
        float ``(batch, beam, head, pos)``.
    """
    return torch.stack([(query * keys).sum(dim=-1) for keys, _ in keys_values], dim=-1)


def mix_own(weights: Tensor, keys_values: KeyValues) -> Tensor:
    """Their own prefix's values, weighted.

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
