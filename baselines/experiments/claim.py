"""Locks the folder of a run: commands with equal settings share it, others are refused."""

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
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

CLAIM = ".claim.json"


@contextmanager
def claimed(folder: Path, settings: dict[str, Any]) -> Iterator[None]:
    """Reserve a folder, created if needed, for commands with these settings.

    The claim is a file lock, so it ends with the process. No claim is made in a read-only folder,
    where no command can do harm, or where file locks are not available.

    Args:
        folder: The folder of the results.
        settings: JSON values; commands with equal settings may use the folder at the same time.

    Raises:
        ValueError: If a command with other settings is using the folder, or it cannot be a folder.
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
                path.rmdir()  # nothing was written


def _shared(path: Path, settings: dict[str, Any]) -> int:
    ours = json.dumps(settings, sort_keys=True).encode()
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if _is_alone(handle):
                os.ftruncate(handle, 0)
                os.pwrite(handle, ours, 0)
            fcntl.flock(handle, fcntl.LOCK_SH)
        except OSError:  # e.g. on some network disks
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
                f"another command is at work in {path.parent}, with other settings "
                f"({', '.join(changed)}). Wait until it has ended, or name another folder with "
                "--out."
            )


def _is_alone(handle: int) -> bool:
    """Lock a file exclusively; false if another process holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def may_write(out: Path) -> bool:
    """Whether we may write to the folder; another user's finished folder can still be read."""
    return os.access(out, os.W_OK)
