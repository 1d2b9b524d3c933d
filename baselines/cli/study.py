"""``semid study``: the runs listed in a file, each done once."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from baselines.cli.config import StudyConfig, TeacherTrainConfig
from baselines.experiments.config import CompareConfig

if TYPE_CHECKING:
    from rich.console import Console

    from baselines.experiments.parallel import Failure
    from baselines.experiments.study import Study, StudyCommand, StudyPlan


def study(config: StudyConfig, console: Console) -> None:
    """Do the open runs of a study, and print the table of all that are finished."""
    from rich.markdown import Markdown

    from baselines.experiments.study import Study, plan_table

    path = config.path
    found = Study(path=path, plan=_plan(path), commands=_commands(), out=Path(config.out))
    found.require_valid()
    chosen = config.runs or tuple(found.runs)
    if unknown := [name for name in chosen if name not in found.runs]:
        raise ValueError(f"{path} has runs {', '.join(found.runs)}, not {unknown[0]!r}")
    console.print(Markdown(plan_table(found)))
    if config.plan:
        return
    failures: list[Failure] = []
    if config.parallel > 1:
        failures = _run_in_parallel(config, found, chosen, console)
    else:
        for name in chosen:
            if name not in found.finished():
                console.rule(name)
                found.run(name)
    console.print(Markdown(found.table()))
    figure = _draw(found, console)
    console.print(f"files: {found.results}/table.md{figure}, and a .json for each finished run")
    if failures:
        first, names = failures[0], ", ".join(each.name for each in failures)
        raise ValueError(
            f"{len(failures)} of the runs failed, and all others are finished: {names}. Of "
            f"{first.name}, {first.log} ends with: {first.line}"
        )


def _draw(found: Study, console: Console) -> str:
    """Draw the figure that a study has, if it can be drawn, and say which file holds it."""
    from baselines.reporting.study_figures import FIGURE, study_figure
    from baselines.reporting.writing import missing_packages
    from semid.atomic import atomic_write
    from semid.distributed import distributed_state

    if found.plan.figure is None or not distributed_state().is_main_process:
        return ""
    if missing := missing_packages():
        needed = " and ".join(missing)
        console.print(f"no {FIGURE}: it needs {needed}: pip install 'semid[report]'")
        return ""
    picture = study_figure(found.plan, found.finished())
    if picture is None:
        return ""
    atomic_write(found.results / FIGURE, picture.svg())
    return f", {FIGURE}"


def _run_in_parallel(
    config: StudyConfig, found: Study, chosen: Sequence[str], console: Console
) -> list[Failure]:
    """Do the open runs in processes of their own, and return those that failed."""
    import semid_command
    from baselines.experiments.parallel import ParallelRuns
    from semid.distributed import distributed_state

    if distributed_state().num_processes > 1:
        raise ValueError(
            "parallel starts its own processes, got 2 or more from torchrun. Start semid study "
            "without torchrun, or leave --parallel out so that all processes share each run."
        )

    def command(name: str) -> list[str]:
        options = (f"--runs={name}", f"--out={config.out}", "--quiet")
        return [sys.executable, str(semid_command.__file__), "study", str(found.path), *options]

    finished = found.finished()
    chains = found.chains([name for name in chosen if name not in finished])
    runs = ParallelRuns(
        number=min(config.parallel, max(1, len(chains))),
        command=command,
        logs=Path(config.out) / found.path.stem,
        may_begin=found.is_within_budget,
        report=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
    )
    return runs(chains)


def _plan(path: Path) -> StudyPlan:
    """The plan that a file holds."""
    import yaml

    from baselines.experiments.study import StudyPlan
    from semid.settings import from_json

    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict):
            raise ValueError("expected title and runs by name, as docs/studies.md shows")
        return from_json(StudyPlan, values)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


def _commands() -> dict[str, StudyCommand]:
    """The commands whose results a study keeps."""
    from baselines.cli.parsing import parser_of, settings_of
    from baselines.cli.teacher import teacher_records
    from baselines.experiments.comparison import Comparison, compare
    from baselines.experiments.run import run_comparison
    from baselines.experiments.study import StudyCommand

    def teachers(settings: TeacherTrainConfig) -> Comparison:
        records = teacher_records(settings)
        return compare(records, baseline=records[0].arm)

    def command(config: type, name: str, run: Callable[[Any], Comparison]) -> StudyCommand:
        def read(options: Mapping[str, Any], out: Path) -> Any:
            argv = [f"--config={json.dumps(options)}", f"--out={out}"]
            return settings_of(parser_of(config, prog=f"semid {name}", says=""), config, argv)

        return StudyCommand(read=read, run=lambda settings: asdict(run(settings)))

    return {
        "compare": command(CompareConfig, "compare", run_comparison),
        "teacher train": command(TeacherTrainConfig, "teacher train", teachers),
    }
