"""Packing of texts of any length into blocks of equal length."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from baselines.lm.fluency import IGNORED_LABEL


class Blocks(Dataset[dict[str, Tensor]]):
    """Blocks of token ids for a causal language model, in which texts do not attend to each other.

    The positions of every text start at 0, by which ``transformers`` separates the texts of a block
    and confines attention to each (given no attention mask, and ``use_cache=False``). The rest of a
    block is padding without loss.

    A block is filled greedily with the longest text that still fits, so padding is rare.

    Args:
        texts: Token ids of each text, including its first and last token.
        length: Block length; longer texts are truncated to it.
        pad: The padding token.
    """

    def __init__(self, texts: Sequence[Sequence[int]], *, length: int, pad: int) -> None:
        self._length = length
        self._pad = pad
        self._blocks = _packed([text[:length] for text in texts], length)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, block: int) -> dict[str, Tensor]:
        """``input_ids``, ``position_ids`` and ``labels`` of a block; int64 ``(pos,)`` each."""
        texts = self._blocks[block]
        room = self._length - sum(map(len, texts))
        padding = [self._pad] * room
        places = [place for text in texts for place in range(len(text))]
        learned = [token for text in texts for token in (IGNORED_LABEL, *text[1:])]
        return {
            "input_ids": torch.tensor([token for text in [*texts, padding] for token in text]),
            "position_ids": torch.tensor([*places, *range(room)]),
            "labels": torch.tensor([*learned, *[IGNORED_LABEL] * room]),
        }


def _packed(texts: Sequence[Sequence[int]], length: int) -> list[list[Sequence[int]]]:
    of_length: dict[int, list[Sequence[int]]] = {}
    for text in texts:
        of_length.setdefault(len(text), []).append(text)
    lengths = sorted(of_length)
    blocks: list[list[Sequence[int]]] = []
    while lengths:
        room = length
        blocks.append([])
        while place := bisect_right(lengths, room):
            longest = lengths[place - 1]
            blocks[-1].append(of_length[longest].pop())
            room -= longest
            if not of_length[longest]:
                del lengths[place - 1]
    return blocks
