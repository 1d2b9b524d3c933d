"""A trie for ``transformers.generate``: whatever it writes is an item."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from semid.trie import CodeTrie


class TrieLogitsProcessor(LogitsProcessor):
    """Lets ``generate`` write only tokens that continue a path of the trie.

    What has been written so far is read from the token ids, after the last ``start`` of each row:
    no prompt length is counted and nothing is remembered between calls, so left padding, prompts of
    different lengths, beams and several returned sequences need no care. After a whole path only
    ``end`` may follow. It fails closed: a row that has left the trie, or that holds no ``start``,
    may write nothing but ``end`` and so does not become an item.

    Scores of other tokens become ``-inf``, as with ``prefix_allowed_tokens_fn``; the rest are not
    renormalised: ``beam_search(..., renormalize="none")`` gives the same order, and is faster.

    Args:
        trie: Paths in the model's own token ids; they may end in ``end`` or not.
        start: Token after which a path begins: an encoder-decoder's decoder start token, or the
            last token of a decoder-only model's prompt.
        end: The end-of-sequence token.

    Raises:
        ValueError: If ``start`` stands within a path, where it could not be told from a beginning.
    """

    def __init__(self, trie: CodeTrie, *, start: int, end: int) -> None:
        if (trie.token_of_node[1:] == start).any():
            raise ValueError(
                f"the start token {start} is also a token of the paths, so the beginning of a path "
                "cannot be found. Take a token that no item is written with."
            )
        self.trie = trie
        self.start = start
        self.end = end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Forbid what does not continue a path.

        Args:
            input_ids: int64 ``(row, pos)``, everything read and written so far.
            scores: Float ``(row, token)``.

        Returns:
            ``scores`` with ``-inf`` for all tokens that may not follow.

        Raises:
            ValueError: If the trie has tokens that the model does not.
        """
        if self.trie.num_tokens > scores.shape[-1]:
            raise ValueError(
                f"the trie has {self.trie.num_tokens} tokens, the model {scores.shape[-1]}. "
                "Is the trie made with the model's own vocabulary?"
            )
        nodes = self.nodes(input_ids)
        child, valid = self.trie.children(nodes.clamp_min(0))
        valid &= (nodes >= 0).unsqueeze(1)
        allowed = torch.zeros_like(scores, dtype=torch.bool)
        row = valid.nonzero()[:, 0]
        allowed[row, self.trie.token_of_node[child[valid]].long()] = True
        allowed[:, self.end] |= ~valid.any(dim=1)
        return scores.masked_fill(~allowed, -torch.inf)

    def nodes(self, input_ids: Tensor) -> Tensor:
        """Node of the trie that each row has reached; int64 ``(row,)``, -1 outside the trie.

        Args:
            input_ids: int64 ``(row, pos)``. ``end`` after a whole path, and what follows it, is
                not read.
        """
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        begins = place.masked_fill(input_ids != self.start, -1).amax(dim=1)
        node = torch.where(begins >= 0, 0, -1)
        finished = node < 0
        for pos in range(int(begins.clamp_min(0).min()) + 1, input_ids.shape[1]):
            token = input_ids[:, pos]
            ends = (token == self.end) | (input_ids[:, pos - 1] == self.end)
            finished = finished | (ends & (self.trie.num_children(node.clamp_min(0)) == 0))
            reads = (pos > begins) & ~finished
            node = torch.where(reads, self.trie.step(node, token), node)
        return node

    def items(self, sequences: Tensor) -> Tensor:
        """Catalogue rows that ``generate`` has written.

        Args:
            sequences: int64 ``(row, pos)``, as ``generate`` returns them.

        Returns:
            int64 ``(row,)``, the first catalogue row of the path; -1 where none is complete.
        """
        is_start = sequences == self.start
        padding = is_start.flip(1).cumprod(dim=1).flip(1).bool()  # T5 pads with its start token
        node = self.nodes(sequences.masked_fill(padding, self.end))
        whole = (node >= 0) & (self.trie.num_children(node.clamp_min(0)) == 0)
        return torch.where(whole, self.trie.item_order[self.trie.first_item[node]].long(), -1)
