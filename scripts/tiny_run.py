"""A comparison small enough to be run hundreds of times, for the checks of what can befall it."""

from __future__ import annotations

import contextlib
import io
import json
import traceback
from pathlib import Path
from typing import Any
from unittest.mock import patch

from baselines.cli import main

ENCODER = {"dim": 8, "num_layers": 1, "num_heads": 1, "ff_dim": 8}
SETTINGS = {
    "data": "synthetic:40x32",
    "arms": ["causal:ntp", "causal:soft_ce:0.5"],
    "seeds": [0],
    "ids": {"scheme": "rqkmeans", "codebook_sizes": [4, 4]},
    "temperature": "auto",
    "teacher": {"model": "sasrec", "sasrec": {"max_history": 9, "encoder": ENCODER}},
    "teacher_training": {"epochs": 2, "precision": "fp32"},
    "training": {"epochs": 2, "precision": "fp32"},
    "backbones": {"causal": {"max_history": 9, "encoder": ENCODER}},
    "evaluation": {"beam": 10, "validation_beam": 5, "validation_targets": 20, "certified": 2},
    "fusion": {"arms": ["causal:soft_ce:0.5"], "weights": [0.3, 0.7]},
}


def semid(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; its exit status and what it wrote to standard error.

    An exception that leaves it counts as status 1, with its traceback. Pages are left out: to draw
    one takes longer than a whole comparison of this size.
    """
    said = io.StringIO()
    no_page = patch("baselines.reporting.writing.missing_packages", return_value=["time"])
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), no_page:
        try:
            status = main(arguments)
        except BaseException:  # whatever it is, a user would see it
            return 1, said.getvalue() + traceback.format_exc()
    return status, said.getvalue()


def compare(out: Path, **changes: Any) -> tuple[int, str]:
    """Begin or go on with the comparison in a folder."""
    settings = out.with_name(f"{out.name}.json")
    settings.write_text(json.dumps({**SETTINGS, **changes}))
    return semid("compare", "--config", str(settings), "--out", str(out))


def table(out: Path) -> Any:
    """All that a finished comparison says, but for times and memory."""
    return _without_cost(json.loads((out / "comparison.json").read_text()))


def _without_cost(values: Any) -> Any:
    if isinstance(values, dict):
        kept = (key for key in values if "seconds" not in key and "memory" not in key)
        return {key: _without_cost(values[key]) for key in kept}
    return [_without_cost(v) for v in values] if isinstance(values, list) else values


def left_behind(folder: Path) -> list[str]:
    """What should be gone when a command has ended: hidden files and folders."""
    found = (path.relative_to(folder) for path in folder.rglob("*"))
    return sorted(str(path) for path in found if path.name.startswith("."))
