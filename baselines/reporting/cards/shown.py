"""Semantic IDs as the page shows them: their card, their items, and which of these come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from baselines.reporting.cards.rows import Card, described, letters
from semid.inspecting.prefixes import Prefix, prefixes_at

if TYPE_CHECKING:
    from semid.ids import SemanticIds

_LONGEST = 80  # characters of a title


@dataclass(frozen=True, kw_only=True, eq=False)
class ShownIds:
    """Semantic IDs, and what the page says of their items.

    Attributes:
        number: Their place among those shown, from 0.
        card: Their ID card.
        ids: The IDs.
        titles: A title of each item, or what stands for it.
        events: Training events of each item, int64 ``(item,)``; None if not known.
    """

    number: int
    card: Card
    ids: SemanticIds
    titles: Sequence[str]
    events: Tensor | None

    @property
    def letter(self) -> str:
        """What the table calls them."""
        return letters(self.number)

    @property
    def description(self) -> str:
        """Their name, scheme, sizes and number of items."""
        return described(self.card)

    @cached_property
    def order(self) -> Tensor:
        """Catalogue rows, int64 ``(item,)``: most events first, else in the catalogue's order."""
        if self.events is None:
            return torch.arange(len(self.ids))
        return self.events.argsort(descending=True, stable=True)

    @cached_property
    def first_codes(self) -> list[Prefix]:
        """The first codes, those of most items first."""
        return prefixes_at(self.ids.codes, 1, self.order)

    @cached_property
    def first_pairs(self) -> list[Prefix]:
        """The first two codes, those of most items first; none if there is one level."""
        if self.ids.num_levels == 1:
            return []
        return prefixes_at(self.ids.codes, 2, self.order)

    def title(self, row: int) -> str:
        """The title of an item on one short line."""
        text = self.titles[row]
        line = " ".join(text[: 4 * _LONGEST].encode(errors="replace").decode().split())
        return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"

    def typical(self, prefix: Prefix) -> list[str]:
        """The titles of the typical items of a prefix."""
        return [self.title(row) for row in prefix.typical]
