"""What is known of a data set, as sections of figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.data.dataset import Dataset
from baselines.data.dates import YEAR_1990, YEAR_5138, date_of, units_per_second
from baselines.data.describing.published import published_like
from baselines.data.describing.texts import text_figures
from baselines.data.interactions import Interactions
from baselines.data.leakage import leakage
from baselines.data.sequences import SequenceSet
from semid.arrays import IntArray

QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
TOP_SHARES = (0.01, 0.2)

Section = dict[str, Any]
"""Figures by name; or rows by name, each of which has figures by name."""


def describe(dataset: Dataset) -> dict[str, Section]:
    """Describe a data set under its split.

    Shares lie in [0, 1]. All sections are JSON values; those that the data cannot have are left
    out: ``histories``, ``repeats`` and ``times`` of windows, ``texts`` of a catalogue without any.

    Returns:
        Sections by name:

        - ``sizes``: users, items, interactions, density; see ``size_figures``.
        - ``histories``: events per user, with quantiles.
        - ``popularity``: events per item (of windows: training targets), with quantiles, the Gini
          coefficient over the whole catalogue and the share of events of the most popular items.
        - ``repeats`` and ``times``: see ``repeat_figures`` and ``time_figures``.
        - ``splits``: a row for each part, see ``split_figures``.
        - ``leakage``: see `baselines.data.leakage.leakage`.
        - ``texts``: a row for each column of the catalogue, see ``text_figures``.
        - ``left_out`` and ``noted``: as counted while reading.
        - ``published``: a row for each published data set that this one may be.
    """
    interactions = dataset.interactions
    sections: dict[str, Section] = {"sizes": size_figures(dataset)}
    if interactions is not None:
        sections["histories"] = _spread(np.diff(interactions.offsets))
    sections["popularity"] = popularity_figures(events_of_items(dataset))
    if interactions is not None:
        sections["repeats"] = repeat_figures(interactions)
        sections["times"] = time_figures(interactions)
    sections |= {
        "splits": split_figures(dataset),
        "leakage": leakage(dataset),
        "texts": text_figures(dataset.catalog.fields),
        "left_out": {reason: count for reason, count in dataset.dropped.items() if count},
        "noted": dataset.noted,
        "published": _published(dataset, sections["sizes"]),
    }
    return {name: section for name, section in sections.items() if section}


def size_figures(dataset: Dataset) -> Section:
    """Users, items, items with interactions, interactions, and density: events / (users x items).

    Of windows: users with training windows, items, and items in any window.
    """
    interactions = dataset.interactions
    if interactions is None:
        parts = (dataset.splits.train, dataset.splits.valid, dataset.splits.test)
        return {
            "users_in_training": _distinct(dataset.splits.train.users),
            "items": len(dataset.catalog),
            "items_in_windows": _distinct(np.concatenate([part.items for part in parts])),
        }
    users, items, events = len(interactions.user_ids), len(dataset.catalog), len(interactions)
    return {
        "users": users,
        "items": items,
        "items_with_interactions": int((events_of_items(dataset) > 0).sum()),
        "interactions": events,
        "density": events / (users * items),
    }


def popularity_figures(events: IntArray) -> Section:
    """The long tail.

    Args:
        events: int64 ``(item,)``, events of each item of the catalogue; not all zero.

    Returns:
        Mean, quantiles and range of the items that have events; over all items, the Gini
        coefficient (0 if all have as many, towards 1 if one has all) and the share of events that
        the most popular 1 % and 20 % of the items have, rounded up to whole items.
    """
    ascending, count = np.sort(events), len(events)
    weighted = (np.arange(1, count + 1) * ascending).sum(dtype=np.float64)
    found = _spread(events[events > 0])
    found["gini"] = float(2 * weighted / (count * ascending.sum()) - (count + 1) / count)
    for share in TOP_SHARES:
        top = ascending[count - int(np.ceil(share * count)) :]
        found[f"share_of_top_{share:.0%}"] = float(top.sum() / ascending.sum())
    return found


def repeat_figures(interactions: Interactions) -> Section:
    """Events whose item an earlier event of their user has.

    ``in_a_history`` counts all of them, ``in_a_row`` those whose item is that of the event directly
    before, and ``exact`` those that equal an earlier event in time as well.
    """
    users, items = interactions.users, interactions.items
    pairs = np.sort(users * (int(items.max()) + 1) + items)
    again = int((np.diff(pairs) == 0).sum())
    in_a_row = int(((np.diff(users) == 0) & (np.diff(items) == 0)).sum())
    return {
        "in_a_history": again,
        "share_in_a_history": again / len(interactions),
        "in_a_row": in_a_row,
        "exact": interactions.repeated,
    }


def time_figures(interactions: Interactions) -> Section:
    """First and last time, as dates if they seem to count from 1970, and pairs at the same time.

    A pair is two adjacent events of one user; the order of a pair at the same time is arbitrary.
    Empty if the source gives only an order.
    """
    times = interactions.times
    if times is None:
        return {}
    first, last, dated = times.min(), times.max(), are_dated(times)
    per_second = units_per_second(last)
    pairs = np.diff(interactions.users) == 0
    same = int((pairs & (np.diff(times) == 0)).sum())
    return {
        "first": date_of(first, per_second) if dated else first.item(),
        "last": date_of(last, per_second) if dated else last.item(),
        "pairs_at_the_same_time": same,
        "share_of_pairs_at_the_same_time": same / max(int(pairs.sum()), 1),
    }


def are_dated(times: NDArray[Any]) -> bool:
    """Whether times seem to count from 1970, in any unit."""
    first, last = times.min(), times.max()
    per_second = units_per_second(last)
    return bool(first >= 0 and YEAR_1990 * per_second <= last < YEAR_5138 * per_second)


def split_figures(dataset: Dataset) -> Section:
    """A row for each part of the split.

    ``sequences`` and their ``users``; ``shortest_history`` and ``longest_history`` of a target;
    ``targets``, and how many items these are; ``items_seen`` as target or in a history;
    ``repeated_targets``, whose item is in their own history; and the targets, and their items, that
    no training sequence has.
    """
    splits = dataset.splits
    trained = np.zeros(len(dataset.catalog), dtype=np.bool_)
    trained[splits.train.items] = True
    rows = {}
    for name, part in (("train", splits.train), ("valid", splits.valid), ("test", splits.test)):
        items = part.items[part.targets()[1]]
        shortest, longest = _history_lengths(part)
        unseen = items[~trained[items]]
        rows[name] = {
            "sequences": len(part),
            "users": _distinct(part.users),
            "shortest_history": shortest,
            "longest_history": longest,
            "targets": len(items),
            "target_items": _distinct(items),
            "items_seen": _distinct(part.items),
            "repeated_targets": int(part.repeated_targets().sum()),
            "targets_unseen_in_training": len(unseen),
            "items_unseen_in_training": _distinct(unseen),
        }
    return rows


def _history_lengths(part: SequenceSet) -> tuple[int, int]:
    """Lengths of the shortest and of the longest history of a target."""
    has_target = part.lengths > part.first_target
    return int(part.first_target[has_target].min()), int(part.lengths[has_target].max() - 1)


def events_of_items(dataset: Dataset) -> IntArray:
    """Events (of windows: training targets) of each item of the catalogue, int64 ``(item,)``."""
    if dataset.interactions is not None:
        items = dataset.interactions.items
    else:
        items = dataset.splits.train.items[dataset.splits.train.targets()[1]]
    return np.bincount(items, minlength=len(dataset.catalog)).astype(np.int64)


def _distinct(numbers: IntArray) -> int:
    """How many distinct rows or users; by counting, which is faster than sorting."""
    return int(np.count_nonzero(np.bincount(numbers)))


def _spread(counts: IntArray) -> Section:
    """Mean, range and quantiles (linear between observations) of some counts."""
    quantiles = np.quantile(counts, QUANTILES)
    return {
        "mean": float(counts.mean()),
        "least": int(counts.min()),
        **{f"quantile_{q:.0%}": float(x) for q, x in zip(QUANTILES, quantiles, strict=True)},
        "most": int(counts.max()),
    }


def _published(dataset: Dataset, sizes: Section) -> Section:
    if dataset.interactions is None:
        return {}
    own = (sizes["users"], sizes["items_with_interactions"], sizes["interactions"])
    return {
        known.name: {
            "users": known.users,
            "items_with_interactions": known.items,
            "interactions": known.interactions,
            "equal": known.sizes == own,
            "source": known.source,
        }
        for known in published_like(dataset.name, own)
    }
