"""Folders of runs, as ``semid runs`` lists, compares and removes them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from baselines.experiments.claim import claimed
from baselines.experiments.comparison import headlines_of
from baselines.experiments.controls import TWO_SEEDS
from baselines.experiments.folder import CONFIG, DATA
from baselines.experiments.rows import IN_THE_BEAM
from baselines.models.files import CARD
from semid.provenance import ProvenanceError, read_json

_DEPTH = 3  # of the runs of a study below the folder of all runs


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A row of results.

    Attributes:
        label: Its label.
        role: Its role in a comparison, such as ``arm``.
        seeds: Its seeds; none if nothing is random.
        metrics: Mean over seeds of each metric, seen items removed.
    """

    label: str
    role: str
    seeds: tuple[int, ...]
    metrics: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The folder of a comparison or of a model, as its records describe it.

    Attributes:
        folder: The folder.
        settings: The settings of the command that made it.
        data: The record of its data: ``name``, ``protocol`` and more.
        rows: Its results; empty until a comparison is finished, and for a model without any.
        is_model: Whether it is a model of its own.
        is_finished: Whether all its arms and seeds have results.
        changed: When its newest record was written.
    """

    folder: Path
    settings: Mapping[str, Any]
    data: Mapping[str, Any]
    rows: tuple[RunRow, ...]
    is_model: bool
    is_finished: bool
    changed: datetime

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read the records of a run, without its models and data.

        Raises:
            ValueError: If the folder holds no run.
            ProvenanceError: If a record is damaged.
        """
        require_run(folder)
        return _model(folder) if (folder / CARD).exists() else _comparison(folder)

    @property
    def kind(self) -> str:
        """``model`` or ``comparison``."""
        return "model" if self.is_model else "comparison"

    @property
    def arms(self) -> tuple[str, ...]:
        """Its arms, as the command named them; of a picked model, the label of its row."""
        return tuple(self.settings.get("arms") or (row.label for row in self.rows))

    @property
    def headlines(self) -> tuple[str, ...]:
        """The headline metrics of its results; none without results."""
        return headlines_of(tuple(self.rows[0].metrics)) if self.rows else ()


def is_run(folder: Path) -> bool:
    """Whether a folder holds the records of a comparison or of a model."""
    return (folder / CARD).is_file() or all((folder / name).is_file() for name in (CONFIG, DATA))


def require_run(folder: Path) -> None:
    """Refuse a folder that holds no run.

    Raises:
        ValueError: If it holds none.
    """
    if not is_run(folder):
        raise ValueError(
            f"expected the folder of a comparison or of a model, got {folder}, which holds none. "
            "semid runs lists those there are."
        )


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def remove_run(folder: Path) -> None:
    """Delete the folder of a run, damaged or not.

    Raises:
        ValueError: If it holds no run, or a command is at work in it.
    """
    require_run(folder)
    with claimed(folder, {"removes": str(folder)}):
        shutil.rmtree(folder)


def find_runs(folder: Path) -> Iterator[Path]:
    """The runs in a folder and up to three levels below, in alphabetical order.

    What lies within a run is not searched.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    for at, below, _ in os.walk(folder):
        path = Path(at)
        if is_run(path):
            below.clear()
            yield path
        elif len(path.relative_to(folder).parts) == _DEPTH:
            below.clear()
        below.sort()


def differing_settings(first: Run, second: Run) -> dict[str, tuple[Any, Any]]:
    """Both values of each setting that differs, by dotted name; None where there is none."""
    one, other = (dict(_flat(run.settings)) for run in (first, second))
    names = [*one, *(name for name in other if name not in one)]
    both = {name: (one.get(name), other.get(name)) for name in names if name != "out"}
    return {name: values for name, values in both.items() if values[0] != values[1]}


def _comparison(folder: Path) -> Run:
    table = read_json(folder / "comparison.json", take_unsealed=True) or {}
    settings = _record(folder / CONFIG)
    rows = tuple(_rows(table.get("rows", ())))
    own = (row for row in table.get("rows", ()) if _is_of_an_arm(row))
    finished = [row["arm"] for row in own if row["seeds"] == settings["seeds"]]
    return Run(
        folder=folder,
        settings=settings,
        data=_record(folder / DATA),
        rows=rows,
        is_model=False,
        is_finished=len(finished) >= len(settings["arms"]),
        changed=_changed(folder, "comparison.json", CONFIG),
    )


def _model(folder: Path) -> Run:
    about = _record(folder / CARD).get("about", {})
    found = read_json(folder / CONFIG, take_unsealed=True) or {}
    values = {"arm": about.get("row", ""), "role": "arm", "seeds": [about.get("seed")]}
    rows = _rows([{**values, "metrics": about["metrics"]}]) if "metrics" in about else ()
    return Run(
        folder=folder,
        settings=found or about.get("settings", {}),
        data=about.get("data", {}),
        rows=tuple(rows),
        is_model=True,
        is_finished=True,
        changed=_changed(folder, CARD),
    )


def _record(path: Path) -> dict[str, Any]:
    found = read_json(path, take_unsealed=True)
    if not isinstance(found, dict):
        raise ProvenanceError(f"expected the record of a run in {path}, got another file")
    return found


def _rows(rows: Any) -> Iterator[RunRow]:
    for row in rows:
        values = row["metrics"].get("removed", {})
        yield RunRow(
            label=row["arm"],
            role=row["role"],
            seeds=tuple(seed for seed in row["seeds"] if seed is not None),
            metrics={name: each["mean"] for name, each in values.items()},
        )


def _is_of_an_arm(row: Mapping[str, Any]) -> bool:
    """Whether a row is the result of an arm alone, without its teacher or another seed."""
    return row["role"] == "arm" and not row["arm"].endswith((IN_THE_BEAM, TWO_SEEDS))


def _changed(folder: Path, *names: str) -> datetime:
    times = [path.stat().st_mtime for name in names if (path := folder / name).exists()]
    return datetime.fromtimestamp(max(times))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
