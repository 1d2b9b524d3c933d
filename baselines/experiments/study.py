"""Studies: runs listed in a file, each done once, and a table of their results.

A study is a YAML file. The result of a run is written beside it, as ``STUDY/RUN.json``; kept under
version control with the file, it is never computed again::

    title: Does alignment help?
    budget_hours: 2
    defaults: {compare: {data: ../shared/data/beauty, seeds: [0]}}
    runs:
      ce: {command: compare, hours: 0.7, options: {arms: ["causal:ntp", "causal:soft_ce:0.5"]}}
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from baselines.experiments.search import Params, SearchPlan, nested
from baselines.experiments.tables import markdown_table
from semid.atomic import atomic_write
from semid.checks import require_choice, require_real, require_text
from semid.distributed import distributed_state
from semid.field_types import require_types
from semid.provenance import read_json, write_json
from semid.registry import load_function

_TABLES = {
    "cold": "baselines.experiments.cold_study:cold_table",
    "curves": "baselines.experiments.curves_study:curves_table",
    "gains": "baselines.experiments.gains_study:gains_table",
    "metrics": "baselines.experiments.study:metrics_table",
    "search": "baselines.experiments.search_study:search_table",
    "validation": "baselines.experiments.study:validation_table",
}
_OF_TEST = ("cold", "curves", "gains", "metrics")  # tables that show test targets


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One run of a study.

    Attributes:
        command: The command, such as ``compare`` or ``teacher train``.
        hours: Planned hours.
        options: Options of the command other than ``out``, nested as in a ``--config`` file.
        after: An earlier run of the same command, whose options and folder this run starts from:
            what is trained there is not trained again. None for a folder of its own.
    """

    command: str
    hours: float
    options: dict[str, Any] = field(default_factory=dict)
    after: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        require_real("hours", self.hours, low=0)
        if "out" in self.options:
            raise ValueError("options of a run may not name out: the study chooses the folder")


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """The content of a study's file.

    Attributes:
        title: Heading of the table.
        runs: The runs by name, in the order in which they are done.
        defaults: By command, options of every run that does not set them itself.
        budget_hours: No run is started that would exceed these hours; None for no limit.
        table: ``metrics`` of the test targets, ``gains`` for their differences as well, ``curves``
            for agreement with the teacher, epochs and time, ``cold`` for runs with a cold-start
            split, ``validation`` and ``search`` for a search, which must not look at test targets,
            or ``package.module:function``, which makes Markdown as `metrics_table` does.
        search: Trials whose options are suggested one after another, done after the runs; None
            for none.

    Raises:
        ValueError: If there is no run, a name cannot be a file name, a run comes after one that
            is not above it or has another command, or a search shows test targets.
    """

    title: str
    runs: dict[str, StudyRun] = field(default_factory=dict)
    defaults: dict[str, dict[str, Any]] = field(default_factory=dict)
    budget_hours: float | None = None
    table: str = "metrics"
    search: SearchPlan | None = None

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("title", "table"):
            require_text(name, getattr(self, name))
        if not self.runs and self.search is None:
            raise ValueError("runs must name at least one run, got none")
        if self.search is not None and self.table in _OF_TEST:
            raise ValueError(
                f"table of a search must show validation values, got {self.table}. Take search or "
                "validation."
            )
        if self.search is not None and (both := self.runs.keys() & set(self.search.names)):
            raise ValueError(f"runs must have other names than trials, got {min(both)!r}")
        for name in self.runs:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(
                    f"runs must have names of letters, digits, '_', '-' and '.', got {name!r}"
                )
        above: dict[str, str] = {}
        for name, run in self.runs.items():
            if run.after is not None and above.get(run.after) != run.command:
                raise ValueError(
                    f"after must name a {run.command} run above {name}, got {run.after!r}. Put "
                    "that run first, or leave after out."
                )
            above[name] = run.command


Result = dict[str, Any]
"""JSON values of a finished run: the fields of ``Comparison``."""


