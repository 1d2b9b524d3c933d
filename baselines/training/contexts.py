"""Contexts drawn at random: training windows whose histories lose items or their beginning."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from baselines.data.batches import Histories, TrainBatch


def draw_contexts(batch: TrainBatch, *, drop: float, crop: float) -> TrainBatch:
    """Drop items of each window, and crop some windows to a suffix; drawn anew on every call.

    With both probabilities 0, nothing is drawn and the batch is returned as it is.

    An item dropped is no target either, and neither is one that is left without a history. The last
    target of a window, and the item before it, always stay. The target ids remain, so that a
    teacher's labels are those of the whole history.

    Args:
        batch: Windows with their targets.
        drop: Probability of dropping an item.
        crop: Probability of cropping a window, to a suffix of uniform length from two items to all.

    Returns:
        The same windows, of the same width, with what is left at their ends. Drawn from torch's
        global generator on the CPU.
    """
    if not (drop or crop):
        return batch
    mask = batch.windows.mask
    age = torch.arange(mask.shape[1] - 1, -1, -1)  # 0 at the last item
    lengths = mask.sum(dim=1)
    suffix = 2 + (torch.rand(len(mask)) * (lengths - 1)).long()
    lengths = torch.where(torch.rand(len(mask)) < crop, suffix, lengths)
    kept = (torch.rand(mask.shape) >= drop) | (age < 2)
    return _keep(batch, kept & mask & (age < lengths[:, None]))


def _keep(batch: TrainBatch, kept: Tensor) -> TrainBatch:
    """The batch with only some items, bool ``(batch, pos)``, moved to the ends of their windows."""
    order = kept.int().argsort(dim=1, stable=True)  # dropped ones first, and so padding
    place = order.argsort(dim=1)
    first = kept.shape[1] - kept.sum(dim=1, keepdim=True)
    stays = (kept & (place > first))[batch.target_row, batch.target_pos]
    row = batch.target_row[stays]
    return dataclasses.replace(
        batch,
        windows=Histories(
            items=batch.windows.items.gather(1, order),
            mask=kept.gather(1, order),
            users=batch.windows.users,
        ),
        target_row=row,
        target_pos=place[row, batch.target_pos[stays]],
        target_id=batch.target_id[stays],
    )
