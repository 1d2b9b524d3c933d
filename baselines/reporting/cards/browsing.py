"""What the prefix browser of the page knows: items with their titles and codes, as JSON."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from baselines.reporting.cards.shown import ShownIds

_MOST_ITEMS = 20_000
_SEED = 0

Data = dict[str, Any]


def browsing_data(shown: Sequence[ShownIds], most_bytes: int) -> Data:
    """The items of all IDs, or a sample of them that fits.

    Args:
        shown: The IDs.
        most_bytes: Size of the JSON.

    Returns:
        ``ranked``, whether items with more events come first; ``lists`` of items, each with
        ``ids``, ``titles`` (null if it is the id) and the number ``of`` items that these were
        sampled from; and ``sets``: ``name``, ``list`` (its number) and ``codes``, for each level
        the codes of the items of the list: little-endian unsigned numbers of so many ``bytes``,
        in base64.
    """
    lists: dict[tuple[str | int, ...], int] = {}
    for one in shown:
        lists.setdefault(tuple(one.ids.item_ids), len(lists))
    most = _MOST_ITEMS // len(lists)
    data = _data(shown, lists, most)
    while (size := len(as_json(data))) > most_bytes and most > 1:
        longest = max(len(found["ids"]) for found in data["lists"])
        most = max(min(longest - 1, int(0.95 * longest * most_bytes / size)), 1)
        data = _data(shown, lists, most)
    return data


def as_json(data: Data) -> str:
    """JSON that may stand within a ``script`` element: ASCII without ``<``."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _data(shown: Sequence[ShownIds], lists: Mapping[tuple[str | int, ...], int], most: int) -> Data:
    sets, found = [], {}
    for one in shown:
        number = lists[tuple(one.ids.item_ids)]
        generator = torch.Generator().manual_seed(_SEED)
        taken = torch.zeros(len(one.ids), dtype=torch.bool)
        taken[torch.randperm(len(one.ids), generator=generator)[:most]] = True
        rows = one.order[taken[one.order]]
        if number not in found:
            found[number] = _items(one, rows.tolist())
        name, codes = f"{one.letter}: {one.card['name']}", one.ids.codes[rows].numpy()
        sets.append({"name": name, "list": number, **_packed(codes)})
    return {
        "ranked": all(one.events is not None for one in shown),
        "lists": [found[number] for number in range(len(found))],
        "sets": sets,
    }


def _packed(codes: NDArray[np.int64]) -> Data:
    width = next(width for width in (1, 2, 4, 8) if codes.max() < 256**width)
    levels = [level.astype(f"<u{width}").tobytes() for level in codes.T]
    return {"bytes": width, "codes": [b64encode(level).decode() for level in levels]}


def _items(shown: ShownIds, rows: Sequence[int]) -> Data:
    ids = [shown.ids.item_ids[row] for row in rows]
    titles = [shown.title(row) for row in rows]
    return {
        "ids": ids,
        "titles": [
            None if title == str(item) else title for item, title in zip(ids, titles, strict=True)
        ],
        "of": len(shown.ids),
    }
