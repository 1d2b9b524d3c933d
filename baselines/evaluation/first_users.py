"""Held-out targets of the first or last users only, which stand for all only if shuffled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.data.sequences import SequenceSet
from baselines.data.splits import Splits
from semid.arrays import FloatArray

LARGEST = 0.9
"""Share of the users above which a part of them is not called a subset."""

LEVEL = 0.01
"""Level of the tests together that users inside and outside the subset are alike."""


def unshuffled_subsets(splits: Splits) -> list[str]:
    """One warning for each of the validation and test split that takes unshuffled first users.

    That is a split whose users are the first, or the last, in the order of their IDs, where these
    differ from the others in the length of their sequences or in the training events of the items
    there (Mann-Whitney tests, Bonferroni-corrected). Training sequences are compared; a user
    without any is judged by those in the other splits.
    """
    if not splits.knows_users:
        return []
    parts = (splits.test, splits.valid, splits.train)
    everyone = np.unique(np.concatenate([part.users for part in parts]))
    counts = np.bincount(splits.train.items, minlength=1 + max(part.items.max() for part in parts))
    traits = np.full((2, everyone[-1] + 1), np.nan)
    for part in parts:
        own = _traits(part, counts[part.items], traits.shape[1])
        traits = np.where(np.isnan(own), traits, own)
    found = (
        _warning(name, np.isin(everyone, part.users), traits[:, everyone])
        for name, part in (("validation", splits.valid), ("test", splits.test))
    )
    return [warning for warning in found if warning is not None]


def _warning(split: str, chosen: NDArray[np.bool_], traits: FloatArray) -> str | None:
    from scipy.stats import mannwhitneyu

    number = int(chosen.sum())
    if number > LARGEST * len(chosen):
        return None
    if chosen[:number].all():
        which = "first"
    elif chosen[-number:].all():
        which = "last"
    else:
        return None
    inside, outside = traits[:, chosen], traits[:, ~chosen]
    if not (mannwhitneyu(inside, outside, axis=1).pvalue < LEVEL / len(traits)).any():
        return None
    (length, events), (other_length, other_events) = inside.mean(axis=1), outside.mean(axis=1)
    return (
        f"the {split} targets belong to the {which} {number:,} of {len(chosen):,} users, who are "
        f"not shuffled: their sequences have {length:.1f} items on average, each with {events:.1f} "
        f"training events; those of the others {other_length:.1f} and {other_events:.1f}. The "
        "results hold for these users only; draw users at random."
    )


def _traits(data: SequenceSet, events: NDArray[np.int64], num_users: int) -> FloatArray:
    """Mean length of each user's sequences, and mean of ``events`` over what they contain.

    float64 ``(2, user)``, NaN for a user without sequences.
    """
    owner = np.repeat(data.users, data.lengths)
    length = np.bincount(owner, minlength=num_users)
    total = np.bincount(owner, weights=events, minlength=num_users)
    sequences = np.bincount(data.users, minlength=num_users)
    with np.errstate(invalid="ignore"):
        return np.stack([length / sequences, total / length])
