"""Whatever kills a writer at whatever step: the old or the new is found, and nothing stays."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from semid.atomic import alone_in, atomic_dir, atomic_write, remove_leftovers
from semid.provenance import Provenance

STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}


def write_file(folder: Path, text: str) -> None:
    atomic_write(folder / "a", text)


def read_file(folder: Path) -> str | None:
    return (folder / "a").read_text() if (folder / "a").exists() else None


def write_folder(folder: Path, text: str) -> None:
    with atomic_dir(folder / "a") as filling:
        (filling / "values").write_text(text)
        Provenance(kind="text", content=text, versions={}).write(filling, files=["values"])


def read_folder(folder: Path) -> str | None:
    try:
        return Provenance.read(folder / "a").content
    except FileNotFoundError:
        return None


class WithoutExchange(ctypes.CDLL):
    """The C library of a system that cannot exchange two names."""

    def __getattr__(self, name: str) -> Any:
        if name == "renameat2":
            raise AttributeError(name)
        return super().__getattr__(name)


def killed_at(step: int, folder: Path, work: Callable[[], None]) -> bool:
    """Let a child work that dies before a step in the folder; false if it ended before."""
    child = os.fork()
    if child == 0:
        taken = 0

        def watch(event: str, arguments: Sequence[Any]) -> None:
            nonlocal taken
            if event in STEPS and str(arguments[0]).startswith(str(folder)):
                taken += 1
                if taken == step:
                    os._exit(9)

        try:
            sys.addaudithook(watch)
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("exchange", [True, False])
@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize(("write", "read"), [(write_file, read_file), (write_folder, read_folder)])
def test_killed_at_any_step_the_old_or_the_new_is_found_and_nothing_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    exchange: bool,
    before: str | None,
    write: Callable[[Path, str], None],
    read: Callable[[Path], str | None],
) -> None:
    if not exchange:
        monkeypatch.setattr(ctypes, "CDLL", WithoutExchange)
    folder = tmp_path / "folder"
    found = set()
    for step in itertools.count(1):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        if before is not None:
            write(folder, before)
        if not killed_at(step, folder, lambda: write(folder, "new")):
            break
        found.add(read(folder))
        write(folder, "newer")
        assert read(folder) == "newer"
        assert names(folder) == ["a"]
    assert step > 4
    assert before in found
    assert found <= {before, "new"}
    assert (read(folder), names(folder)) == ("new", ["a"])


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".mass.tmp-0123abcd").mkdir()
    (tmp_path / "run" / ".mass.tmp-0123abcd" / "mass.npy").write_bytes(b"half")
    (tmp_path / "run" / ".a.json.tmp-0123abcd").write_text("{")
    (tmp_path / "run" / ".gitignore").write_text("*")
    with atomic_dir(tmp_path / "run" / "ids") as filling:
        remove_leftovers(tmp_path)
        assert names(tmp_path / "run") == [".gitignore", filling.name]
        (filling / "config.json").write_text("{}")
    assert names(tmp_path / "run") == [".gitignore", "ids"]


def test_an_artefact_moved_aside_is_put_back(tmp_path: Path) -> None:
    write_folder(tmp_path, "old")
    (tmp_path / "a").rename(tmp_path / ".a.old-0123abcd")
    assert read_folder(tmp_path) == "old"
    assert names(tmp_path) == ["a"]


def test_two_writers_of_one_folder_both_end_well(tmp_path: Path) -> None:
    with atomic_dir(tmp_path / "a") as first:
        (first / "config.json").write_text("first")
        with atomic_dir(tmp_path / "a") as second:
            (second / "config.json").write_text("second")
    assert (tmp_path / "a" / "config.json").read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_one_waits_until_another_has_left(tmp_path: Path) -> None:
    order = []

    def other() -> None:
        with alone_in(tmp_path / "a"):
            order.append("other")

    thread = threading.Thread(target=other)
    with alone_in(tmp_path / "a"):
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
