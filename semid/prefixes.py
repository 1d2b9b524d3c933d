"""What decoding needs from a model: logits after prefixes, and prefixes extended by a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import torch
from torch import Tensor

NextLogits = Callable[[Tensor], Tensor]
"""From prefixes int64 ``(batch, beam, depth)`` to next-token logits ``(batch, beam, token)``."""


class Prefixes(Protocol):
    """Prefixes of item paths that a model has read, ``beam`` per row of a batch.

    They carry the model's state for each prefix and the history before it, so that reading one more
    token costs one more position. They are immutable: a search may extend any of them, repeatedly.
    """

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        ...

    def logits(self, tokens: Tensor | None = None) -> Tensor:
        """Score the token that follows each prefix.

        Args:
            tokens: int64 ``(n,)``, the tokens to score; all by default.

        Returns:
            Float ``(batch, beam, n)`` or ``(batch, beam, token)``; ``-inf`` forbids a token and all
            paths through it; NaN and ``+inf`` are errors.
        """
        ...

    def extend(self, parent: Tensor, token: Tensor) -> Self:
        """Extend prefixes by one token.

        Args:
            parent: int64 ``(batch, beam)``, index of the prefix that each new one extends; the new
                beam axis may have another length, and a prefix may have several children.
            token: int64 ``(batch, beam)``.
        """
        ...


class StatelessPrefixes:
    """Prefixes of a stateless model: every prefix is read again from its first token.

    Works for any function of prefixes; a model with a cache does about ``depth / 2`` times less
    work.

    Args:
        next_logits: See ``NextLogits``; called first with ``(batch, 1, 0)``.
        batch_size: Number of rows.
        device: Of the tokens.
    """

    def __init__(
        self,
        next_logits: NextLogits,
        batch_size: int,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self._next_logits = next_logits
        self._written = torch.zeros(batch_size, 1, 0, dtype=torch.int64, device=device)

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return len(self._written)

    def logits(self, tokens: Tensor | None = None) -> Tensor:
        """Score the token that follows each prefix."""
        logits = self._next_logits(self._written)
        return logits if tokens is None else logits.index_select(-1, tokens)

    def extend(self, parent: Tensor, token: Tensor) -> StatelessPrefixes:
        """Append one token."""
        longer = StatelessPrefixes(self._next_logits, 0)
        written = gather_parents(self._written, parent)
        longer._written = torch.cat([written, token.unsqueeze(-1)], dim=-1)
        return longer


ReadAnew = StatelessPrefixes  # its former name


def gather_parents(values: Tensor, parent: Tensor) -> Tensor:
    """Gather the parent's value for each new prefix.

    Args:
        values: ``(batch, beam, ...)``.
        parent: int64 ``(batch, new beam)``.

    Returns:
        ``(batch, new beam, ...)``.
    """
    batch, beam = values.shape[:2]
    row = torch.arange(batch, device=parent.device).unsqueeze(1) * beam
    chosen = values.flatten(0, 1).index_select(0, (row + parent).flatten())
    return chosen.view(*parent.shape, *values.shape[2:])
