"""``semid runs``: the folders of comparisons and models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semid.checks import require_text
from semid.field_types import require_types

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from baselines.experiments.runs import Run

_NONE = "—"


@dataclass(frozen=True, kw_only=True)
class RunsConfig:
    """Settings of ``semid runs``.

    Attributes:
        folder: Folder that is searched, up to three levels deep.
    """

    folder: str = "runs"

    def __post_init__(self) -> None:
        require_types(self)
        require_text("folder", self.folder)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of ``semid runs show``.

    Attributes:
        run: Folder of a comparison or of a model.
    """

    run: str

    def __post_init__(self) -> None:
        require_types(self)
        require_text("run", self.run)


@dataclass(frozen=True, kw_only=True)
class RunsCompareConfig:
    """Settings of ``semid runs compare``.

    Attributes:
        folders: Two folders of comparisons or of models.
    """

    folders: tuple[str, ...]

    def __post_init__(self) -> None:
        require_types(self)
        if len(self.folders) != 2:
            raise ValueError(f"folders must be two, got {len(self.folders)}")


@dataclass(frozen=True, kw_only=True)
class RunsRemoveConfig(RunConfig):
    """Settings of ``semid runs remove``.

    Attributes:
        yes: Delete without asking.
    """

    yes: bool = False


def runs(config: RunsConfig, console: Console) -> None:
    """List the comparisons and models in a folder; see also runs show, compare and remove."""
    from rich.markup import escape

    from baselines.experiments.runs import Run, find_runs
    from semid.provenance import ProvenanceError

    headings = ("run", "data", "arms", "seeds", "date", "state", "best")
    table, damaged = _table(headings, 6), []
    for folder in find_runs(Path(config.folder)):
        try:
            found = Run.read(folder)
        except (ProvenanceError, ValueError, KeyError) as error:
            damaged.append(f"{folder}: cannot be read: {error}")
            continue
        table.add_row(*map(escape, (str(folder), *_facts(found).values(), _best(found))))
    console.print(table if table.rows else f"no runs in {config.folder}", highlight=False)
    for line in damaged:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def runs_show(config: RunConfig, console: Console) -> None:
    """Show what a run is, its settings and its results."""
    from rich.markup import escape

    from baselines.experiments.runs import Run, size_of

    found = Run.read(Path(config.run))
    size = _mebibytes(size_of(found.folder))
    facts = {"kind": found.kind, **_facts(found), "size": size}
    for name, value in facts.items():
        console.print(f"{name}: {value}", highlight=False, markup=False)
    if found.rows:
        metrics = tuple(found.rows[0].metrics)
        table = _table(("row", "seeds", *metrics), 2, title="seen items removed")
        for row in found.rows:
            cells = (f"{row.metrics[name]:.4f}" for name in metrics)
            table.add_row(escape(row.label), _listed(row.seeds), *cells)
        console.print(table)


def runs_compare(config: RunsCompareConfig, console: Console) -> None:
    """Show two runs side by side: settings that differ, and the metrics of both."""
    from rich.markup import escape

    from baselines.experiments.runs import Run, differing_settings

    first, second = (Run.read(Path(folder)) for folder in config.folders)
    names = [str(run.folder) for run in (first, second)]
    table = _table(("setting", *names), 3, title="settings that differ")
    for name, values in differing_settings(first, second).items():
        table.add_row(name, *(escape(_inline(value)) for value in values))
    console.print(table)
    one, other = ({row.label: row.metrics for row in run.rows} for run in (first, second))
    metrics = [name for name in first.headlines if name in second.headlines]
    table = _table(("row", "metric", *names, "difference"), 2, title="seen items removed")
    for label in dict.fromkeys((*one, *other)):
        for name in metrics:
            both = [values.get(label, {}).get(name) for values in (one, other)]
            cells = [_NONE if value is None else f"{value:.4f}" for value in both]
            gain = _NONE if _NONE in cells else f"{other[label][name] - one[label][name]:+.4f}"
            table.add_row(escape(label), name, *cells, gain)
    if table.rows:
        console.print(table)
    if first.data.get("test") != second.data.get("test"):
        console.print("the runs have other test targets: their metrics cannot be compared")


def runs_remove(config: RunsRemoveConfig, console: Console) -> None:
    """Delete the folder of a run with all its models, after asking."""
    from baselines.experiments.runs import remove_run, require_run

    folder = Path(config.run)
    require_run(folder)
    if not config.yes and not _confirmed(folder, console):
        console.print("nothing removed")
        return
    remove_run(folder)
    console.print(f"removed: {folder}", highlight=False, markup=False)


def _confirmed(folder: Path, console: Console) -> bool:
    from baselines.experiments.runs import size_of

    question = f"Delete {folder} ({_mebibytes(size_of(folder))}) with all its models? [y/N] "
    try:
        return console.input(question, markup=False).strip().lower() in ("y", "yes")
    except EOFError:
        raise ValueError("expected an answer, got none. Add --yes to delete without.") from None


def _facts(run: Run) -> dict[str, str]:
    """Data, arms, seeds, date and state."""
    data = f"{run.data.get('name', _NONE)}, {run.data.get('protocol', _NONE)}"
    seeds = run.settings.get("seeds") or [seed for row in run.rows for seed in row.seeds]
    return {
        "data": data,
        "arms": _listed(run.arms),
        "seeds": _listed(seeds),
        "date": run.changed.date().isoformat(),
        "state": "finished" if run.is_finished else "not finished",
    }


def _best(run: Run) -> str:
    """The best value of an arm in the last headline metric."""
    arms = [row.metrics for row in run.rows if row.role == "arm"]
    if not arms:
        return _NONE
    metric = run.headlines[-1]
    return f"{metric} {max(metrics[metric] for metrics in arms):.4f}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values)) or _NONE


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def _inline(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(headings: Iterable[str], texts: int, *, title: str | None = None) -> Table:
    """A table without rows, whose first ``texts`` columns are text and the others figures."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < texts else "right", overflow="fold")
    return table
