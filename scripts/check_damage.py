"""Damage every file of a comparison in every way, and see what the same command makes of it.

    python scripts/check_damage.py                     # all files of three runs
    python scripts/check_damage.py --only test.json --damages scaled

Either the table comes out as it was, or the command ends with status 2 and one line; where that
line says what to remove, the command is run again without it. Prints each failure, then the counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from tiny_run import compare, table

Damage = Callable[[Path, "Runs"], bool]
"""Damages a file; false where this file cannot be damaged so."""


class Runs:
    """What is damaged: a run, and another one whose files may take the place of its own."""

    def __init__(self, run: Path, other: Path, table: Any) -> None:
        self.run, self.other, self.table = run, other, table


def _flip(at: Callable[[int], int]) -> Damage:
    def flip(path: Path, runs: Runs) -> bool:
        data = bytearray(path.read_bytes())
        if data:
            data[at(len(data))] ^= 1
        path.write_bytes(bytes(data))
        return bool(data)

    return flip


def _digit(path: Path, runs: Runs) -> bool:
    """Another digit in a text, or in the header of tensors."""
    data = path.read_bytes()
    places = [found.start() for found in re.finditer(rb"[0-8]", data[:100_000])]
    if places:
        at = random.Random(path.name).choice(places)
        data = data[:at] + bytes([data[at] + 1]) + data[at + 1 :]
        path.write_bytes(data)
    return bool(places)


def _cut(keep: Callable[[int], int]) -> Damage:
    def cut(path: Path, runs: Runs) -> bool:
        size = path.stat().st_size
        os.truncate(path, keep(size))
        return size > 0

    return cut


def _gone(path: Path, runs: Runs) -> bool:
    path.unlink()
    return True


def _swapped(path: Path, runs: Runs) -> bool:
    """Another file of the same name, or else of the same kind, from the same run."""
    found = [other for other in sorted(runs.run.rglob(f"*{path.suffix}")) if other.is_file()]
    found = [other for other in found if other.read_bytes() != path.read_bytes()]
    found.sort(key=lambda other: other.name != path.name)
    if found:
        path.write_bytes(found[0].read_bytes())
    return bool(found)


def _foreign(path: Path, runs: Runs) -> bool:
    """The same file of another run, or where it has none of this name, one that is named alike."""
    alike = re.sub(r"[0-9a-f]{8,}", "*", path.as_posix().split("/trial/")[1])
    found = [other for other in sorted(runs.other.glob(alike)) if other.is_file()]
    found = [other for other in found if other.read_bytes() != path.read_bytes()]
    if found:
        path.write_bytes(found[0].read_bytes())
    return bool(found)


def _scaled(path: Path, runs: Runs) -> bool:
    """All its numbers three times as large, in a file that is otherwise whole."""
    if path.suffix == ".json":
        path.write_text(json.dumps(_times_three(json.loads(path.read_text())), indent=2))
    elif path.suffix == ".npy":
        np.save(path, (np.load(path) * 3).astype(np.load(path).dtype))
    elif path.suffix == ".safetensors":
        data = path.read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        whole = bytearray(data)
        for name, told in header.items():
            kind = {"F32": "<f4", "I64": "<i8", "F64": "<f8"}.get(told.get("dtype"))
            if kind and name != "__metadata__":
                begin, end = (8 + size + at for at in told["data_offsets"])
                whole[begin:end] = (np.frombuffer(data[begin:end], kind) * 3).tobytes()
        path.write_bytes(bytes(whole))
    elif path.suffix == ".parquet":
        pl.read_parquet(path).reverse().write_parquet(path)
    else:
        return False
    return True


def _times_three(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _times_three(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_times_three(value) for value in values]
    return values * 3 if isinstance(values, (int, float)) and values is not True else values


DAMAGES: dict[str, Damage] = {
    "first bit": _flip(lambda size: 0),
    "bit in the middle": _flip(lambda size: size // 2),
    "last bit": _flip(lambda size: size - 1),
    "digit": _digit,
    "half": _cut(lambda size: size // 2),
    "last byte": _cut(lambda size: max(size - 1, 0)),
    "empty": _cut(lambda size: 0),
    "gone": _gone,
    "swapped": _swapped,
    "foreign": _foreign,
    "scaled": _scaled,
}


CHECKPOINTS = {
    "teacher-begun": "teachers/*/checkpoint.safetensors",
    "arm-begun": "causal-soft_ce-0.5-0/checkpoint.safetensors",
}
RUNS = ["finished", *CHECKPOINTS]


def check(runs: Runs, file: Path, damage: str) -> str:
    """What comes of one damage: ``same``, ``refused``, or what went wrong."""
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch) / "trial"
        shutil.copytree(runs.run, trial)
        if not DAMAGES[damage](trial / file, runs):
            return "not damaged"
        status, said = compare(trial)
        line = said.strip().splitlines()[-1] if said.strip() else ""
        if status == 0:
            return "same" if table(trial) == runs.table else "FAILED: another table"
        if status != 2 or not line.startswith("semid: ") or len(said.strip().splitlines()) > 2:
            return f"FAILED: status {status}: {said[-600:]}"
        if str(trial) not in line:
            return f"FAILED: no file in {line}"
        cure = re.search(r"[Rr]emove (/\S+?)[;,.]? ", line)
        if cure is None and "Remove it " in line:
            cure = re.search(rf"({trial}\S*?)[,:;.]? ", line)
        if cure is None:
            return f"refused: {line}"
        _remove(Path(cure[1]))
        status, said = compare(trial)
        is_same = status == 0 and table(trial) == runs.table
        return "refused, and cured" if is_same else f"FAILED: no cure: {line} -> {said[-300:]}"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def half_done(out: Path, checkpoint: str) -> None:
    """Begin a run and stop it before a checkpoint of that name is written the second time."""
    seen = 0

    def stop(event: str, arguments: Sequence[Any]) -> None:
        nonlocal seen
        if event == "os.rename" and fnmatch(str(arguments[1]), f"{out}/{checkpoint}"):
            seen += 1
            if seen == 2:
                raise KeyboardInterrupt

    sys.addaudithook(stop)  # for good, and of no effect on other folders
    status, said = compare(out)
    assert status == 130, said


def main(argv: Sequence[str] | None = None) -> int:
    """Damage the files of both runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of the names of the files to damage")
    parser.add_argument("--damages", nargs="*", default=list(DAMAGES), choices=list(DAMAGES))
    parser.add_argument("--runs", nargs="*", default=RUNS, choices=RUNS)
    arguments = parser.parse_args(argv)
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        finished, other = Path(scratch) / "finished", Path(scratch) / "other"
        begun = [compare(finished)]
        if "foreign" in arguments.damages:
            more = {"epochs": 3, "precision": "fp32"}
            changes = {"ids": {"scheme": "random"}, "training": more, "teacher_training": more}
            begun.append(compare(other, **changes))
        for status, said in begun:
            assert status == 0, said
        whole = table(finished)
        runs = {"finished": Runs(finished, other, whole)}
        for name, checkpoint in CHECKPOINTS.items():
            if name in arguments.runs:
                half_done(Path(scratch) / name, checkpoint)
                runs[name] = Runs(Path(scratch) / name, finished, whole)
        for name in arguments.runs:
            folder = runs[name].run
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                file = path.relative_to(folder)
                if str(file).startswith("report"):
                    continue  # read by people alone
                for damage in arguments.damages if arguments.only in str(file) else ():
                    found = check(runs[name], file, damage)
                    counts[found.partition(":")[0]] += 1
                    if found.startswith(("FAILED", "refused:")):
                        print(f"{name} {file}, {damage}: {found}", flush=True)
    print(dict(counts))
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
