"""Files and folders that appear whole under their name or not at all, whatever kills the writer.

Each is filled under a hidden name next to its own, ``.NAME.tmp-xxxxxxxx``, which the writer keeps
locked. The system drops the lock with the process, so a hidden name that nobody has locked is left
over from a killed one. It is removed when the same name is written again, or by
`remove_leftovers`; those of living processes are left alone.
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
except ImportError:  # no POSIX system
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
_DAY = 24 * 60 * 60  # without locks, what nobody has written to for so long is left over
_CURRENT_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def atomic_dir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Fill a folder that appears whole under its name, or not at all.

    Yields an empty folder next to ``path``. Leaving the block without an error flushes it to disk
    and gives it the name ``path``, in place of an earlier artefact there; an error removes it.

    Raises:
        FileExistsError: If ``path`` is a file, or a non-empty folder that is not an artefact (it
            holds neither ``provenance.json`` nor ``config.json``) and so is not ours to replace.
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
            filling.rename(target)  # there is nothing, or an empty folder
        except OSError:
            if not target.exists():
                raise
            _replace(filling, target)
        _flush(target.parent)


def atomic_write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file (text as UTF-8) that appears whole under its name, or not at all."""
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    with _hidden(target, lambda file: file.touch(exist_ok=False)) as filling:
        filling.write_bytes(data.encode() if isinstance(data, str) else data)
        _flush(filling)
        filling.replace(target)
        _flush(target.parent)


def copy_tree(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copy a folder; it appears whole. Its files are shared where the file system can.

    Files of ours are replaced and never changed in place, so a shared one stays what it was.
    """
    if Path(source).resolve() == Path(target).resolve():
        return
    with atomic_dir(target) as filling:
        shutil.copytree(source, filling, copy_function=link_or_copy, dirs_exist_ok=True)


@contextmanager
def alone_in(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Wait until no other process is in this block with the same folder, which is made if needed.

    Where there are no locks, nobody waits.
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
    """Whether a file or folder of this name is one that is being filled, or was once."""
    return _TEMPORARY.fullmatch(name) is not None


def recover(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of ``path`` have left, or put back what they moved aside."""
    target = Path(path)
    with suppress(OSError):  # no such folder, or one that cannot be listed
        _tidy(
            Path(entry.path)
            for entry in os.scandir(target.parent)
            if (found := _TEMPORARY.fullmatch(entry.name)) and found["name"] == target.name
        )


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """`recover` whatever is written below a folder."""
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
    """A new hidden file or folder next to ``target``, locked; it goes if it keeps its name."""
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
            if not is_ours:  # taken for a leftover before it was locked
                continue
            try:
                yield filling
            finally:
                _remove(filling)
            return


def _replace(filling: Path, target: Path) -> None:
    """Give ``filling`` the name of an artefact, which is removed. One of the two is always found.

    Where the system cannot exchange two names, there is a moment without; `recover` ends it should
    the process be killed then.
    """
    if _exchange(filling, target):
        _flush(target.parent)
        return  # what is called ``filling`` now is the old one, and goes
    replaced = _beside(target, "old")
    with _locked(target, new=True):
        target.rename(replaced)
        filling.rename(target)
        _flush(target.parent)
        _remove(replaced)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names in a single step; false where the system or the disk cannot."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    a, b = os.fsencode(one), os.fsencode(other)
    return bool(rename(_CURRENT_FOLDER, a, _CURRENT_FOLDER, b, _EXCHANGE) == 0)


@contextmanager
def _locked(path: Path, *, new: bool = False) -> Iterator[bool]:
    """Lock a hidden file or folder; yields whether it is ours: it is there, and nobody else's.

    Where there are no locks, a new one is ours, and an old one only after a day.
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
    """Give a file a second name, or copy it where that cannot be."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
