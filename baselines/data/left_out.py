"""What a data set has lost or had repaired on the way from its files, in words."""

from __future__ import annotations

import re

from baselines.data.dataset import Dataset

ALARMING = 0.05
"""Share of events or windows left out from which on something is likely wrong with the files."""


def share_left_out(dataset: Dataset) -> float:
    """Share of the events, or windows, of the files that were left out; in ``[0, 1)``."""
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


def told(dataset: Dataset) -> dict[str, str]:
    """What was left out, and what is strange but kept, by heading; only what there is.

    Such as ``106 interactions with unknown items, 1 user too short for evaluation``. What counts
    near-equal items is part of what counts unknown ones.
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
        words = re.sub(r"(\w\w)s\b", r"\1", words, count=1)  # the first plural is what is counted
    return f"{count:,} {words}"
