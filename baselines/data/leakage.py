"""What training knows of the test targets: later events, the same users, the same items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from semid.arrays import IntArray

Times = NDArray[np.int64] | NDArray[np.float64]


def leakage(dataset: Dataset) -> dict[str, int]:
    """Counts that show what a split lets training know of its test targets.

    Some of it is the design of a protocol: leave-one-out trains on the users that it tests, and on
    events of others that come after a test target (Ji et al., arXiv:2010.11060).

    Returns:
        - ``test_targets``: the number of test targets.
        - ``test_targets_of_items_in_training``: those whose item occurs in training.
        - ``test_targets_of_users_in_training``: those whose user does; left out if windows do not
          know their users.
        - ``test_targets_in_own_training``: those whose item occurs in training sequences of the
          same user; likewise.
        - ``test_targets_before_the_last_training_event`` and
          ``training_events_after_the_first_test_target``: by time, of any user, equal times not
          counted; left out if times are unknown.
    """
    train, test = dataset.splits.train, dataset.splits.test
    sequence, event = test.targets()
    items, users = test.items[event], test.users[sequence]
    found = {
        "test_targets": len(items),
        "test_targets_of_items_in_training": _count(np.isin(items, train.items)),
    }
    if dataset.splits.knows_users:
        width = len(dataset.catalog)
        owners = np.repeat(train.users, train.lengths)
        own = np.isin(users * width + items, owners * width + train.items)
        found["test_targets_of_users_in_training"] = _count(np.isin(users, train.users))
        found["test_targets_in_own_training"] = _count(own)
    times_of_train, times_of_test = (event_times(part, dataset) for part in (train, test))
    if times_of_train is not None and times_of_test is not None:
        tested = times_of_test[event]
        found["test_targets_before_the_last_training_event"] = _count(tested < times_of_train.max())
        found["training_events_after_the_first_test_target"] = _count(times_of_train > tested.min())
    return found


def event_times(sequences: SequenceSet, dataset: Dataset) -> Times | None:
    """Times of the events of a part of the split, ``(event,)``.

    None if the data set has no times, or the sequences are not the first events of their users
    (without those of cold items), as those of a reader of your own may be.
    """
    interactions = dataset.interactions
    if interactions is None or interactions.times is None:
        return None
    for left_out in (np.empty(0, dtype=np.int64), dataset.cold_items):
        kept = ~np.isin(interactions.items, left_out)
        event = _first_events(interactions.users[kept], sequences)
        if event is not None and (interactions.items[kept][event] == sequences.items).all():
            times: Times = interactions.times[kept][event]
            return times
    return None


def _first_events(users: IntArray, sequences: SequenceSet) -> IntArray | None:
    """The first events of each sequence's user, as many as it has; None if a user has fewer."""
    first, stop = (np.searchsorted(users, sequences.users, side) for side in ("left", "right"))
    if (stop - first < sequences.lengths).any():
        return None
    shift = np.repeat(first - sequences.offsets[:-1], sequences.lengths)
    return np.arange(len(sequences.items)) + shift


def _count(which: NDArray[np.bool_]) -> int:
    return int(which.sum())
