"""Translate requests from item IDs to rows of a catalogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, get_args

import numpy as np
import polars as pl
import torch
from torch import Tensor

from baselines.data.batches import Histories
from baselines.data.histories import UserHistories
from baselines.models.config import Empty, Unknown
from semid.arrays import IntArray
from semid.catalog import Catalog

ItemId = str | int

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """What a list may hold; see ``Recommender.recommend``.

    Attributes:
        k: Length of the list.
        within: The only items that may be recommended.
        exclude_seen: Whether items of the history are excluded.
        boosts: Values added to the log-probability of items.
        unknown: How unknown items are handled.
        empty: How a history without known items is handled.
    """

    k: int = 10
    within: tuple[ItemId, ...] | None = None
    exclude_seen: bool = True
    boosts: Mapping[ItemId, float] | None = None
    unknown: Unknown = "skip"
    empty: Empty = "refuse"


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownHistories:
    """Histories as rows of a catalogue.

    Attributes:
        items: int64 ``(event,)``, rows of all histories concatenated, oldest first.
        offsets: int64 ``(history + 1,)``.
        unknown: Number of history items that are not in the catalogue, and were skipped.
        name: What a message calls the history with a given number.
    """

    items: IntArray
    offsets: IntArray
    unknown: int
    name: Callable[[int], str]

    @property
    def lengths(self) -> IntArray:
        """Number of known items of each history, int64 ``(history,)``."""
        return np.diff(self.offsets)

    def part(self, first: int, last: int) -> KnownHistories:
        """The histories from number ``first`` up to, not including, ``last``.

        ``unknown`` remains that of all histories.
        """
        begin, end = self.offsets[first], self.offsets[last]
        offsets = self.offsets[first : last + 1] - begin
        return dataclasses.replace(self, items=self.items[begin:end], offsets=offsets)

    def padded(self, rows: IntArray, *, longest: int | None = None) -> Tensor:
        """The last items of some histories, int64 ``(row, pos)``, left-padded with -1."""
        lengths = self.lengths[rows]
        width = max(1, int(lengths.max(initial=0)))
        width = width if longest is None else min(width, longest)
        place = self.offsets[rows + 1][:, None] - np.arange(width, 0, -1)
        real = place >= self.offsets[rows][:, None]
        return torch.from_numpy(np.where(real, self.items[np.where(real, place, 0)], -1))


def known_histories(
    catalog: Catalog, histories: Sequence[Sequence[ItemId]] | UserHistories, unknown: Unknown
) -> KnownHistories:
    """Look up the items of histories.

    Args:
        catalog: The items of the model.
        histories: Item IDs, oldest first: lists, or the histories of users.
        unknown: How items that are not in the catalogue are handled.

    Raises:
        ValueError: If ``unknown`` is not a policy, an unknown item is refused, or IDs have mixed
            types.
    """
    _require_policy("unknown", unknown, get_args(Unknown))
    items: Sequence[ItemId] | pl.Series
    name: Callable[[int], str]
    if isinstance(histories, UserHistories):
        users, items, lengths = histories.users, histories.items, np.diff(histories.offsets)
        rows, name = catalog.find(items), lambda number: f"the history of user {users[number]!r}"
    else:
        lists = [_listed(history, number) for number, history in enumerate(_listed(histories))]
        items = [item for history in lists for item in history]
        lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
        rows, name = rows_of(catalog, items), "history {}".format
    is_known = rows >= 0
    owner = np.repeat(np.arange(len(lengths)), lengths)
    if unknown == "refuse" and not is_known.all():
        place = int(np.flatnonzero(~is_known)[0])
        raise ValueError(
            f"expected items that the model knows, got {items[place]!r} in "
            f"{name(int(owner[place]))} ({int((~is_known).sum())} unknown in all). Leave them out, "
            "or skip them: unknown='skip', --unknown skip."
        )
    kept = np.bincount(owner[is_known], minlength=len(lengths))
    return KnownHistories(
        items=rows[is_known],
        offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(kept)]),
        unknown=int((~is_known).sum()),
        name=name,
    )


def require_histories(known: KnownHistories, empty: Empty) -> None:
    """Refuse histories without known items, unless they are answered by popularity.

    Raises:
        ValueError: If there is one, or ``empty`` is not a policy.
    """
    _require_policy("empty", empty, get_args(Empty))
    missing = np.flatnonzero(known.lengths == 0)
    if len(missing) and empty == "refuse":
        raise ValueError(
            "expected an item that the model knows in every history, got none in "
            f"{known.name(int(missing[0]))} ({len(missing)} such in all). Leave them out, or "
            "answer them with the most popular items: empty='popular', --empty popular."
        )


def batches(known: KnownHistories, size: int, longest: int) -> Iterator[tuple[IntArray, Histories]]:
    """Non-empty histories, in batches of similar length.

    Yields:
        Their numbers, int64 ``(batch,)``, and their last ``longest`` items.
    """
    order = np.argsort(known.lengths, kind="stable")
    order = order[known.lengths[order] > 0]
    for begin in range(0, len(order), size):
        rows = order[begin : begin + size]
        items = known.padded(rows, longest=longest)
        mask = items >= 0
        users = torch.zeros(len(rows), dtype=torch.int64)
        yield rows, Histories(items=items.clamp_min(0), mask=mask, users=users)


def allowed_rows(catalog: Catalog, within: Collection[ItemId]) -> IntArray:
    """Rows of the items that may be recommended, ascending and unique.

    Raises:
        ValueError: If the model knows none of them.
    """
    rows = rows_of(catalog, within)
    found = np.unique(rows[rows >= 0])
    if not len(found):
        raise ValueError(
            f"expected items that may be recommended, got a list of {len(rows)} of which the model "
            "knows none. Are they ids of the same catalogue?"
        )
    return found


def boosts_of(catalog: Catalog, boosts: Mapping[ItemId, float]) -> Tensor:
    """The value added to each item's log-probability, float32 ``(item,)``.

    Raises:
        ValueError: If an item is unknown, or a boost is not finite in float32.
    """
    if not isinstance(boosts, Mapping):
        raise ValueError(f"expected boosts as a mapping of item ids to numbers, got {boosts!r}")
    rows = rows_of(catalog, boosts)
    if (rows < 0).any():
        name = list(boosts)[int(np.flatnonzero(rows < 0)[0])]
        raise ValueError(f"expected boosts of items that the model knows, got one of {name!r}")
    for item, boost in boosts.items():
        if not isinstance(boost, Real) or not abs(boost) <= _LARGEST:
            raise ValueError(
                f"expected a number that is finite in float32 as boost of {item!r}, got {boost!r}. "
                "To leave an item out, name those that may come: within."
            )
    values = torch.zeros(len(catalog))
    values[torch.from_numpy(rows)] = torch.tensor(list(boosts.values()), dtype=torch.float32)
    return values


def rows_of(catalog: Catalog, items: Iterable[ItemId]) -> IntArray:
    """Rows of items, int64, -1 if unknown.

    Args:
        catalog: The items of the model.
        items: Their IDs: strings, or integers of Python or NumPy.

    Raises:
        ValueError: If IDs are neither all strings nor all integers.
    """
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise ValueError(f"expected a list of item ids, got {items!r}")
    ids = [item.item() if isinstance(item, np.generic) else item for item in items]
    kinds = {type(item) for item in ids}
    if not kinds <= {str} and not kinds <= {int}:
        kind = int if int in kinds else str
        strange = next(item for item in ids if type(item) is not kind)
        raise ValueError(
            f"expected item ids that are all text or all whole numbers, got {strange!r}"
        )
    return catalog.find(pl.Series("item ids", ids)) if ids else np.zeros(0, dtype=np.int64)


def _listed(values: Any, number: int | None = None) -> Sequence[Any]:
    """All histories, or the history with this number, as a sequence of Python values."""
    if isinstance(values, (np.ndarray, pl.Series)):
        listed: list[Any] = values.tolist() if isinstance(values, np.ndarray) else values.to_list()
        return listed
    if isinstance(values, (str, bytes)) or not isinstance(values, Sequence):
        place = "" if number is None else f" as history {number}"
        raise ValueError(
            f"expected histories as lists of item ids, got {values!r}{place}. Write a single one "
            "as [[...]]."
        )
    return values


def _require_policy(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