@dataclass(frozen=True, kw_only=True)
class StudyCommand:
    """A command that a study may run.

    Attributes:
        read: Makes its settings of options, nested as in a ``--config`` file, and the folder of
            its output; raises ``ValueError`` if they are invalid.
        run: Runs it with these settings.
    """

    read: Callable[[Mapping[str, Any], Path], Any]
    run: Callable[[Any], Result]


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study, what is finished of it, and how the rest is run.

    Attributes:
        path: Its YAML file.
        plan: The content of the file.
        commands: What may be run, by name.
        out: Folder of models and other output of the runs, which may be deleted afterwards.
    """

    path: Path
    plan: StudyPlan
    commands: Mapping[str, StudyCommand]
    out: Path

    def __post_init__(self) -> None:
        for name in (*self.plan.defaults, *(run.command for run in self.runs.values())):
            require_choice("command", name, self.commands)

    @cached_property
    def runs(self) -> dict[str, StudyRun]:
        """The runs by name, then the trials with the options that they share."""
        search = self.plan.search
        if search is None:
            return self.plan.runs
        trial = StudyRun(command=search.command, hours=search.hours, options=search.options)
        return {**self.plan.runs, **dict.fromkeys(search.names, trial)}

    @cached_property
    def results(self) -> Path:
        """Folder of the results, beside the file."""
        return self.path.with_suffix("")

    def options(self, run: str) -> dict[str, Any]:
        """All options of a run: its own, and those of the run it comes after or the defaults.

        An open trial has the options that are suggested after the finished ones.
        """
        if self._is_trial(run):
            found = read_json(self.results / f"{run}.json")
            params = self._params(found) if found is not None else self._suggested()
            return self._with(run, params)
        own = self.runs[run]
        before = self.plan.defaults.get(own.command, {})
        return _merged(before if own.after is None else self.options(own.after), own.options)

    def _is_trial(self, run: str) -> bool:
        return run in self.runs and run not in self.plan.runs

    def _with(self, trial: str, params: Params) -> dict[str, Any]:
        """All options of a trial: those of every trial, and its own."""
        own = self.runs[trial]
        shared = _merged(self.plan.defaults.get(own.command, {}), own.options)
        return _merged(shared, nested(params))

    def _params(self, record: Mapping[str, Any]) -> Params:
        """The searched options of a finished trial; none if they are not in the space."""
        assert self.plan.search is not None
        return self.plan.search.params_of(record["options"]) or {}

    def _suggested(self) -> Params:
        search, finished = self.plan.search, self.finished()
        assert search is not None
        trials = [finished[name] for name in search.names if name in finished]
        return search.suggested(
            [(self._params(trial), search.value_of(trial["result"])) for trial in trials]
        )

    def finished(self) -> dict[str, dict[str, Any]]:
        """The finished runs by name: ``options``, ``date``, ``machine``, ``hours``, ``result``.

        Of a run that was interrupted, ``hours`` are those since it was last resumed.

        Raises:
            ValueError: If a result was obtained with other options than the file now has.
            ProvenanceError: If a result was damaged or changed.
        """
        found = {}
        for name, run in self.runs.items():
            record = read_json(path := self.results / f"{name}.json")
            if record is None:
                continue
            if (record["command"], record["options"]) != (run.command, self.options(name)):
                raise ValueError(
                    f"{path} is the result of other options than {self.path} has for {name}. "
                    "Give the run another name, or delete the result to compute it again."
                )
            found[name] = record
        return found

    def require_valid(self) -> None:
        """Read the settings of every run, so that a mistake shows before the first one begins."""
        search = self.plan.search
        options = {name: self.options(name) for name in self.plan.runs}
        if search is not None:
            options[search.names[0]] = self._with(search.names[0], search.first_values())
        for name, given in options.items():
            try:
                settings = self._settings(name, given)
                if search is not None and name in search.names:
                    search.require_one_arm(settings)
            except ValueError as error:
                raise ValueError(f"{self.path}, run {name}: {error}") from error

    def run(self, name: str) -> None:
        """Do one run, and write its result; several processes share it, and the main one writes.

        Raises:
            ValueError: If it would exceed the budget, or as the command.
        """
        run, spent = self.runs[name], sum(each["hours"] for each in self.finished().values())
        budget = self.plan.budget_hours
        if budget is not None and spent + run.hours > budget:
            raise ValueError(
                f"run {name} is planned at {run.hours:g} hours, and {spent:.2f} of the budget of "
                f"{budget:g} are spent. Raise budget_hours in {self.path}, or drop the run."
            )
        options, begun = self.options(name), monotonic()
        result = self.commands[run.command].run(self._settings(name, options))
        record = {
            "command": run.command,
            "options": options,
            "date": date.today().isoformat(),
            "machine": _machine(),
            "hours": round((monotonic() - begun) / 3600, 4),
            "result": result,
        }
        if distributed_state().is_main_process:
            write_json(self.results / f"{name}.json", record)
        distributed_state().wait_for_everyone()  # all read it, to see what is finished and spent

    def table(self) -> str:
        """Markdown of all finished runs, also written beside the file as ``STUDY/table.md``."""
        made_by = load_function(self.plan.table, _TABLES, what="table of a study")
        text = str(made_by(self.plan, self.finished()))
        if distributed_state().is_main_process:
            atomic_write(self.results / "table.md", text)
        return text

    def _folder(self, name: str) -> Path:
        after = self.runs[name].after
        return self.out / self.path.stem / name if after is None else self._folder(after)

    def _settings(self, name: str, options: Mapping[str, Any]) -> Any:
        command = self.commands[self.runs[name].command]
        return command.read(options, self._folder(name))


def plan_table(study: Study) -> str:
    """Markdown: every run with its planned and, once finished, measured hours."""
    finished, lines = study.finished(), []
    for name, run in study.runs.items():
        measured = f"{finished[name]['hours']:.2f}" if name in finished else "open"
        lines.append((name, run.command, f"{run.hours:.2f}", measured))
    planned = sum(run.hours for run in study.runs.values())
    spent = sum(each["hours"] for each in finished.values())
    lines.append(("in all", "", f"{planned:.2f}", f"{spent:.2f}"))
    return markdown_table(("run", "command", "hours planned", "hours"), lines)


def metrics_table(plan: StudyPlan, finished: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: R@10 and N@10 of every row of every finished run, with seen items removed and kept.

    Args:
        plan: The study.
        finished: ``Study.finished``.
    """
    lines = []
    for name, record in finished.items():
        for row in record["result"]["rows"]:
            figures = [_figure(row["metrics"], policy) for policy in ("removed", "kept")]
            lines.append((name, row["arm"], str(len(row["seeds"])), *figures))
    header = ("run", "row", "seeds", "R@10, N@10 removed", "kept")
    return f"# {plan.title}\n\n{markdown_table(header, lines)}\n"


