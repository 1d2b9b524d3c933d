"""Titles as paths: an item's path is the tokens of its title and an end token."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from semid.collisions import CollisionReport, collision_report

__all__ = ["TitlePaths", "TitleTokenizer", "title_paths"]

logger = logging.getLogger(__name__)


class TitleTokenizer(Protocol):
    """The part of the Hugging Face tokenizer interface that is used here."""

    @property
    def eos_token_id(self) -> int | None:
        """The end-of-text token; None if there is none."""

    def __call__(self, texts: list[str], *, add_special_tokens: bool) -> Mapping[str, Any]:
        """Tokens of each text, lists of ids under ``input_ids``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TitlePaths:
    """The token paths of a catalogue's titles, as `semid.CodeTrie.from_paths` takes them.

    Attributes:
        paths: int64 ``(item, longest)``; the tokens of a title and the end token, padded with -1.
        end_token: The token that ends every path.
        duplicates: How many items share a path because their titles have equal tokens. They share a
            leaf and its score.
    """

    paths: Tensor
    end_token: int
    duplicates: CollisionReport


def title_paths(
    titles: Sequence[str],
    tokenizer: TitleTokenizer,
    *,
    end_token: int | None = None,
    item_ids: Sequence[str | int] | None = None,
) -> TitlePaths:
    """Turn titles into paths of tokens.

    A title is tokenised alone and without special tokens: in a prompt, a tokenizer may merge its
    first letters with the preceding text, and such a path would not be in the trie. Do the same
    when training a model on titles. The end token gives a title that is a prefix of another a leaf
    of its own (TCA4Rec, arXiv:2601.18457, and its released code).

    Args:
        titles: One per item.
        tokenizer: Tokenizer of the model that generates the titles, such as one from
            ``transformers.AutoTokenizer``.
        end_token: Token that ends a path; by default the tokenizer's ``eos_token_id``.
        item_ids: Names of the items for error messages; None for their rows.

    Raises:
        ValueError: If there is no title or no end token, or a title has no token or contains the
            end token.
    """
    end_token = tokenizer.eos_token_id if end_token is None else end_token
    if end_token is None:
        raise ValueError(
            "expected an end token, got a tokenizer without eos_token_id. Pass end_token, an id "
            "that no title holds."
        )
    if not len(titles):
        raise ValueError("expected at least one title, got none. Pass one for each item.")
    names = range(len(titles)) if item_ids is None else item_ids
    distinct = list(dict.fromkeys(titles))
    tokens = tokenizer(distinct, add_special_tokens=False)["input_ids"]
    tokens_of = dict(zip(distinct, tokens, strict=True))
    _refuse(
        [name for name, title in zip(names, titles, strict=True) if not len(tokens_of[title])],
        "titles with at least one token",
        "Fill those titles, or leave the items out.",
    )
    _refuse(
        [name for name, title in zip(names, titles, strict=True) if end_token in tokens_of[title]],
        f"titles without the end token {end_token}",
        "Remove it from those titles, or pass another end_token.",
    )
    rows = [torch.tensor([*tokens_of[title], end_token]) for title in titles]
    paths = pad_sequence(rows, batch_first=True, padding_value=-1)
    duplicates = collision_report(paths)
    if duplicates.colliding_items:
        logger.info(
            "%d of %d items share the tokens of their title with another, %d at most one",
            duplicates.colliding_items,
            duplicates.items,
            duplicates.largest_group,
        )
    return TitlePaths(paths=paths, end_token=end_token, duplicates=duplicates)


def _refuse(items: Sequence[str | int], expected: str, what_to_do: str) -> None:
    if items:
        raise ValueError(
            f"expected {expected}, got {len(items)} items whose title is not one, first item "
            f"{items[0]!r}. {what_to_do}"
        )
