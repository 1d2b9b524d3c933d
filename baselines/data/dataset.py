"""A data set: a catalogue, its interactions, and the split used by a run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from baselines.data.cold_start import cold_items, cold_start
from baselines.data.config import ColdStart, Split, TimeCuts, UserShares
from baselines.data.interactions import Interactions
from baselines.data.splits import Splits, global_time, leave_one_out, user_disjoint
from semid.arrays import IntArray
from semid.catalog import Catalog

WINDOWS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """The data of a run.

    Attributes:
        name: Name shown in reports.
        catalog: The items.
        splits: Training, validation and test sequences over the catalogue's rows.
        interactions: The events from which the splits were made; None if windows were given.
    """

    name: str
    catalog: Catalog
    splits: Splits
    interactions: Interactions | None

    @property
    def dropped(self) -> dict[str, int]:
        """Counts of everything that was left out, by reason."""
        read = {} if self.interactions is None else self.interactions.dropped
        return {**read, **self.splits.dropped}

    @property
    def noted(self) -> dict[str, int]:
        """Counts of unusual ids and texts that were kept, by kind; non-zero kinds only."""
        read = {} if self.interactions is None else self.interactions.noted
        return {**self.catalog.noted, **read}

    @property
    def cold_items(self) -> IntArray:
        """Ascending rows of the items that a cold-start split took out of training; else none."""
        cold = ColdStart.parse(self.splits.protocol)
        if self.interactions is None or cold is None:
            return np.empty(0, dtype=np.int64)
        return cold_items(self.interactions, cold)

    @property
    def statistics(self) -> dict[str, int]:
        """Sizes by which versions of a data set can be distinguished.

        ``users`` counts users with interactions, or users with a training window.
        ``test_targets_unseen_in_train`` counts test targets whose item is in no training sequence.
        If non-zero, ``repeated_interactions`` counts events that equal an earlier one of their
        user, and ``repeated_test_targets`` counts test targets whose item is in their own history,
        which no recommender that excludes seen items can hit; and ``cold_test_targets`` counts test
        targets whose item a cold-start split took out of training.
        """
        train, test = self.splits.train, self.splits.test
        test_items = test.items[test.targets()[1]]
        if self.interactions is None:
            sizes = {"users": len(np.unique(train.users)), "items": len(self.catalog)}
        else:
            sizes = {
                "users": len(self.interactions.user_ids),
                "items": len(self.catalog),
                "interactions": len(self.interactions),
            }
        unusual = {
            "repeated_interactions": self.interactions.repeated if self.interactions else 0,
            "repeated_test_targets": int(test.repeated_targets().sum()),
            "cold_test_targets": int(np.isin(test_items, self.cold_items).sum()),
        }
        return {
            **sizes,
            "train_targets": train.num_targets,
            "valid_targets": self.splits.valid.num_targets,
            "test_targets": test.num_targets,
            "test_targets_unseen_in_train": int((~np.isin(test_items, train.items)).sum()),
            **{kind: count for kind, count in unusual.items() if count},
        }


def split_interactions(interactions: Interactions, split: Split) -> Splits:
    """Split interactions by the named protocol, with the settings in its name.

    Raises:
        ValueError: If the protocol needs windows, or the interactions do not fit it.
    """
    if split in ("auto", "leave_one_out"):
        return leave_one_out(interactions)
    if (cold := ColdStart.parse(split)) is not None:
        return cold_start(interactions, cold)
    if (cuts := TimeCuts.parse(split)) is not None:
        return global_time(interactions, cuts)
    if (shares := UserShares.parse(split)) is not None:
        return user_disjoint(interactions, shares)
    raise ValueError(
        f"interactions can be split by cold:SHARE, users:SHARES, leave_one_out or global_time, "
        f"got {split!r}; windows come from files"
    )


def __getattr__(name: str) -> Any:
    """Re-export ``load_dataset`` and ``load_catalog`` of ``baselines.data.loading`` lazily."""
    if name not in ("load_dataset", "load_catalog"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module("baselines.data.loading"), name)
