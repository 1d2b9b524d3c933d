"""The cold-start split: leave-one-out with some items taken out of training."""

from __future__ import annotations

import dataclasses

import numpy as np

from baselines.data.config import ColdStart
from baselines.data.interactions import Interactions
from baselines.data.sequences import SequenceSet
from baselines.data.splits import Splits, leave_one_out
from semid.arrays import IntArray


def cold_start(interactions: Interactions, cold: ColdStart) -> Splits:
    """Leave-one-out, with the items of ``cold_items`` taken out of all training sequences.

    They are removed as targets and as history items, so a later item follows the one before the
    removed one. Validation and test sequences are those of ``leave_one_out``: cold items are among
    their targets and in their histories. Training sequences without a remaining event are dropped.

    Raises:
        ValueError: If the share is too small to take out any item, or leaves nothing to train on.
    """
    whole = leave_one_out(interactions)
    items = cold_items(interactions, cold)
    if not len(items):
        raise ValueError(
            f"{cold} takes out none of the {len(np.unique(whole.train.items))} items of the "
            "training sequences. Choose a larger share."
        )
    train = _without(whole.train, items)
    return dataclasses.replace(
        whole,
        train=train,
        protocol=str(cold),
        dropped={
            **whole.dropped,
            "cold_items": len(items),
            "training_events_of_cold_items": len(whole.train.items) - len(train.items),
            "users_with_only_cold_items_in_training": len(whole.train) - len(train),
        },
    )


def cold_items(interactions: Interactions, cold: ColdStart) -> IntArray:
    """The items that the split takes out of training, stratified by frequency.

    The share is drawn at random within each stratum of items with 1, 2-3, 4-7, 8-15, ... events in
    the training sequences of ``leave_one_out``, and rounded to whole items there. Items that have
    no such event are cold anyway, and not among these.

    Returns:
        int64 ``(item,)``, ascending catalogue rows; the same for the same events and setting.
    """
    events = np.bincount(leave_one_out(interactions).train.items)
    stratum = np.ceil(np.log2(events + 1))
    rng = np.random.default_rng(cold.draw)
    chosen = []
    for number in range(1, int(stratum.max()) + 1):
        members = np.flatnonzero(stratum == number)
        chosen.append(rng.permutation(members)[: round(cold.share * len(members))])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _without(sequences: SequenceSet, items: IntArray) -> SequenceSet:
    """Training sequences without some items; each position from the second on is a target."""
    kept = ~np.isin(sequences.items, items)
    owner = np.repeat(np.arange(len(sequences)), sequences.lengths)[kept]
    lengths = np.bincount(owner, minlength=len(sequences))
    shorter = SequenceSet(
        items=sequences.items[kept],
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        first_target=sequences.first_target,
        users=sequences.users,
    )
    return shorter.select(lengths > 0)
