"""A teacher's distributions over whole items, for the training targets of an item head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.scorer import ItemScorer, checked_scores, without_seen
from baselines.data.batches import ItemLabels, TrainBatch, histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.runtime.progress import track
from baselines.teachers.config import MassConfig


class StoredItemLabels:
    """The best items of every training target; the rest of the mass is spread evenly.

    Exact up to float16 where all items outside the best have equal scores, as with counted
    teachers, whose other items have no evidence.

    Args:
        items: int32 ``(target, best)``, catalogue rows, rows in the order of target ids.
        p: float16 ``(target, best)``, their probabilities.
        num_items: Number of items of the catalogue.
    """

    def __init__(self, items: Tensor, p: Tensor, num_items: int) -> None:
        self._items, self._p, self._others = items, p, max(num_items - items.shape[1], 1)

    def __call__(self, batch: TrainBatch) -> ItemLabels:
        """The labels of a batch's targets, on its device."""
        number, device = batch.target_id.cpu(), batch.target_id.device
        p = self._p[number].to(device).float()
        rest = (1 - p.sum(dim=1)).clamp_min(0) / self._others
        return ItemLabels(items=self._items[number].to(device).long(), p=p, rest=rest)


def item_labels(
    scorer: ItemScorer,
    train: SequenceSet,
    *,
    temperature: float,
    config: MassConfig,
    batch_size: int = 256,
) -> StoredItemLabels:
    """Score all training targets once, and keep the best items of each.

    Args:
        scorer: Scores the histories of the targets.
        train: The training sequences.
        temperature: Divides the scores.
        config: Says how many best items are kept (``best_items``), and whether items of the
            history are excluded.
        batch_size: Histories scored at a time.
    """
    every = torch.from_numpy(train.items[train.targets()[1]])
    longest = int(train.lengths.max(initial=1))
    if not config.mask_history:
        longest = min(longest, scorer.max_history)
    items, p, num_items = torch.empty(0), torch.empty(0), 0
    with track("item labels", len(every)) as progress:
        for number, histories in histories_of_targets(train, longest, batch_size):
            scores = checked_scores(scorer, histories)
            if config.mask_history:
                scores = without_seen(scores, histories, every[torch.from_numpy(number)])
            if num_items == 0:
                num_items = scores.shape[1]
                shape = (len(every), min(config.best_items, num_items))
                items = torch.zeros(shape, dtype=torch.int32)
                p = torch.zeros(shape, dtype=torch.float16)
            best = (scores / temperature).softmax(dim=1).topk(shape[1], dim=1)
            rows = torch.from_numpy(np.asarray(number))
            items[rows], p[rows] = best.indices.int().cpu(), best.values.half().cpu()
            progress.advance(len(rows))
    return StoredItemLabels(items, p, num_items)
