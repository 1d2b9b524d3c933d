"""A teacher's token distributions for every training target, computed once."""

from __future__ import annotations

import dataclasses
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
    """Token distributions of targets, from histories.

    Attributes:
        trie: Whose prefixes they are of.
        settings: JSON values; all that they depend on beside the teacher and the trie.
    """

    trie: CodeTrie
    settings: dict[str, Any]

    @property
    def max_history(self) -> int | None:
        """Most items of a history that they depend on; None for all."""
        ...

    def __call__(self, histories: Histories, target_items: Tensor) -> Tensor:
        """Distributions along the path of each target.

        Args:
            histories: The past of each target.
            target_items: int64 ``(batch,)``, catalogue rows.

        Returns:
            float32 ``(batch, pos, child)``, as of ``CollaborativeTokenizer``.
        """
        ...


def mass_source(
    scorer: ItemScorer, trie: CodeTrie, *, temperature: float = 1.0, config: MassConfig
) -> MassSource:
    """The distributions that a config asks for.

    Raises:
        ValueError: If ``top_k`` is asked of a teacher whose scores are no dot products, or is
            larger than the catalogue.
    """
    if config.top_k is None:
        tokenizer = CollaborativeTokenizer(trie, temperature=temperature)
        return ExactMass(scorer, tokenizer, mask_history=config.mask_history)
    return TopKMass(scorer, TopKTokenizer(trie, temperature=temperature), config)


class ExactMass:
    """Every item counts.

    Args:
        scorer: The frozen teacher.
        tokenizer: Sums its scores over the children of each prefix.
        mask_history: Whether seen items are left out.
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
        """That of the teacher; all, where seen items are left out."""
        return None if self.mask_history else self.scorer.max_history

    def __call__(self, histories: Histories, target_items: Tensor) -> Tensor:
        """Score all items, and sum.

        Raises:
            ValueError: If scores are NaN or +inf, a history has none above -inf, or all items
                below a prefix of the target's path, with several tokens after it, are -inf.
        """
        scores = checked_scores(self.scorer, histories).to(self.trie.device)
        if self.mask_history:
            scores = without_seen(scores, histories, target_items)
        return self.tokenizer(scores, target_items.to(self.trie.device))


class TopKMass:
    """The best items count, those near the target, and a tail; see ``TopKIndex``.

    Seen items that are left out take their share of the tail with them.

    Args:
        scorer: The frozen teacher, whose scores are dot products.
        tokenizer: Sums the scores of its best items over the children of each prefix.
        config: With ``top_k``.

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
            **dataclasses.asdict(config),
        }

    @property
    def max_history(self) -> int | None:
        """That of the teacher; all, where seen items are left out."""
        return None if self.config.mask_history else self._longest

    def __call__(self, histories: Histories, target_items: Tensor) -> Tensor:
        """Find the items, and sum."""
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
    """Targets, positions and child slots."""
    return data.num_targets, source.trie.depth, source.trie.max_children


def mass_blocks(
    source: MassSource, data: SequenceSet, *, batch_size: int = 256
) -> Iterator[tuple[IntArray, Tensor]]:
    """The distributions of all targets, some at a time; several processes share each block.

    Args:
        source: What computes them.
        data: Sequences with targets.
        batch_size: Histories of one process in a block.

    Yields:
        Target ids int64 ``(batch,)`` and float16 ``(batch, pos, child)`` on the CPU, the same on
        all processes. Every target comes exactly once.
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
