"""Prompts: turn a history into the tokens that a language model reads."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from baselines.data.batches import Histories
from baselines.lm.config import LanguageModelConfig
from semid.provenance import hash_arrays

logger = logging.getLogger(__name__)

USER = -1
FIRST_ITEM = -2
"""The slot of item 0; that of item ``i`` is ``FIRST_ITEM - i``."""

_SLOTS = {"{user}": USER, "{vector}": FIRST_ITEM}


class Prompts(nn.Module):
    """Fills histories into a template, as tokens.

    Every piece is tokenised on its own: the text around the history, the text around an item, and
    the item as spelled in the trie. An item thus has one spelling wherever it occurs, whatever a
    tokenizer would merge it with. A history that does not fit loses its oldest items, never the
    latest.

    A slot is a position filled by a vector, of the user or of a history item, instead of a token.
    It is encoded as a negative number, ``USER`` or ``FIRST_ITEM - item``.

    Args:
        tokenizer: The language model's tokenizer.
        config: Template and lengths.
        items: Tokens of each item, without end token.
        answer: Maximum number of tokens of an answer.
        context: Maximum number of tokens that the model can attend to.
        slots: Placeholders to treat as slots: ``{user}`` in the template, ``{vector}`` in an item.
            All others, and by default these too, are text.
        around: Text before and after the history; that of the template by default.

    Attributes:
        head: int64 ``(pos,)``, tokens before the history.
        tail: int64 ``(pos,)``, tokens after it.
        pieces: int64 ``(item, pos)``, tokens of each item, with the separator before it.
        lengths: int64 ``(item,)``, number of them.
        separator: Number of tokens of the separator.
        room: Most tokens of a history.
        max_history: Most items of a history.

    Raises:
        ValueError: If not even one history item would fit, or a chat template is requested and the
            tokenizer has none.
    """

    head: Tensor
    tail: Tensor
    pieces: Tensor
    lengths: Tensor

    def __init__(
        self,
        tokenizer: Any,
        config: LanguageModelConfig,
        items: Sequence[Sequence[int]],
        *,
        answer: int,
        context: int,
        slots: Sequence[str] = (),
        around: tuple[str, str] | None = None,
    ) -> None:
        super().__init__()

        marks = "|".join(map(re.escape, slots))

        def words(part: str) -> list[int]:
            found: list[int] = tokenizer(part, add_special_tokens=False)["input_ids"]
            return found

        def tokens(text: str) -> list[int]:
            parts = re.split(f"({marks})", text) if slots else [text]
            each = [[_SLOTS[part]] if part in slots else words(part) for part in parts]
            return [token for part in each for token in part]

        before, after = around or words_around(tokenizer, config)
        separator = tokens(config.separator)
        left, right = map(tokens, config.item.split("{item}"))
        pieces = [torch.tensor([*separator, *left, *item, *right]) for item in items]
        pieces = [piece - i * (piece == FIRST_ITEM) for i, piece in enumerate(pieces)]
        self.register_buffer("head", torch.tensor(tokens(before), dtype=torch.int64), False)
        self.register_buffer("tail", torch.tensor(tokens(after), dtype=torch.int64), False)
        self.register_buffer("pieces", pad_sequence(pieces, batch_first=True), False)
        self.register_buffer("lengths", torch.tensor([len(piece) for piece in pieces]), False)
        self.separator = len(separator)
        self.max_history = config.max_history
        most = context if config.max_length is None else min(config.max_length, context)
        self.room = most - len(self.head) - len(self.tail) - answer
        longest = int(self.lengths.max()) - self.separator
        if longest > self.room:
            raise ValueError(
                f"expected prompts of at most {most} tokens with at least the latest item, got "
                f"{len(self.head) + len(self.tail)} for the template, up to {longest} for an item "
                f"and up to {answer} for an answer. Raise max_length, up to the model's {context}, "
                "or shorten the template or the titles."
            )

    def content_hash(self) -> str:
        """Hash of everything that determines the tokens of a history."""
        parts = [self.head, self.tail, self.pieces, self.lengths]
        numbers = torch.tensor([self.separator, self.room, self.max_history])
        return hash_arrays(*(part.cpu().numpy() for part in (*parts, numbers)))

    def shortened(self, histories: Histories) -> Tensor:
        """Whether each history loses items because it does not fit; bool ``(batch,)``."""
        histories = histories.last(self.max_history)
        return (self._kept(histories) != histories.mask).any(dim=1)

    def forward(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """Tokens and mask of the prompts.

        Args:
            histories: On the device of this module.

        Returns:
            int64 and bool ``(batch, pos)``, padded on the left; slots are negative.
        """
        histories = histories.last(self.max_history)
        kept = self._kept(histories)
        place = torch.arange(self.pieces.shape[1], device=kept.device)
        first = kept & ~F.pad(kept, (1, 0))[:, :-1]
        real = kept.unsqueeze(-1) & (place < self.lengths[histories.items].unsqueeze(-1))
        real &= ~first.unsqueeze(-1) | (place >= self.separator)
        batch = len(kept)
        head, tail = (part.expand(batch, -1) for part in (self.head, self.tail))
        tokens = torch.cat([head, self.pieces[histories.items].flatten(1), tail], dim=1)
        ones = (torch.ones_like(part, dtype=torch.bool) for part in (head, tail))
        real = torch.cat([next(ones), real.flatten(1), next(ones)], dim=1)
        count = real.sum(dim=1, keepdim=True)
        width = int(count.max())
        mask = torch.arange(width, device=count.device) >= width - count
        return tokens.new_zeros(mask.shape).masked_scatter_(mask, tokens[real]), mask

    def _kept(self, histories: Histories) -> Tensor:
        """Mask of the latest items that fit; bool ``(batch, pos)``."""
        taken = self.lengths[histories.items] * histories.mask
        until = taken.flip(1).cumsum(dim=1).flip(1) - self.separator
        return histories.mask & (until <= self.room)


def positions(mask: Tensor) -> Tensor:
    """Position ids of left-padded rows, from 0; int64 ``(batch, pos)``."""
    return (mask.cumsum(dim=1) - 1).clamp_min_(0)


def words_around(tokenizer: Any, config: LanguageModelConfig) -> tuple[str, str]:
    """The text before and after the history, including special tokens.

    Raises:
        ValueError: If a chat template is requested and the tokenizer has none.
    """
    template = config.template
    if config.chat:
        if not tokenizer.chat_template:
            raise ValueError(
                f"expected a tokenizer with a chat template, got that of {config.model!r}, which "
                "has none. Leave chat out."
            )
        turns = [{"role": "user", "content": template}]
        template = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    elif (start := tokenizer.bos_token) and tokenizer("a")["input_ids"][
        0
    ] == tokenizer.bos_token_id:
        template = start + template
    before, after = template.split("{history}")
    return before, after
