"""One small shop in every format that is read: what comes in, what goes out, and its hash.

    python scripts/check_readers.py --prepare.user_core 4

Writes the shop in each format, prepares it as ``semid data prepare`` does, with the given options,
and prints a table in Markdown. Formats that hold all of the shop must give the same bytes, and
those without times or texts the same as each other; exits with 1 if one does not.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shop_formats import WITHOUT_TIMES, WRITERS

from baselines.cli import main as semid

_WHY_OTHER = {
    "sequences": "no times, ratings and titles; attributes instead",
    "pairs": "no times, ratings and texts",
    "letter": "no times and ratings",
}
_SIZES, _FILES = ("events", "users", "items"), ("items.parquet", "interactions.parquet")
_HEADER = ("format", *_SIZES, "left out", *_FILES)


def prepared(source: str, out: Path, options: Sequence[str]) -> dict[str, Any]:
    """What ``data.json`` says after preparing a source.

    Raises:
        RuntimeError: If the command fails.
    """
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = semid(["data", "prepare", source, "--out", str(out), *options])
    if code != 0:
        raise RuntimeError(said.getvalue().strip())
    record: dict[str, Any] = json.loads((out / "data.json").read_text())
    return record


def line_of(name: str, record: Mapping[str, Any]) -> list[str]:
    """A line of the table."""
    counts, hashes = record["counts"], record["sha256"]
    gone = [note for note in record["notes"] if note["kind"] == "left out"]
    why = f" ({_WHY_OTHER[name]})" if name in _WHY_OTHER else ""
    return [
        name,
        *(f"{counts[f'{what}_read']} → {counts[what]}" for what in _SIZES),
        "; ".join(f"{note['says']}: {note['count']}" for note in gone) or "nothing",
        *(hashes[file][:12] + why * (file == _FILES[-1]) for file in _FILES),
    ]


def main(options: Sequence[str]) -> int:
    """Print the table; 0 if the hashes are equal where they can be."""
    records: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="check-readers-") as folder:
        for name, write in (WRITERS | WITHOUT_TIMES).items():
            source = write(Path(folder) / name)
            records[name] = prepared(str(source), Path(folder) / "out" / name, options)
        own = Path(folder) / "out" / "reader"
        records["package.module:function"] = prepared("shop_formats:load", own, options)
    print(f"| {' | '.join(_HEADER)} |\n|{' --- |' * len(_HEADER)}")
    for name, record in records.items():
        print(f"| {' | '.join(line_of(name, record))} |")
    whole = {name: record["sha256"] for name, record in records.items() if name not in _WHY_OTHER}
    first = next(iter(whole.values()))
    wrong = [name for name, found in whole.items() if found != first]
    for name, what in (("letter", "items.parquet"), ("pairs", "interactions.parquet")):
        other = first if name == "letter" else records["letter"]["sha256"]
        wrong += [name] if records[name]["sha256"][what] != other[what] else []
    if wrong:
        print(f"other content: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
