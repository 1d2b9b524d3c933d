"""A trie for ``transformers.generate``: whatever it writes is an item."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from semid.trie import CodeTrie, ranges

_NO_KEY = 2**62  # beyond all that a node and a token make


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
        # Nodes are numbered breadth-first and siblings by token, so these keys rise, and one
        # search finds the child that a token leads to. Nothing leads to the root or to the last.
        keys = trie.parent_of_node.long() * trie.num_tokens + trie.token_of_node
        keys[0] = -_NO_KEY
        self._key_of_node = torch.cat([keys, keys.new_tensor([_NO_KEY])])
        self._is_leaf = trie.first_child.diff() == 0

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
        first = self.trie.first_child[nodes]
        last = torch.where(nodes < 0, first, self.trie.first_child[nodes + 1])
        row, child = ranges(first, last)
        ended = (first == last).nonzero().squeeze(1)
        row = torch.cat([row, ended])
        token = torch.cat([self.trie.token_of_node[child], torch.full_like(ended, self.end)])
        allowed = torch.full_like(scores, -torch.inf)
        allowed[row, token] = scores[row, token]
        return allowed

    def nodes(self, input_ids: Tensor) -> Tensor:
        """Node of the trie that each row has reached; int64 ``(row,)``, -1 outside the trie.

        Args:
            input_ids: int64 ``(row, pos)``. ``end`` after a whole path, and what follows it, is
                not read.
        """
        length = input_ids.shape[1]
        place = torch.arange(length, device=input_ids.device)
        begins = place.masked_fill(input_ids != self.start, -1).amax(dim=1)
        after = place > begins.unsqueeze(1)
        tokens = input_ids.masked_fill(input_ids >= self.trie.num_tokens, -_NO_KEY // 2)
        node = torch.where(begins >= 0, 0, -1)  # the last node is a leaf, so that -1 stays
        for pos in range(int(begins.clamp_min(0).min()) + 1, length):
            key = node * self.trie.num_tokens + tokens[:, pos]
            child = torch.searchsorted(self._key_of_node, key)
            child = torch.where(self._key_of_node[child] == key, child, -1)
            node = torch.where(after[:, pos] & ~self._is_leaf[node], child, node)
        depth = self.trie.depth_of(node)
        last = (begins + depth).clamp_min(0)  # the token that led there
        both = torch.stack([last, last + 1], dim=1).clamp_max(length - 1)
        ends = (input_ids.gather(1, both) == self.end).any(dim=1)
        goes_on = self._is_leaf[node] & (last < length - 1)
        return torch.where(goes_on & ~ends, -1, node)

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
        whole = (node >= 0) & self._is_leaf[node]
        return torch.where(whole, self.trie.item_order[self.trie.first_item[node]].long(), -1)
