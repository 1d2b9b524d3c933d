"""Computation of a teacher's token distributions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.scorer import (
    ItemScorer,
    checked_scores,
    require_dot_product,
    seen_items,
    without_seen,
)
from baselines.data.batches import Histories, histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.runtime.progress import track
from baselines.teachers.config import MassConfig
from baselines.teachers.rounded import RoundedScorer
from baselines.teachers.top_k_index import TopKIndex
from semid.arrays import IntArray
from semid.distributed import all_reduce, distributed_state
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.top_k import TopKTokenizer


class MassSource(Protocol):
    """Computes the token distributions of targets from histories.

    Attributes:
        trie: The trie over whose prefixes the distributions are.
        settings: Everything they depend on other than teacher and trie, as JSON values.
    """

    trie: CodeTrie
    settings: dict[str, Any]

    @property
    def max_history(self) -> int | None:
        """Maximum number of history items that they depend on; None for all."""
        ...

    def __call__(self, histories: Histories, target_items: Tensor) -> Tensor:
        """Distributions along the path of each target.

        Args:
            histories: The history of each target.
            target_items: int64 ``(batch,)``, catalogue rows.

        Returns:
            float32 ``(batch, pos, child)``, as from ``CollaborativeTokenizer``.
        """
        ...


def mass_source(
    scorer: ItemScorer, trie: CodeTrie, *, temperature: float = 1.0, config: MassConfig
) -> MassSource:
    """Build the source that a config describes.

    Raises:
        ValueError: If ``top_k`` is set for a teacher whose scores are not dot products, or is
            larger than the catalogue.
    """
    if config.top_k is None:
        tokenizer = CollaborativeTokenizer(trie, temperature=temperature)
        return ExactMass(scorer, tokenizer, mask_history=config.mask_history)
    return TopKMass(scorer, TopKTokenizer(trie, temperature=temperature), config)


class ExactMass:
    """Exact distributions over all items.

    Args:
        scorer: The frozen teacher.
        tokenizer: Aggregates item scores over the children of each prefix.
        mask_history: Whether seen items are excluded.
    """

    def __init__(
        self, scorer: ItemScorer, tokenizer: CollaborativeTokenizer, *, mask_history: bool = False
    ) -> None:
        self.scorer, self.tokenizer, self.mask_history = scorer, tokenizer, mask_history
        self.trie = tokenizer.trie
        self.settings: dict[str, Any] = {
            "temperature": tokenizer.temperature,
            "mask_history": mask_history,
        }
        if isinstance(scorer, RoundedScorer):
            self.settings["scores"] = "bfloat16"

    @property
    def max_history(self) -> int | None:
        """That of the teacher; None (all items) if seen items are excluded."""
        return None if self.mask_history else self.scorer.max_history

    def __call__(self, histories: Histories, target_items: Tensor) -> Tensor:
        """Score all items, and aggregate by next token.

        Raises:
            ValueError: If scores are NaN or +inf, all scores of a history are -inf, or all items
                below a branching prefix of the target's path are -inf.
        """
        scores = checked_scores(self.scorer, histories).to(self.trie.device)
        if self.mask_history:
            scores = without_seen(scores, histories, target_items)
        return self.tokenizer(scores, target_items.to(self.trie.device))


class TopKMass:
    """Approximate distributions from the top-k items, those near the target, and a tail.

    See ``TopKIndex``. Seen items that are excluded take their share of the tail with them.

    Args:
        scorer: The frozen teacher, whose scores are dot products.
        tokenizer: Aggregates the scores of listed items over the children of each prefix.
        config: Settings with ``top_k``.

    Raises:
        ValueError: As ``mass_source``.
    """

    def __init__(self, scorer: ItemScorer, tokenizer: TopKTokenizer, config: MassConfig) -> None:
        self.scorer, self._longest = require_dot_product(scorer), scorer.max_history
        self.tokenizer, self.config = tokenizer, config
        self.trie = tokenizer.trie
        self.best = TopKIndex(
            self.scorer.item_vectors(),
            config.top_k or 0,
            tail=config.tail,
            temperature=tokenizer.temperature,
        )
        self.settings: dict[str, Any] = {
            "temperature": tokenizer.temperature,
            "mask_history": config.mask_history,
            "top_k": config.top_k,
            "tail": config.tail,
        }

    @property
    def max_history(self) -> int | None:
        """That of the teacher; None (all items) if seen items are excluded."""
        return None if self.config.mask_history else self._longest

    def __call__(self, histories: Histories, target_items: Tensor) -> Tensor:
        """Find the items, and aggregate by next token."""
        users = self.scorer.user_vectors(histories)
        scores, items, tail = self.best.with_prefix_neighbours(users, self.trie, target_items)
        if self.config.mask_history:
            seen = seen_items(histories, target_items).to(items.device)
            found = (items[:, :, None] == seen[:, None, :]).any(dim=-1)
            others = self.best.num_items - (items >= 0).sum(dim=1)
            items = torch.cat([items.masked_fill(found, -1), seen], dim=1)
            scores = torch.cat([scores, scores.new_full(seen.shape, -torch.inf)], dim=1)
            unseen = self.best.num_items - (items >= 0).sum(dim=1)
            tail = torch.where(unseen > 0, tail + (unseen / others).log(), -torch.inf)
        device = self.trie.device
        return self.tokenizer(
            scores.to(device), items.to(device), target_items.to(device), tail.to(device)
        )


def mass_shape(source: MassSource, data: SequenceSet) -> tuple[int, int, int]:
    """Number of targets, positions and child slots."""
    return data.num_targets, source.trie.depth, source.trie.max_children


def mass_blocks(
    source: MassSource, data: SequenceSet, *, batch_size: int = 256
) -> Iterator[tuple[IntArray, Tensor]]:
    """The distributions of all targets, block by block; several processes share each block.

    Args:
        source: Computes the distributions.
        data: Sequences with targets.
        batch_size: Histories per process in a block.

    Yields:
        Target ids int64 ``(batch,)`` and float16 ``(batch, pos, child)`` on the CPU, the same on
        all processes. Each target occurs exactly once.
    """
    here = distributed_state()
    targets = torch.from_numpy(data.items[data.targets()[1]])
    _, *rest = mass_shape(source, data)
    longest = int(data.lengths.max(initial=1)) if source.max_history is None else source.max_history
    batches = histories_of_targets(data, longest, batch_size)
    with track("teacher mass", len(targets)) as progress:
        while shared := list(islice(batches, here.num_processes)):
            ids = np.concatenate([ids for ids, _ in shared])
            block = torch.zeros(len(ids), *rest, dtype=torch.float16)
            if here.process_index < len(shared):
                own, histories = shared[here.process_index]
                begin = sum(len(ids) for ids, _ in shared[: here.process_index])
                p = source(histories, targets[torch.from_numpy(own)])
                block[begin : begin + len(own)] = p.half().cpu()
            yield ids, all_reduce(block)
            progress.advance(len(ids))
