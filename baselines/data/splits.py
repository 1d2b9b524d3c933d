"""Splits into training, validation and test targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from baselines.data.config import TimeCuts, UserShares
from baselines.data.dates import count_of, date_of, units_per_second
from baselines.data.interactions import Interactions
from baselines.data.sequences import SequenceSet
from baselines.data.windows import read_windows
from semid.arrays import IntArray
from semid.catalog import Catalog
from semid.columns import as_ids, as_times
from semid.lists import as_id_lists


@dataclass(frozen=True, kw_only=True, eq=False)
class Splits:
    """Training, validation and test sequences of one protocol.

    Attributes:
        train: Training sequences; some may be too short to have a target.
        valid: Validation targets, for model selection.
        test: Test targets, which are reported.
        protocol: Name of the protocol with its settings, as shown in reports.
        dropped: Number of users, events or windows left out by the protocol, by reason.
        knows_users: Whether sequences of the same user can be told; False for windows without user
            ids, each of which counts as a user.
    """

    train: SequenceSet
    valid: SequenceSet
    test: SequenceSet
    protocol: str
    dropped: dict[str, int]
    knows_users: bool = True

    def __post_init__(self) -> None:
        for name in ("train", "valid", "test"):
            if getattr(self, name).num_targets == 0:
                raise ValueError(
                    f"the {self.protocol} split leaves no {name} target; "
                    f"it needs users with longer histories, or another split"
                )

    @property
    def train_hash(self) -> str:
        """Hash of the training interactions, recorded as ``seen`` by artefacts trained on them."""
        return self.train.content_hash()


def leave_one_out(interactions: Interactions, *, min_length: int = 3) -> Splits:
    """Each user's last item is the test target, the one before it the validation target.

    The items before these two are for training, where every position from the second on is a
    target. The test history includes the validation item (SASRec, arXiv:1808.09781, section IV-A).
    Users with fewer than ``min_length`` items are used for training only, with all their items;
    users with a single item are dropped.

    Raises:
        ValueError: If ``min_length < 3``, or no user has that many items.
    """
    if min_length < 3:
        raise ValueError(
            f"min_length must be at least 3 (one item each to train, valid and test), "
            f"got {min_length}"
        )
    lengths = np.diff(interactions.offsets)
    held_out = np.flatnonzero(lengths >= min_length)
    trained = np.flatnonzero(lengths >= 2)
    train_length = np.where(lengths >= min_length, lengths - 2, lengths)
    return Splits(
        train=_prefixes(interactions, trained, train_length, np.ones_like(lengths)),
        valid=_prefixes(interactions, held_out, lengths - 1, lengths - 2),
        test=_prefixes(interactions, held_out, lengths, lengths - 1),
        protocol="leave_one_out",
        dropped={
            "users_too_short_for_evaluation": len(lengths) - len(held_out),
            "users_too_short_for_training": len(lengths) - len(trained),
        },
    )


def global_time(
    interactions: Interactions, cuts: TimeCuts | None = None, *, min_history: int = 1
) -> Splits:
    """Cut all events, ordered by time, into training, validation and test slices.

    Training sequences end at the first cut. A validation or test target is an event of its slice;
    its history is everything the user did before it, including earlier events of the slice. In all
    three, an event is a target only if at least ``min_history`` events of its user precede it.
    Cut by shares, events at exactly the time of a cut are split by user number (in TCA4Rec's
    released data, too, slices share the days at their borders); cut by dates, an event at a date
    belongs to the slice that begins there.

    Args:
        interactions: Events with times. To be cut by dates, these count from 1970 in seconds,
            milliseconds, microseconds or nanoseconds, which their size tells apart.
        cuts: Where the slices end; None for 8:1:1.
        min_history: At least 1.

    Raises:
        ValueError: If the interactions have no times, ``min_history`` is out of range, a date does
            not lie within the times, or a slice has no targets.
    """
    if interactions.times is None:
        raise ValueError(
            "the global_time split needs a timestamp for each interaction, got positions, which "
            "only order the events of a user; use leave_one_out"
        )
    if min_history < 1:
        raise ValueError(f"min_history must be at least 1, got {min_history}")
    cuts = TimeCuts() if cuts is None else cuts
    num_events, num_users = len(interactions), len(interactions.user_ids)
    rank = np.empty(num_events, dtype=np.int64)
    rank[np.argsort(interactions.times, kind="stable")] = np.arange(num_events)
    first_valid, first_test = _first_events(interactions.times, cuts)

    def events_before(cut: int) -> IntArray:
        return np.bincount(interactions.users[rank < cut], minlength=num_users).astype(np.int64)

    trained, validated = (events_before(cut) for cut in (first_valid, first_test))
    lengths = np.diff(interactions.offsets)
    dropped = {
        f"{name}_targets_with_too_short_history": int(
            np.minimum(np.maximum(min_history - start, 0), stop - start).sum()
        )
        for name, start, stop in (("valid", trained, validated), ("test", validated, lengths))
    }

    def slice_of(start: IntArray, stop: IntArray) -> SequenceSet:
        first_target = np.maximum(start, min_history)
        return _prefixes(interactions, np.flatnonzero(stop > first_target), stop, first_target)

    return Splits(
        train=_prefixes(
            interactions, np.flatnonzero(trained), trained, np.full_like(trained, min_history)
        ),
        valid=slice_of(trained, validated),
        test=slice_of(validated, lengths),
        protocol=str(cuts) + (f", history of at least {min_history}" if min_history > 1 else ""),
        dropped=dropped,
    )


def _first_events(
    times: NDArray[np.int64] | NDArray[np.float64], cuts: TimeCuts
) -> tuple[int, int]:
    """How many events precede validation, and how many precede test."""
    if cuts.dates is None:
        train, valid, _ = cuts.ratios
        return round(len(times) * train), round(len(times) * (train + valid))
    first, last = times.min(), times.max()
    per_second = units_per_second(last)
    valid, test = (count_of(date, per_second) for date in cuts.dates)
    for date, count in zip(cuts.dates, (valid, test), strict=True):
        if not first < count <= last:
            raise ValueError(
                f"{date.isoformat()} does not lie within the times of the events, which run from "
                f"{date_of(first, per_second)} to {date_of(last, per_second)} if they count from "
                "1970; give dates between these, or shares such as global_time:0.8,0.1,0.1"
            )
    return int((times < valid).sum()), int((times < test).sum())


def user_disjoint(interactions: Interactions, shares: UserShares) -> Splits:
    """Divide the users among training, validation and test.

    All events of training users are for training, where every position from the second on is a
    target; a validation or test user's last item is the target, and his history is all before it
    (strong generalisation, as in Liang et al., arXiv:1802.05814, section 4.1, here with one target
    instead of a fifth of the events). Users with a single event are dropped, and the shares are
    those of the others.

    Raises:
        ValueError: If the shares leave a part without users.
    """
    lengths = np.diff(interactions.offsets)
    used = np.flatnonzero(lengths >= 2)
    shuffled = np.random.default_rng(shares.draw).permutation(used)
    train_share, valid_share, _ = shares.ratios
    cuts = [round(len(used) * share) for share in (train_share, train_share + valid_share)]
    train, valid, test = map(np.sort, np.split(shuffled, cuts))
    return Splits(
        train=_prefixes(interactions, train, lengths, np.ones_like(lengths)),
        valid=_prefixes(interactions, valid, lengths, lengths - 1),
        test=_prefixes(interactions, test, lengths, lengths - 1),
        protocol=str(shares),
        dropped={"users_too_short_for_training": len(lengths) - len(used)},
    )


def given_windows(
    train: str | Path,
    valid: str | Path | None,
    test: str | Path,
    catalog: Catalog,
    *,
    time_format: str | None = None,
) -> Splits:
    """Splits from given windows: each row is a history and its single target.

    Columns, by these or the names that `read_windows` knows: ``history`` (a list of item ids,
    oldest first, of any length; in CSV written as `semid.lists.as_id_lists` reads it, such as
    ``"1 2 3"`` or ``"[1, 2, 3]"``), ``item_id`` (the target) and, if all three files have it,
    ``user_id``; otherwise every row is a separate user. Items outside the catalogue are removed
    from histories; rows with such a target, or with an empty remaining history, are dropped. Both
    are counted.

    Without validation windows (MSL's release has none), the last tenth of the training windows is
    used, in order of ``timestamp``, or of the rows if there is no such column; ``time_format`` is
    the format of dates given as text there.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a column is missing or of the wrong type, or a file has no usable window.
    """
    paths = {"train": train, "valid": train if valid is None else valid, "test": test}
    tables = {name: read_windows(path) for name, path in paths.items()}
    protocol = "windows"
    if valid is None:
        try:
            cut = _without_last_tenth(tables["train"], time_format)
        except ValueError as error:
            raise ValueError(f"{train}: {error}") from None
        tables |= zip(("train", "valid"), cut, strict=True)
        protocol = "windows, validation the last tenth of train"
    knows_users = all("user_id" in table.columns for table in tables.values())
    users = _number_users(list(tables.values()), knows_users=knows_users)
    parts: dict[str, SequenceSet] = {}
    dropped: dict[str, int] = {}
    for (name, table), numbers in zip(tables.items(), users, strict=True):
        try:
            parts[name], counts = _windows(table, numbers, catalog)
        except ValueError as error:
            raise ValueError(f"{paths[name]}: {error}") from None
        dropped |= {f"{name}_{reason}": count for reason, count in counts.items()}
    return Splits(**parts, protocol=protocol, dropped=dropped, knows_users=knows_users)


def _without_last_tenth(
    table: pl.DataFrame, time_format: str | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    if "timestamp" in table.columns:
        table = table.sort(as_times(table["timestamp"], time_format), maintain_order=True)
    first = table.height - math.ceil(table.height / 10)
    return table[:first], table[first:]


def _prefixes(
    interactions: Interactions, users: IntArray, lengths: IntArray, first_target: IntArray
) -> SequenceSet:
    """The first ``lengths[u]`` events of each given user; arguments are indexed by user number."""
    offsets = np.concatenate(([0], np.cumsum(lengths[users]))).astype(np.int64)
    shift = np.repeat(interactions.offsets[users] - offsets[:-1], lengths[users])
    return SequenceSet(
        items=interactions.items[np.arange(offsets[-1]) + shift],
        offsets=offsets,
        first_target=first_target[users],
        users=users,
    )


def _number_users(tables: Sequence[pl.DataFrame], *, knows_users: bool) -> list[IntArray]:
    """Dense user numbers over all tables: by sorted id, or one per row if there are no ids."""
    if knows_users:
        ids = [as_ids(table["user_id"]) for table in tables]
        if len({series.dtype for series in ids}) > 1:
            ids = [series.cast(pl.String) for series in ids]
        numbers = pl.concat(ids).rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
    else:
        numbers = np.arange(sum(table.height for table in tables))
    return np.split(numbers, np.cumsum([table.height for table in tables])[:-1])


def _windows(
    table: pl.DataFrame, users: IntArray, catalog: Catalog
) -> tuple[SequenceSet, dict[str, int]]:
    history = as_id_lists(table["history"], catalog.ids)
    items = as_ids(table["item_id"])
    window = np.repeat(np.arange(table.height), history.list.len().fill_null(0).to_numpy())
    events = as_ids(history.filter(history.list.len() > 0).explode())
    past, target = catalog.find(events), catalog.find(items)

    missing = (history.is_null() | items.is_null()).to_numpy() | (users < 0)
    unknown = ~missing & (target < 0)
    known_past = np.bincount(window[past >= 0], minlength=table.height)
    empty = ~missing & ~unknown & (known_past == 0)
    kept = ~(missing | unknown | empty)
    if not kept.any():
        raise ValueError(
            f"no window left of {table.height}: {missing.sum()} have a missing value, "
            f"{unknown.sum()} a target and {empty.sum()} a history outside the catalogue"
        )

    in_kept = (past >= 0) & kept[window]
    event_window = np.concatenate([window[in_kept], np.flatnonzero(kept)])
    rows = np.concatenate([past[in_kept], target[kept]])
    lengths = known_past[kept] + 1
    sequences = SequenceSet(
        items=rows[np.argsort(event_window, kind="stable")],
        offsets=np.concatenate(([0], np.cumsum(lengths))).astype(np.int64),
        first_target=(lengths - 1).astype(np.int64),
        users=users[kept],
    )
    counts = {
        "windows_with_missing_values": int(missing.sum()),
        "windows_with_unknown_target": int(unknown.sum()),
        "windows_without_history": int(empty.sum()),
        "unknown_history_items": int(((past < 0) & ~missing[window]).sum()),
    }
    if misses := catalog.near_misses(items.filter(unknown)) + catalog.near_misses(
        events.filter(past < 0)
    ):
        counts["near_equal_items"] = misses
    return sequences, counts
