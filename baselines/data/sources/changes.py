"""Files that change while they are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_State = dict[Path, tuple[int, int]]


@contextmanager
def unchanged(*places: Path) -> Iterator[None]:
    """Raise ``ValueError`` at the end if a file, or one in a folder, is another than before."""
    before = _state(places)
    yield
    after = _state(places)
    if before != after:
        path = next(path for path in {**before, **after} if before.get(path) != after.get(path))
        raise ValueError(
            f"{path} changed while it was read; prepare a copy, or try again when it is complete"
        )


def _state(places: tuple[Path, ...]) -> _State:
    """Size and time of the last change of each file."""
    files = [
        path
        for place in places
        for path in ([place] if place.is_file() else sorted(place.rglob("*")))
        if path.is_file()
    ]
    states = ((path, path.stat()) for path in files)
    return {path: (state.st_size, state.st_mtime_ns) for path, state in states}
