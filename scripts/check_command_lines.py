"""Random command lines and settings files, and how each of them ends.

    python scripts/check_command_lines.py --number 5000 --fresh 50

Values of the right type and of others, NaN, infinity, huge numbers, misspelt names, YAML files
that are damaged or missing. A command has to end with exit code 0, or with 2 and one line that is
no report of a fault; with 2 within three seconds of processor time where no file has to be read.
Each runs in a fork of one process that has loaded the libraries; ``--fresh`` runs so many of them
in interpreters of their own as well, whose processor time counts the loading. Prints each failure
and then the counts, and exits with 1 if there was a failure.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from baselines.cli import main as semid
from baselines.cli.commands import COMMANDS
from baselines.cli.options import options_of
from semid.field_types import choices_of

SECONDS = 3.0  # of processor time, for a refusal that reads no file
_PATIENCE = 120  # of processor time, until a command counts as hung
_NOWHERE = "nowhere"
_TINY = "{dim: 8, num_layers: 1, num_heads: 1, ff_dim: 8}"
_LOADED = (  # once, for all children
    *("baselines.experiments.run", "baselines.experiments.fluency_study"),
    *("baselines.experiments.single", "baselines.experiments.picking", "baselines.models.bulk"),
    *("baselines.pretraining.small", "baselines.data.synthetic", "semid.build"),
)
_OF_COMMAND: dict[str, list[str]] = {  # what each needs, in sizes that take no time
    "build": ["--out", "ids", "--ids.codebook_sizes", "4,4"],
    "inspect": ["--tokenizer", "random", "--codebook_sizes", "4,4"],
    "teacher train": [
        *("--out", "teachers", "--training.epochs", "1"),
        *("--teacher.sasrec.encoder", _TINY, "--teacher.sasrec.max_history", "5"),
    ],
    "teacher export": ["--teachers", "none", "--out", "vectors"],
    "lm train": [
        *("--out", "lm", "--training.epochs", "1", "--model.vocab_size", "300"),
        *("--model.dim", "8", "--model.num_layers", "1", "--model.num_heads", "1"),
    ],
    "data prepare": ["--source", "none.csv", "--out", "out"],
    "data describe": [],
    "data append": ["--events", "none.csv"],
    "lm fluency": ["--run", "none"],
    "compare": [
        *("--out", "out", "--arms", "causal:ntp", "--seeds", "0"),
        *("--ids.codebook_sizes", "4,4", "--backbones.causal.encoder", _TINY),
        *("--training.epochs", "1", "--teacher.model", "popularity", "--evaluation.beam", "4"),
    ],
    "train": [
        *("--out", "model", "--arm", "causal:ntp", "--backbones.causal.encoder", _TINY),
        *("--ids.codebook_sizes", "4,4", "--training.epochs", "1"),
        *("--teacher.model", "popularity", "--evaluation.beam", "4"),
    ],
    "report": ["--run", "none"],
    "pick": ["--run", "none", "--out", "picked"],
    "evaluate": ["--model", "none"],
    "recommend": ["--model", "none", "--history", "1,2"],
    "explain": ["--model", "none", "--history", "1,2", "--item", "3"],
    "export": ["--folder", "none", "--to", "static", "--out", "out"],
    "serve": ["--models", "none"],
    "study": ["--study", "none"],
    "runs": ["--folder", "none"],
    "runs show": ["--run", "none"],
    "runs compare": ["--folders", '["none", "none"]'],
    "runs remove": ["--run", "none", "--yes"],
}
_ODD = (
    *("", " ", "x", "null", "~", "nan", ".nan", "inf", "-.inf", "true", "-1", "-1e5", "0", "1e300"),
    *("1e-45", "0.5", "1.5", "99999999999999999999", "0x10", "[]", "{}", "[1, [2]]", "{a: {b: 1}}"),
    *("[true]", "[null]", "{1: 2}", "1,2,,3", "a,b", "!!python/object:os.system x", "&a [*a]", "é"),
    *("'unbalanced", "[" * 3000, "9" * 5000, "-", "$HOME", "../..", "/dev/null", "%s", "{history}"),
)
_SMALL: dict[type, tuple[str, ...]] = {  # right values that train nothing large
    bool: ("true", "false"),
    int: ("1", "2", "3", "8"),
    float: ("0.1", "0.5", "1", "0.9"),
    str: ("x", "{title}", "lsa", "random", "auto"),
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A command line; ``config`` is what its settings file holds, if it has one."""

    argv: tuple[str, ...]
    config: bytes | None = None
    trains: bool = False  # or at least reads data


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a command ended."""

    code: int
    error: str
    seconds: float  # of processor time


def random_line(rng: random.Random, *, trains: bool) -> Line:
    """A command line that is mostly right.

    Args:
        rng: Source of randomness.
        trains: Whether it may get as far as reading data and training; then its numbers are small.
    """
    name = rng.choice(list(COMMANDS))
    config = COMMANDS[name].config
    given = list(_OF_COMMAND[name])
    if "data" in options_of(config):
        given += ["--data", "synthetic:40x32" if trains else _NOWHERE]
    argv = [*name.split(), *given]
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        argv += _random_option(rng, config, odd=0.3 if trains else 0.6)
    file = _random_config(rng, config, trains=trains) if rng.random() < 0.25 else None
    if file is not None:
        argv += ["--config", "c.yaml"]
    elif rng.random() < 0.05:
        argv += ["--config", rng.choice(("none.yaml", ".", "", "/dev/null", "a: b"))]
    argv = _slip(rng, argv)
    if name == "compare" and "--data" not in argv:  # whose default trains for hours
        argv += ["--data", _NOWHERE]
    return Line(argv=tuple(argv), config=file, trains=trains)


def _random_option(rng: random.Random, config: type, *, odd: float) -> list[str]:
    name, kind = rng.choice(list(options_of(config).items()))
    if rng.random() < 0.1:
        at = rng.randrange(len(name))
        name = name[:at] + rng.choice(("", "x", name[at] * 2, ".")) + name[at + 1 :]
    value = rng.choice(_ODD) if rng.random() < odd else _right_value(rng, kind)
    return [f"--{name}={value}"] if rng.random() < 0.2 else [f"--{name}", value]


def _right_value(rng: random.Random, kind: Any) -> str:
    if choices_of(kind):
        return rng.choice(choices_of(kind))
    if is_dataclass(kind) or get_origin(kind) is dict:
        return "{}"
    if get_origin(kind) is tuple:
        return ",".join(_right_value(rng, get_args(kind)[0]) for _ in range(rng.randrange(1, 4)))
    for part in (kind, *get_args(kind)):
        if part in _SMALL:
            return rng.choice(_SMALL[part])
    return rng.choice(_ODD)


def _random_config(rng: random.Random, config: type, *, trains: bool) -> bytes:
    """The text of a settings file: nested as its names are, then perhaps damaged."""
    tree: dict[str, Any] = {}
    for _ in range(rng.randrange(4)):
        name, kind = rng.choice(list(options_of(config).items()))
        *above, last = name.split(".")
        node = tree
        for part in above:
            inner = node.setdefault(part, {})
            node = inner if isinstance(inner, dict) else {}
        odd = [None, True, -1, 2**70, 0.5, "x", [], {}, [[1]], "\0", float("nan"), [None], {"a": 1}]
        right = _right_value(rng, kind)
        node[last] = rng.choice(odd) if rng.random() < (0.3 if trains else 0.6) else right
    text = json.dumps(tree).encode()
    if rng.random() < 0.3:
        at = rng.randrange(len(text))
        text = rng.choice(
            (text[:at], b"", b"\xff\xfe" + text, text[:at] + b"{[" + text[at:], b"- a\n- b\n")
        )
    return text


def _slip(rng: random.Random, argv: list[str]) -> list[str]:
    """Sometimes a word too many, too few, or in another place."""
    chance, at = rng.random(), rng.randrange(len(argv))
    if chance < 0.04:
        return argv[:at] + argv[at + 1 :]
    if chance < 0.08:
        return [*argv[:at], rng.choice(("x", "--", "-v", "--help", "--xyzzy", "=")), *argv[at:]]
    if chance < 0.1:
        return argv[:at]
    return argv


def ending_in_a_fork(line: Line, folder: Path) -> Ending:
    """Run a command in a child of this process, in ``folder``."""
    error = folder / "stderr"
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(error, os.O_WRONLY | os.O_CREAT), 2)
        resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
        resource.setrlimit(resource.RLIMIT_CPU, (_PATIENCE, _PATIENCE))
        code = semid(list(line.argv))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    _, status, used = os.wait4(child, 0)
    text = error.read_text(errors="replace") if error.exists() else ""
    code = os.waitstatus_to_exitcode(status)
    return Ending(code=code, error=text, seconds=used.ru_utime + used.ru_stime)


def ending_of_its_own(line: Line, folder: Path) -> Ending:
    """Run a command in a fresh interpreter, in ``folder``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "baselines.cli", *line.argv],
        cwd=folder,
        capture_output=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    error = done.stderr.decode(errors="replace")
    return Ending(code=done.returncode, error=error, seconds=seconds)


