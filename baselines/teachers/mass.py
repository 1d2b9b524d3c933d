"""A teacher's token distributions for every training target, computed once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from baselines.data.batches import Histories, histories_of_targets
from baselines.data.sequences import IntArray, SequenceSet
from baselines.parallel import add_up, processes
from baselines.progress import track
from baselines.teachers.best_items import BestItems, Tail, require_dot_product
from baselines.teachers.rounded import RoundedScorer
from baselines.teachers.scorer import ItemScorer, checked_scores
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.top_k import TopKTokenizer


@dataclass(frozen=True, kw_only=True)
class MassConfig:
    """What a teacher's token distributions are made from.

    Attributes:
        mask_history: Leave out the items that the user has seen, but for the target itself.
        top_k: Take only so many best items of a teacher whose scores are dot products, those near
            the target, and a tail for the rest; None takes every item.
        tail: What the other items hold together: estimated from random items (``sampled``), or at
            most what they would hold if each scored as the lowest of the best (``uniform``).

    Raises:
        ValueError: If ``top_k`` is below 1.
    """

    mask_history: bool = False
    top_k: int | None = None
    tail: Tail = "sampled"

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {self.top_k}")

    def require_fit(self, num_items: int) -> None:
        """Refuse more best items than a catalogue has, before anything is trained for them."""
        if self.top_k is not None and self.top_k > num_items:
            raise ValueError(
                f"top_k must be at most the {num_items} items of the catalogue, got {self.top_k}. "
                "Lower it, or leave it out to score all items."
            )


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
    """The best items count, those near the target, and a tail (``BestItems.and_near``).

    Seen items that are left out take their share of the tail with them.

    Args:
        scorer: The frozen teacher, whose scores are dot products.
        tokenizer: Sums the scores of its best items over the children of each prefix.
        config: With ``top_k``.

    Raises:
        ValueError: As ``mass_source``.
    """

    def __init__(self, scorer: ItemScorer, tokenizer: TopKTokenizer, config: MassConfig) -> None:
        self.scorer = require_dot_product(scorer)
        self.tokenizer, self.config = tokenizer, config
        self.trie = tokenizer.trie
        self.best = BestItems(
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
        return None if self.config.mask_history else self.scorer.max_history

    def __call__(self, histories: Histories, target_items: Tensor) -> Tensor:
        """Find the items, and sum."""
        users = self.scorer.user_vectors(histories)
        scores, items, tail = self.best.and_near(users, self.trie, target_items)
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


def seen_items(histories: Histories, target_items: Tensor) -> Tensor:
    """The items of each history once, without the target.

    Returns:
        int64 ``(batch, pos)``, -1 where there is none.
    """
    past = histories.items.masked_fill(~histories.mask, -1)
    past = past.masked_fill(past == target_items.to(past.device)[:, None], -1).sort(dim=1).values
    past[:, 1:] = past[:, 1:].masked_fill(past[:, 1:] == past[:, :-1], -1)
    return past


def without_seen(
    scores: Tensor, histories: Histories, target_items: Tensor | None = None
) -> Tensor:
    """The same scores with ``-inf`` for seen items; a known target keeps its own.

    Args:
        scores: Float ``(batch, item)``.
        histories: The past of each row.
        target_items: int64 ``(batch,)``, where targets are known.
    """
    row, pos = histories.mask.nonzero().unbind(1)
    item, row = histories.items[row, pos].to(scores.device), row.to(scores.device)
    masked = scores.index_put((row, item), scores.new_tensor(-torch.inf))
    if target_items is None:
        return masked
    target = target_items.to(scores.device)
    return masked.scatter_(1, target[:, None], scores.gather(1, target[:, None]))


def teacher_mass(
    scorer: ItemScorer,
    tokenizer: CollaborativeTokenizer,
    data: SequenceSet,
    *,
    batch_size: int = 256,
) -> Tensor:
    """Token distributions along the path of each target, from the target's own past only.

    Args:
        scorer: The frozen teacher.
        tokenizer: Sums its scores over the children of each prefix. Backbones that spell the same
            codes with other tokens have the same children in the same order.
        data: Sequences with targets.
        batch_size: Histories scored at a time.

    Returns:
        float16 ``(target, pos, child)`` on the CPU, rows in the order of target ids.
    """
    source = ExactMass(scorer, tokenizer)
    mass = torch.empty(mass_shape(source, data), dtype=torch.float16)
    for ids, block in mass_blocks(source, data, batch_size=batch_size):
        mass[torch.from_numpy(ids)] = block
    return mass


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
    here = processes()
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
            yield ids, add_up(block)
            progress.advance(len(ids))
