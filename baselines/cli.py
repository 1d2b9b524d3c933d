"""The command line: every sub-command is a function of the library with typed options."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError

from baselines.data.dataset import Split, load_catalog, load_dataset
from baselines.evaluation import POLICIES, rank_by_scores
from baselines.experiment import CompareConfig, run_comparison
from baselines.machine import keep_freed_memory
from baselines.parallel import processes
from baselines.progress import track_epochs
from baselines.teachers.fit import fit_sasrec, teacher_training
from baselines.teachers.sasrec import SASRecConfig
from baselines.training import TrainingConfig
from semid.build import IdsConfig, make_semantic_ids
from semid.ids import SemanticIds, read_codes_file
from semid.quality import id_quality


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Settings of ``semid build``.

    Attributes:
        data: A folder in the plain layout, or ``synthetic``.
        out: Folder to write the semantic ids to.
        ids: Where they come from.
    """

    data: str
    out: str
    ids: IdsConfig = field(default_factory=IdsConfig)


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Settings of ``semid inspect``.

    Attributes:
        ids: A folder that ``semid build`` wrote, or a file of codes.
        data: The folder of the catalogue; needed for a file of codes.
        json: Print JSON instead of tables.
    """

    ids: str
    data: str | None = None
    json: bool = False


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """Settings of ``semid teacher``.

    Attributes:
        data: A folder in the plain layout, or ``synthetic``.
        out: Folder of trained teachers; ``semid compare --teachers`` takes it.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        seeds: A teacher is trained with each.
        teacher: Shape and loss.
        training: How it is trained.
    """

    data: str
    out: str
    split: Split = "auto"
    seeds: tuple[int, ...] = (0,)
    teacher: SASRecConfig = field(default_factory=SASRecConfig)
    training: TrainingConfig = field(default_factory=teacher_training)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success; 2 on bad input, with one line on standard error that says what is wrong.
    """
    keep_freed_memory()
    parser = _parser()
    try:
        settings = parser.instantiate(parser.parse_args(argv))
        command = _COMMANDS[settings.subcommand]
        values = vars(settings[settings.subcommand])
        values.pop("config", None)
        here = processes()
        if command.trains or here.is_main_process:
            command.run(command.config(**values), Console(quiet=not here.is_main_process))
        here.wait_for_everyone()
        here.destroy_process_group()
    except (ArgumentError, ValueError, OSError, SafetensorError) as error:
        print(f"semid: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("semid: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def build(config: BuildConfig, console: Console) -> None:
    """Give every item of a catalogue its semantic id."""
    catalog = load_catalog(config.data)
    out = Path(config.out)
    cache = out.with_name(f"{out.name}.cache")
    with track_epochs("semantic ids") as show:
        ids = make_semantic_ids(config.ids, catalog, cache_dir=cache, on_epoch=show)
    if processes().is_main_process:
        ids.save(out)
    _print_quality(id_quality(ids), console)
    console.print(f"semantic ids: {out}")


def inspect(config: InspectConfig, console: Console) -> None:
    """Print collisions, and the use and perplexity of each level of semantic ids."""
    if not Path(config.ids).exists():
        raise FileNotFoundError(f"no folder or file of semantic ids {config.ids}")
    if Path(config.ids).is_dir():
        ids = SemanticIds.load(config.ids)
    elif config.data is None:
        raise ValueError(f"a file of codes needs its catalogue: add --data FOLDER to {config.ids}")
    else:
        ids = read_codes_file(config.ids, load_catalog(config.data))
    if config.json:
        console.print_json(json.dumps(id_quality(ids)))
    else:
        _print_quality(id_quality(ids), console)


def teacher(config: TeacherConfig, console: Console) -> None:
    """Train a collaborative-filtering teacher and print how it ranks the test targets."""
    dataset = load_dataset(config.data, split=config.split)
    table = Table("seed", "best epoch", "policy", "R@5", "N@5", "R@10", "N@10")
    for seed in config.seeds:
        model, state, _ = fit_sasrec(
            dataset, config.teacher, config.training, seed=seed, folder=Path(config.out)
        )
        ranks = rank_by_scores(model, dataset.splits.test, title="test")
        for policy in POLICIES:
            metrics = ranks.metrics(policy, "expected")
            shown = (f"{metrics[name].mean():.4f}" for name in ("R@5", "N@5", "R@10", "N@10"))
            table.add_row(str(seed), str(state.best_epoch), f"seen items {policy}", *shown)
    console.print(table)
    console.print(f"teachers: {config.out}")


def compare(config: CompareConfig, console: Console) -> None:
    """Train and rank every arm on the same data, ids, budget and seeds, and print the table."""
    comparison = run_comparison(config)
    for policy in POLICIES:
        console.print(comparison.table(policy=policy))
    console.print(f"files: {config.out}/comparison.md, comparison.json, per_user.parquet")


@dataclass(frozen=True)
class _Command:
    config: type[Any]
    run: Callable[[Any, Console], None]
    trains: bool  # together with other processes; the main one does the rest alone


_COMMANDS = {
    "build": _Command(BuildConfig, build, trains=True),
    "inspect": _Command(InspectConfig, inspect, trains=False),
    "teacher": _Command(TeacherConfig, teacher, trains=True),
    "compare": _Command(CompareConfig, compare, trains=True),
}


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="semid",
        description="Semantic-ID generative recommendation.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    subcommands = parser.add_subcommands(required=True, dest="subcommand")
    for name, command in _COMMANDS.items():
        sub = ArgumentParser(
            description=command.run.__doc__, exit_on_error=False, allow_abbrev=False
        )
        sub.add_argument("--config", action="config", help="a YAML file of options; options win")
        sub.add_class_arguments(command.config)
        subcommands.add_subcommand(name, sub, help=command.run.__doc__)
    return parser


def _print_quality(quality: dict[str, Any], console: Console) -> None:
    summary = Table("items", "distinct ids", "colliding items", "largest group")
    counts = ("items", "distinct", "colliding_items", "largest_group")
    summary.add_row(*(str(quality[name]) for name in counts))
    console.print(summary)
    table = Table("level", "codes", "used", "share", "perplexity", "prefixes", "most children")
    for number, level in enumerate(quality["levels"], start=1):
        table.add_row(
            str(number),
            str(level["size"]),
            str(level["used"]),
            f"{level['utilisation']:.1%}",
            f"{level['perplexity']:.1f}",
            str(level["prefixes"]),
            str(level["max_children"]),
        )
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
