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
"""Level of the test that users inside and outside the subset have equally long sequences."""


def unshuffled_subsets(splits: Splits) -> list[str]:
    """One warning for each of the validation and test split that takes unshuffled first users.

    That is a split whose users are the first, or the last, in the order of their IDs, where these
    have longer or shorter sequences than the others (Mann-Whitney test). Sequences are compared in
    training, or for a user without any there in the split that has one.
    """
    if not splits.knows_users:
        return []
    everyone = np.unique(
        np.concatenate([splits.train.users, splits.valid.users, splits.test.users])
    )
    lengths = np.zeros(everyone[-1] + 1)
    for part in (splits.test, splits.valid, splits.train):
        own = _longest(part, len(lengths))
        lengths = np.where(own > 0, own, lengths)
    lengths = lengths[everyone]
    parts = {"validation": splits.valid, "test": splits.test}
    found = (_warning(name, np.isin(everyone, part.users), lengths) for name, part in parts.items())
    return [warning for warning in found if warning is not None]


def _warning(split: str, chosen: NDArray[np.bool_], lengths: FloatArray) -> str | None:
    from scipy.stats import mannwhitneyu

    number = int(chosen.sum())
    if chosen[:number].all():
        which = "first"
    elif chosen[-number:].all():
        which = "last"
    else:
        return None
    if number > LARGEST * len(chosen):
        return None
    inside, outside = lengths[chosen], lengths[~chosen]
    if mannwhitneyu(inside, outside).pvalue >= LEVEL:
        return None
    return (
        f"the {split} targets belong to the {which} {number:,} of {len(chosen):,} users, who are "
        f"not shuffled: their sequences have {inside.mean():.1f} items on average, those of the "
        f"others {outside.mean():.1f}. The results hold for these users only; draw users at random."
    )


def _longest(data: SequenceSet, num_users: int) -> FloatArray:
    """Length of each user's longest sequence, 0 without one; float64 ``(user,)``."""
    found = np.zeros(num_users)
    np.maximum.at(found, data.users, data.lengths)
    return found
