"""Decoding in ``transformers.generate``: every output is an item."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from .catalogue import Catalogue, ItemId

_FILLED = -1e8  # generate fills up lists and beams with scores below


class TrieLogitsProcessor(LogitsProcessor):
    """Restricts ``generate`` to the paths of items.

    A path begins after the prompt. After its last token only ``Catalogue.end`` may follow, with
    probability one, until all paths have the length of the longest: a finished path competes with
    the others by its probability. So ``generate`` must not end at a token of its own; the
    ``generation_config`` of the export says so. No state is kept between calls.

    Args:
        catalogue: The items.
        prompt_length: Tokens before the path: of an encoder-decoder's decoder 1, else those of the
            prompts, padded on the left.
        device: Device of the model.
    """

    def __init__(
        self, catalogue: Catalogue, prompt_length: int, device: torch.device | str = "cpu"
    ) -> None:
        def tensor(values: Any) -> Tensor:
            return torch.as_tensor(values, device=device)

        self.catalogue = catalogue
        self.prompt_length = prompt_length
        self._first_child = tensor(catalogue.first_child)
        self._token = tensor(catalogue.token_of_node)
        # nodes are numbered breadth-first and siblings by token, so these keys are ascending
        parents = tensor(catalogue.parent_of_node)
        self._keys = parents * catalogue.num_tokens + self._token
        self._keys[0] = torch.iinfo(torch.int64).min  # no token leads to the root

    def nodes(self, sequences: Tensor) -> Tensor:
        """The node that each row has reached; int64 ``(row,)``, -1 outside the trie.

        Args:
            sequences: int64 ``(row, pos)``, prompts and what was generated.
        """
        node = sequences.new_zeros(len(sequences))
        for token in sequences[:, self.prompt_length :].unbind(1):
            key = node * self.catalogue.num_tokens + token
            child = torch.searchsorted(self._keys, key).clamp_max(len(self._keys) - 1)
            known = (self._keys[child] == key) & (token < self.catalogue.num_tokens) & (node >= 0)
            below = torch.where(known, child, -1)
            node = torch.where((node >= 0) & (self._num_children(node) == 0), node, below)
        return node

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Log-probabilities of the tokens that continue a path, ``-inf`` for all others.

        Args:
            input_ids: int64 ``(row, pos)``.
            scores: Float ``(row, token)``, log-probabilities or logits.

        Raises:
            ValueError: If a score is NaN.
        """
        node = self.nodes(input_ids)
        count = self._num_children(node).masked_fill(node < 0, 0)
        slot = torch.arange(int(count.max()), device=node.device)
        child = (self._first_child[node].unsqueeze(1) + slot).clamp_max(len(self._token) - 1)
        valid = slot < count.unsqueeze(1)
        token = self._token[child].clamp_min(0)
        follow = scores.gather(1, token).float().masked_fill(~valid, -torch.inf)
        if bool(follow.isnan().any()):
            raise ValueError("expected scores that are numbers, got NaN. Has the model diverged?")
        if self.catalogue.among_children:
            total = follow.logsumexp(dim=1, keepdim=True)
        else:
            known = scores[:, : self.catalogue.num_tokens].float()
            total = known.logsumexp(dim=1, keepdim=True)
        follow = follow - total.masked_fill(total == -torch.inf, 0.0)
        allowed = torch.full_like(scores, -torch.inf, dtype=torch.float32)
        row = torch.arange(len(node), device=node.device).unsqueeze(1).expand_as(child)
        allowed[row[valid], token[valid]] = follow[valid]
        allowed[(node >= 0) & (count == 0), self.catalogue.end] = 0.0
        return allowed

    def items(self, generated: Any, histories: int, k: int) -> list[list[tuple[ItemId, float]]]:
        """The best ``k`` items of each history, with their log-probabilities.

        Args:
            generated: What a search with beams returned, with ``return_dict_in_generate`` and
                ``output_scores``.
            histories: Number of prompts.
            k: Length of the lists.
        """
        scores = generated.sequences_scores
        nodes = self.nodes(generated.sequences).masked_fill(scores < _FILLED, -1)
        lists = zip(nodes.view(histories, -1), scores.view(histories, -1), strict=True)
        return [self.catalogue.items(nodes.tolist(), of.tolist(), k) for nodes, of in lists]

    def _num_children(self, node: Tensor) -> Tensor:
        return self._first_child[node + 1] - self._first_child[node]
