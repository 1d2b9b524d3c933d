"""Trie constraints for ``transformers.generate``: every output is an item."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor

from semid.generate_settings import (
    refuse_other_ends,
    refuse_other_orders,
    settings_of_generate,
)
from semid.successors import refuse_broken
from semid.trie import CodeTrie, ranges

_NO_KEY = 2**62  # above any key of a node and a token
_PADDING_SCORE = -1e6  # generate pads its lists with scores of -1e9, divided by at most the length


class TrieLogitsProcessor(LogitsProcessor):
    """Restricts ``generate`` to tokens that continue a path of the trie.

    The path so far is read from the token ids after the last ``start`` of each row. No prompt
    length is needed and no state is kept between calls, so left padding, prompts of different
    lengths, beams and several returned sequences need no special handling. After a complete path
    only ``end`` may follow, with probability one. It fails closed: a row that has left the trie,
    has no ``start``, or whose continuations are all forbidden by the model can only generate
    ``end`` and does not become an item.

    Scores of other tokens become ``-inf``, as with ``prefix_allowed_tokens_fn``; the rest are not
    renormalised. With beams, items are thus ordered by the probability of their paths; given enough
    beams for all paths, the result is that of ``beam_search(..., renormalize="none")``, which is
    faster. Settings that would change this order are refused, whether arguments of ``generate`` or
    in the model's ``generation_config``: sampled beams, penalties, biases, forced and suppressed
    tokens and, if paths differ in length, a ``length_penalty`` other than 0.

    Args:
        trie: Paths in the model's token ids, with or without a final ``end``.
        start: Token after which a path begins: an encoder-decoder's decoder start token, or the
            last token of a decoder-only model's prompt.
        end: The end-of-sequence token. It may equal ``start`` if it is never generated: all paths
            have one length and ``max_new_tokens`` is that length.

    Raises:
        ValueError: If ``start`` occurs in a path, where it would be taken for a beginning, or
            ``end`` occurs before a path's last token.
    """

    def __init__(self, trie: CodeTrie, *, start: int, end: int) -> None:
        self.trie = trie
        self.start = start
        self.end = end
        # Nodes are numbered breadth-first and siblings by token, so these keys are sorted and one
        # search finds the child reached by a token. No token leads to the root or to the last.
        keys = trie.parent_of_node.long() * trie.num_tokens + trie.token_of_node
        keys[0] = -_NO_KEY
        self._key_of_node = torch.cat([keys, keys.new_tensor([_NO_KEY])])
        self._is_leaf = trie.first_child.diff() == 0
        self._tokens = set(torch.unique(trie.token_of_node[1:]).tolist())
        shortest = trie.depth_of(self._is_leaf.nonzero()[:1, 0])  # breadth-first
        self._same_length = bool(shortest == trie.depth)
        if start in self._tokens:
            raise ValueError(
                f"the start token {start} is also a token of the paths, so the beginning of a path "
                "cannot be found. Take a token that no item is written with."
            )
        if bool(((trie.token_of_node == end) & ~self._is_leaf).any()):
            raise ValueError(
                f"the end token {end} is also a token within a path, where generate would stop. "
                "Take a token that no item is written with, or that only ends paths."
            )

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Forbid tokens that do not continue a path.

        Args:
            input_ids: int64 ``(row, pos)``, the prompt and all tokens generated so far.
            scores: Float ``(row, token)``.

        Returns:
            ``scores`` with ``-inf`` for all forbidden tokens.

        Raises:
            ValueError: If the trie has tokens that the model lacks, a score is NaN or +inf, or the
                calling ``generate`` would order items differently or stop before an item is
                complete.
        """
        if self.trie.num_tokens > scores.shape[-1]:
            raise ValueError(
                f"the trie has {self.trie.num_tokens} tokens, the model {scores.shape[-1]}. "
                "Is the trie made with the model's own vocabulary?"
            )
        if (settings := settings_of_generate()) is not None:
            self._refuse(settings, input_ids)
        nodes, closed = self._read(input_ids)
        first = self.trie.first_child[nodes]
        last = torch.where(nodes < 0, first, self.trie.first_child[nodes + 1])
        row, child = ranges(first, last)
        token = self.trie.token_of_node[child].long()
        follow = scores[row, token]
        refuse_broken((follow.isnan() | (follow == torch.inf)).any())
        allowed = torch.full_like(scores, -torch.inf)
        allowed[row, token] = follow
        stuck = torch.ones_like(nodes, dtype=torch.bool)
        stuck[row[follow > -torch.inf]] = False
        worst = torch.finfo(scores.dtype).min  # below all items, yet finite
        certain = torch.where(self._is_leaf[nodes], 0.0, worst)
        end = torch.where(closed | (nodes < 0), scores[:, self.end].clamp_min(worst), certain)
        allowed[stuck, self.end] = end[stuck].to(scores.dtype)
        return allowed

    def nodes(self, input_ids: Tensor) -> Tensor:
        """Node of the trie that each row has reached; int64 ``(row,)``, -1 outside the trie.

        Args:
            input_ids: int64 ``(row, pos)``. ``end`` after a complete path, and anything after it,
                is ignored.
        """
        return self._read(input_ids)[0]

    def items(self, sequences: Tensor, scores: Tensor | None = None) -> Tensor:
        """Catalogue rows that ``generate`` has generated.

        Args:
            sequences: int64 ``(row, pos)``, as ``generate`` returns them.
            scores: Float ``(row,)``, the ``sequences_scores`` of a search with more beams than
                valid paths. ``generate`` then fills its lists with repeats and unfinished paths; if
                it pads with ``end``, only their scores distinguish these from complete paths.

        Returns:
            int64 ``(row,)``, the first catalogue row of the path; -1 for an incomplete path.
        """
        is_start = sequences == self.start
        padding = is_start.flip(1).cumprod(dim=1).flip(1).bool()  # T5 pads with its start token
        ended = torch.nn.functional.pad(sequences == self.end, (1, -1))  # preceded by end
        ended = (ended & padding).any(dim=1, keepdim=True)
        node = self.nodes(sequences.masked_fill(padding & ended, self.end))
        whole = (node >= 0) & self._is_leaf[node]
        if scores is not None:
            whole &= scores > _PADDING_SCORE
        return torch.where(whole, self.trie.item_order[self.trie.first_item[node]].long(), -1)

    def _read(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """The node of each row, and whether its path is complete and followed by ``end``."""
        begins, length = self._begins(input_ids), input_ids.shape[1]
        place = torch.arange(length, device=input_ids.device)
        after = place > begins.unsqueeze(1)
        tokens = input_ids.masked_fill(input_ids >= self.trie.num_tokens, -_NO_KEY // 2)
        node = torch.where(begins >= 0, 0, -1)  # index -1 is a leaf, so -1 is kept
        for pos in range(int(begins.clamp_min(0).min()) + 1, length):
            key = node * self.trie.num_tokens + tokens[:, pos]
            child = torch.searchsorted(self._key_of_node, key)
            child = torch.where(self._key_of_node[child] == key, child, -1)
            node = torch.where(after[:, pos] & ~self._is_leaf[node], child, node)
        depth = self.trie.depth_of(node)
        last = (begins + depth).clamp_min(0)  # the token that led to the node
        both = torch.stack([last, last + 1], dim=1).clamp_max(length - 1)
        ends = (input_ids.gather(1, both) == self.end).any(dim=1)
        goes_on = self._is_leaf[node] & (last < length - 1)
        node = torch.where(goes_on & ~ends, -1, node)
        return node, self._is_leaf[node] & ends

    def _begins(self, input_ids: Tensor) -> Tensor:
        """Position of the last start token of each row, -1 if there is none."""
        if input_ids.shape[1] == 0:
            raise ValueError(
                f"expected token ids with the start token {self.start}, got none. Give generate "
                "input_ids as well as inputs_embeds."
            )
        place = torch.arange(input_ids.shape[1], device=input_ids.device)
        return place.masked_fill(input_ids != self.start, -1).amax(dim=1)

    def _refuse(self, settings: GenerationConfig, input_ids: Tensor) -> None:
        """Raise if the running ``generate`` has settings that would make its result misleading."""
        refuse_other_orders(settings, same_length=self._same_length)
        begins = self._begins(input_ids)
        begins = begins[begins >= 0]
        if len(begins) == 0:
            return
        room = settings.max_length - 1 - int(begins.min())
        if room < self.trie.depth:
            raise ValueError(
                f"generate may write {room} tokens, but the longest path has {self.trie.depth}, so "
                f"some items could not be written. Give it max_new_tokens={self.trie.depth}."
            )
        needs_end = room > self.trie.depth or not self._same_length
        if needs_end and self.start == self.end:
            raise ValueError(
                f"token {self.start} is both start and end, so a written end would begin another "
                f"path. Take another start, or paths of one length and as many max_new_tokens."
            )
        refuse_other_ends(settings, self.end, within=self._tokens, needs_end=needs_end)
