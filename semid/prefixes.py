"""What decoding asks of a model: logits after prefixes, and prefixes that are one token longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import torch
from torch import Tensor

NextLogits = Callable[[Tensor], Tensor]
"""From prefixes int64 ``(batch, beam, depth)`` to next-token logits ``(batch, beam, token)``."""


class Prefixes(Protocol):
    """Prefixes of item paths that a model has read, ``beam`` of them for each row of a batch.

    They carry what the model remembers of each prefix and of the history before it, so that one
    token more costs one position more. They never change: a search may go on from any of them, and
    several times.
    """

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        ...

    def logits(self, tokens: Tensor | None = None) -> Tensor:
        """Score the token that follows each prefix.

        Args:
            tokens: int64 ``(n,)``, the tokens that are asked for; all by default.

        Returns:
            Float ``(batch, beam, n)`` or ``(batch, beam, token)``; ``-inf`` forbids a token and
            all paths through it, NaN and ``+inf`` are errors.
        """
        ...

    def extend(self, parent: Tensor, token: Tensor) -> Self:
        """Read one token more.

        Args:
            parent: int64 ``(batch, beam)``, which of these prefixes each of the new ones extends;
                the new beam axis may be longer or shorter, and a prefix may have several children.
            token: int64 ``(batch, beam)``.
        """
        ...


class StatelessPrefixes:
    """Prefixes of a model without memory: every prefix is read again from its first token.

    For any function of prefixes; a model with a cache does about ``depth / 2`` times less.

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
        """Write one token more."""
        longer = StatelessPrefixes(self._next_logits, 0)
        written = of_parents(self._written, parent)
        longer._written = torch.cat([written, token.unsqueeze(-1)], dim=-1)
        return longer


ReadAnew = StatelessPrefixes  # its former name


def of_parents(values: Tensor, parent: Tensor) -> Tensor:
    """Each new prefix's parent's value.

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
