"""Describe in words what was dropped or repaired when a data set was read."""

from __future__ import annotations

import re

from baselines.data.dataset import Dataset

ALARMING = 0.05
"""Share of dropped events or windows above which the files are probably faulty."""


def share_left_out(dataset: Dataset) -> float:
    """Share of the files' events, or windows, that were left out; in ``[0, 1)``."""
    splits = dataset.splits
    if dataset.interactions is not None:
        kept = len(dataset.interactions)
    else:
        kept = sum(len(part) for part in (splits.train, splits.valid, splits.test))
    left_out = sum(
        count
        for reason, count in dataset.dropped.items()
        if re.search(r"^interactions_|_windows_", reason) and "near_equal" not in reason
    )
    return left_out / (left_out + kept)


def data_notes(dataset: Dataset) -> dict[str, str]:
    """What was left out, and what is unusual but kept, by heading; empty headings are omitted.

    For example ``106 interactions with unknown items, 1 user too short for evaluation``. Near-equal
    items are a subset of unknown ones.
    """
    repeated = {
        kind: count for kind, count in dataset.statistics.items() if kind.startswith("repeated_")
    }
    found = {
        "left out": _in_words(dataset.dropped),
        "noted": _in_words({**repeated, **dataset.noted}),
    }
    if (share := share_left_out(dataset)) >= ALARMING:
        what = "windows" if dataset.interactions is None else "events"
        found["left out"] += f"; WARNING: these are {share:.1%} of the {what}"
    return {heading: words for heading, words in found.items() if words}


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(_counted(kind, count) for kind, count in counts.items() if count)


def _counted(kind: str, count: int) -> str:
    words = kind.replace("_", " ")
    if count == 1:
        words = re.sub(r"(\w\w)s\b", r"\1", words, count=1)  # the first plural is the counted noun
    return f"{count:,} {words}"
