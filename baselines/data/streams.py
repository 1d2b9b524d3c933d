"""Each user's events once, from windows that overlap."""

from __future__ import annotations

import dataclasses

import numpy as np

from baselines.data.sequences import SequenceSet

_Events = list[int]


def user_streams(data: SequenceSet) -> SequenceSet:
    """Put the windows of each user together, so that an event stands in one sequence only.

    Windows of one user are joined where one ends as the other begins, and dropped where they are
    part of another; their order does not matter. Windows that share no event, since those between
    them are unknown, stay apart. Events are known by their items alone, so windows may also be
    joined at an item that the user chose twice. Without user ids every window is a user.

    Args:
        data: Sequences or windows.

    Returns:
        Sequences sorted by user, in which every event from the second on is a target. If no user
        has several, those of ``data``. Cached per set.
    """
    return data.derive("user streams", lambda: _user_streams(data))


def _user_streams(data: SequenceSet) -> SequenceSet:
    users, number = np.unique(data.users, return_counts=True)
    if len(users) == len(data):
        return dataclasses.replace(data, first_target=np.ones_like(data.first_target))
    order = np.argsort(data.users, kind="stable")
    streams: list[_Events] = []
    owners: list[int] = []
    for user, chosen in zip(users.tolist(), np.split(order, np.cumsum(number)[:-1]), strict=True):
        windows = [data.items[data.offsets[s] : data.offsets[s + 1]].tolist() for s in chosen]
        own = _stitched(windows)
        streams += own
        owners += [user] * len(own)
    return SequenceSet(
        items=np.array([item for stream in streams for item in stream], dtype=np.int64),
        offsets=np.concatenate(([0], np.cumsum([len(stream) for stream in streams]))),
        first_target=np.ones(len(streams), dtype=np.int64),
        users=np.array(owners, dtype=np.int64),
    )


def _stitched(windows: list[_Events]) -> list[_Events]:
    """Windows joined as far as possible."""
    streams: list[_Events] = []
    for window in windows:
        apart: list[_Events] = []
        for stream in streams:
            joined = _joined(stream, window)
            if joined is None:
                apart.append(stream)
            else:
                window = joined
        streams = [*apart, window]
    return streams


def _joined(stream: _Events, window: _Events) -> _Events | None:
    """Both as one, by their longest overlap; None if there is none."""
    long, short = (stream, window) if len(stream) >= len(window) else (window, stream)
    size = len(short)
    if any(long[first : first + size] == short for first in range(len(long) - size + 1)):
        return long
    for shared in range(size - 1, 0, -1):
        if stream[-shared:] == window[:shared]:
            return stream + window[shared:]
        if window[-shared:] == stream[:shared]:
            return window + stream[shared:]
    return None
