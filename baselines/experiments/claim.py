"""One comparison at a time in a folder: commands of equal settings share it, others are refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # no POSIX system
    fcntl = None  # type: ignore[assignment]

CLAIM = ".claim.json"


@contextmanager
def claimed(folder: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Keep a folder, which is made if needed, for commands of these settings.

    The claim is a lock, so it ends with the process. There is none in a folder that cannot be
    written, which nobody can harm, and where there are no locks.

    Args:
        folder: Of the results.
        settings: JSON values; commands with equal ones may work in the folder at the same time.

    Raises:
        ValueError: If a command with other settings is at work in the folder, or it cannot be one.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
            raise
        raise ValueError(
            f"expected a folder for the results, got {folder}, which is or lies below a file or a "
            "link that leads nowhere. Name another with --out."
        ) from None
    if fcntl is None or not os.access(folder, os.W_OK):
        yield
        return
    path = folder / CLAIM
    handle = _shared(path, settings)
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails unless we are the last
            path.unlink()
        os.close(handle)
        with suppress(OSError):
            for path in made:
                path.rmdir()  # as nothing was written


def _shared(path: Path, settings: dict[str, Any]) -> int:
    ours = json.dumps(settings, sort_keys=True).encode()
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _is_alone(handle):
                os.ftruncate(handle, 0)
                os.pwrite(handle, ours, 0)
            fcntl.flock(handle, fcntl.LOCK_SH)
        except OSError:  # such as of some network disks
            return handle
        theirs = os.pread(handle, os.fstat(handle).st_size, 0)
        is_there = path.exists() and os.path.samestat(os.fstat(handle), path.stat())
        if is_there and theirs == ours:
            return handle
        is_theirs = is_there and not _is_alone(handle)
        os.close(handle)
        if is_theirs:
            found = json.loads(theirs)
            names = settings.keys() | found.keys()
            changed = sorted(name for name in names if settings.get(name) != found.get(name))
            raise ValueError(
                f"another semid compare is at work in {path.parent}, with other settings "
                f"({', '.join(changed)}). Wait until it has ended, or name another folder with "
                "--out."
            )


def _is_alone(handle: int) -> bool:
    """Lock a file for ourselves, unless others hold it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def may_write(out: Path) -> bool:
    """Whether the folder is ours; a finished one of another user is read all the same."""
    return os.access(out, os.W_OK)
