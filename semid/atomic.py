"""Files and folders that appear complete or not at all, even if the writer is killed.

Each is written under a hidden sibling name, ``.NAME.tmp-xxxxxxxx``, which the writer keeps locked.
The system releases the lock when the process ends, so an unlocked hidden name is a leftover of a
killed process. It is removed when the same name is written again, or by `remove_leftovers`; those
of live processes are left alone.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "alone_in",
    "atomic_dir",
    "atomic_write",
    "copy_tree",
    "is_temporary",
    "link_or_copy",
    "recover",
    "remove_leftovers",
]

logger = logging.getLogger(__name__)

_MARKS_AN_ARTEFACT = ("provenance.json", "config.json")
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<role>tmp|old)-[0-9a-f]{8}")
_DAY = 24 * 60 * 60  # without locks, older temporaries count as leftovers
_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def atomic_dir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder that appears complete under its name, or not at all.

    Yields an empty folder next to ``path``. Leaving the block normally flushes it to disk and
    renames it to ``path``, replacing an earlier artefact there; an error removes it.

    Raises:
        FileExistsError: If ``path`` is a file, or a non-empty folder that is not an artefact (it
            has neither ``provenance.json`` nor ``config.json``).
    """
    target = Path(path).resolve()
    recover(target)
    _refuse_foreign(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _hidden(target, Path.mkdir) as filling:
        yield filling
        for file in filling.rglob("*"):
            _flush(file)
        _flush(filling)
        _refuse_foreign(target)
        try:
            filling.rename(target)  # nothing there, or an empty folder
        except OSError:
            if not target.exists():
                raise
            _replace(filling, target)
        _flush(target.parent)


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file (text as UTF-8) that appears complete under its name, or not at all."""
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    with _hidden(target, lambda file: file.touch(exist_ok=False)) as filling:
        filling.write_bytes(data.encode() if isinstance(data, str) else data)
        _flush(filling)
        filling.replace(target)
        _flush(target.parent)


def copy_tree(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a folder atomically. Its files are hard-linked if the file system allows.

    Our files are replaced and never changed in place, so linked copies stay intact.
    """
    if Path(source).resolve() == Path(target).resolve():
        return
    with atomic_dir(target) as filling:
        shutil.copytree(source, filling, copy_function=link_or_copy, dirs_exist_ok=True)


@contextmanager
def alone_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold an exclusive lock on a folder, created if needed, waiting for other processes.

    Without file locks on the system, this does nothing.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # such as of some network disks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.warning("waiting for another process that works in %s", folder)
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is a temporary or a leftover of one."""
    return _TEMPORARY.fullmatch(name) is not None


def recover(path: str | os.PathLike[str]) -> None:
    """Remove leftovers of killed writers of ``path``, or restore what they moved aside."""
    target = Path(path)
    with suppress(OSError):  # no such folder, or it cannot be listed
        _tidy(
            Path(entry.path)
            for entry in os.scandir(target.parent)
            if (found := _TEMPORARY.fullmatch(entry.name)) and found["name"] == target.name
        )


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """`recover` everything below a folder."""
    for parent, folders, files in os.walk(folder):
        hidden = [name for name in [*folders, *files] if is_temporary(name)]
        folders[:] = [name for name in folders if name not in hidden]
        _tidy(Path(parent, name) for name in hidden)


def _tidy(hidden: Iterable[Path]) -> None:
    for path in hidden:
        found = _TEMPORARY.fullmatch(path.name)
        assert found is not None
        target = path.with_name(found["name"])
        with suppress(OSError), _locked(path) as is_ours:
            if is_ours and found["role"] == "old" and not target.exists():
                path.rename(target)
            elif is_ours:
                _remove(path)


@contextmanager
def _hidden(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new, locked hidden file or folder next to ``target``; removed unless renamed."""
    while True:
        filling = _beside(target, "tmp")
        try:
            make(filling)
        except PermissionError as error:
            raise PermissionError(
                f"expected a folder that {target.name} can be written to, got {target.parent}, "
                "which only others may write. Name another folder."
            ) from error
        with _locked(filling, new=True) as is_ours:
            if not is_ours:  # removed as a leftover before it was locked
                continue
            try:
                yield filling
            finally:
                _remove(filling)
            return


def _replace(filling: Path, target: Path) -> None:
    """Replace an artefact by ``filling``; at any moment one of the two is in place.

    If the system cannot exchange two names there is a moment without either; `recover` repairs this
    if the process is killed then.
    """
    if _exchange(filling, target):
        _flush(target.parent)
        return  # ``filling`` is now the old artefact, to be removed
    replaced = _beside(target, "old")
    with _locked(target, new=True):
        target.rename(replaced)
        filling.rename(target)
        _flush(target.parent)
        _remove(replaced)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names atomically; false if the system or the disk cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    a, b = os.fsencode(one), os.fsencode(other)
    return bool(rename(_CURRENT_FOLDER, a, _CURRENT_FOLDER, b, _EXCHANGE) == 0)


@contextmanager
def _locked(path: Path, *, new: bool = False) -> Iterator[bool]:
    """Lock a hidden file or folder; yields whether it exists and the lock was obtained.

    Without file locks, a new one counts as ours, and an old one only after a day.
    """
    if fcntl is None:
        yield new or _is_old(path.stat())
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        except BlockingIOError:
            is_ours = False
        except OSError:  # such as of some network disks
            is_ours = new or _is_old(os.fstat(handle))
        yield is_ours and path.exists() and os.path.samestat(os.fstat(handle), path.stat())
    finally:
        os.close(handle)


def _is_old(found: os.stat_result) -> bool:
    return time.time() - found.st_mtime > _DAY


def _beside(target: Path, role: str) -> Path:
    return target.with_name(f".{target.name}.{role}-{secrets.token_hex(4)}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _refuse_foreign(target: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"expected a folder to write, got the file {target}. Name another.")
    entries = {entry.name for entry in target.iterdir() if not is_temporary(entry.name)}
    if entries and entries.isdisjoint(_MARKS_AN_ARTEFACT):
        raise FileExistsError(
            f"expected a new folder or an artefact to replace, got {target}, which holds other "
            f"files ({min(entries)!r}, …). Name another folder, or empty this one."
        )


def _flush(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def link_or_copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Hard-link a file, or copy it if that is impossible."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or no support for links
        shutil.copy2(source, target)