def fault(line: Line, ending: Ending, folder: Path) -> str | None:
    """What is wrong with how a command ended; None if nothing is."""
    if ending.code not in (0, 2):
        return f"exit code {ending.code}"
    if "Traceback" in ending.error:
        return "a traceback"
    if "This is a fault of semid" in ending.error:
        return "a fault of the program"
    if ending.code == 0:
        return None
    lines = [text for text in ending.error.splitlines() if text]
    if not lines or not lines[-1].startswith("semid: "):
        return "no line that says why"
    if line.trains:
        return None
    if len(lines) != 1:
        return f"{len(lines)} lines"
    if ending.seconds > SECONDS:
        return f"{ending.seconds:.1f} seconds of processor time"
    left = [
        name for name in ("out", "ids", "teachers", "lm", "vectors") if (folder / name).exists()
    ]
    return f"{left[0]} left behind" if left else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check; 0 if no command ended badly."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--number", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trains", type=float, default=0.1, help="share that may train")
    parser.add_argument("--fresh", type=int, default=0, help="so many in interpreters of their own")
    options = parser.parse_args(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"  # no model is looked up whose name comes from chance
    for module in _LOADED:
        importlib.import_module(module)
    rng, began = random.Random(options.seed), time.monotonic()
    codes: Counter[str] = Counter()
    failures, slowest = 0, 0.0
    for number in range(options.number):
        line = random_line(rng, trains=rng.random() < options.trains)
        own = number < options.fresh
        folder = Path(tempfile.mkdtemp(prefix="command-line-"))
        if line.config is not None:
            (folder / "c.yaml").write_bytes(line.config)
        ending = (ending_of_its_own if own else ending_in_a_fork)(line, folder)
        kind = "trains" if line.trains else "refusals"
        codes[f"{kind}, exit code {ending.code}{', own interpreter' if own else ''}"] += 1
        if not line.trains:
            slowest = max(slowest, ending.seconds)
        if wrong := fault(line, ending, folder):
            failures += 1
            print(f"{wrong}: {list(line.argv)} {line.config!r}\n    {ending.error[-500:].strip()}")
        shutil.rmtree(folder)
    for name, count in sorted(codes.items()):
        print(f"{name}: {count}")
    print(f"slowest that trains nothing: {slowest:.2f} s of processor time")
    print(f"{failures} failures of {options.number} in {time.monotonic() - began:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