def validation_table(plan: StudyPlan, finished: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown: validation value and best epoch of teachers and arms, by seed; no test figure.

    A teacher stands with the first run alone, if it is the same in later ones.

    Args:
        plan: The study.
        finished: ``Study.finished``.
    """
    lines, teachers = [], set()
    for name, record in finished.items():
        for row in record["result"]["rows"]:
            if row["role"] == "reference":
                continue
            for seed, notes in zip(row["seeds"], row["evaluations"], strict=True):
                found = [(row["arm"], str(seed), *cells) for cells in _validated(notes)]
                if row["role"] == "teacher":
                    found = [line for line in found if line not in teachers]
                    teachers.update(found)
                lines += [(name, *line) for line in found]
    header = ("run", "row", "seed", "metric", "validation", "best epoch", "with the weight chosen")
    return f"# {plan.title}\n\n{markdown_table(header, lines)}\n"


def _validated(notes: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Metric, its validation value, the best epoch, and what the search mixed in."""
    for label, value in notes.items():
        if label.startswith("validation_") and "@" in label:
            ended = ", stopped by time" if notes.get("stopped_by_time") else ""
            best = f"{notes['best_epoch']} of {notes['epochs']}{ended}"
            metric = label.removeprefix("validation_")
            yield metric, f"{value:.4f}", best, ", ".join(_mixed(notes))


def _mixed(notes: Mapping[str, Any]) -> Iterator[str]:
    """What the search mixed in, at which weight, and the validation value that this reached."""
    for what, key in [("item head", "item_weight"), ("generator beside teacher", "fusion")]:
        chosen = notes.get(key)
        if isinstance(chosen, Mapping) and chosen["validation"]:
            yield f"{what} {chosen['weight']:g}: {max(chosen['validation'].values()):.4f}"


def _figure(metrics: Mapping[str, Any], policy: str) -> str:
    values = metrics.get(policy, {})
    shown = (f"{values[name]['mean']:.4f}" for name in ("R@10", "N@10") if name in values)
    return ", ".join(shown) or "—"


def _merged(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Nested options; those of ``own`` win."""
    found = dict(defaults)
    for name, value in own.items():
        both = isinstance(value, Mapping) and isinstance(found.get(name), Mapping)
        found[name] = _merged(found[name], value) if both else value
    return found


def _machine() -> dict[str, Any]:
    """The kind of machine: what a reader needs to judge times and rounding."""
    return {
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
    }
