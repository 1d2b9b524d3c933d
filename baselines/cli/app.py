"""The command line: every sub-command is a function of the library with typed options.

Schemes may be defined in a file of the folder where the command is run: it is searched for modules
after all that is installed. What computes is imported when a command runs, so that help and the
parsing of options load none of it.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jsonargparse import ArgumentParser
from rich.console import Console
from safetensors import SafetensorError

from baselines.cli.compare import compare
from baselines.cli.ids import BuildConfig, InspectConfig, build, inspect
from baselines.cli.lm import LmTrainConfig, lm_fluency, lm_train
from baselines.cli.teacher import (
    TeacherExportConfig,
    TeacherTrainConfig,
    teacher_export,
    teacher_train,
)
from baselines.experiments.config import CompareConfig, FluencyConfig
from baselines.runtime.allocator import keep_freed_memory


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success; 2 on bad input, with one line on standard error that says what is wrong.
    """
    keep_freed_memory()
    parser = _parser()
    try:
        command, values = _chosen(parser.instantiate(parser.parse_args(argv)))
        from baselines.runtime.distributed import processes  # loads torch: not for --help

        here = processes()
        if command.trains or here.is_main_process:
            with _modules_of_this_folder():
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


@contextmanager
def _modules_of_this_folder() -> Iterator[None]:
    """The console command finds a scheme beside the user as ``python -m`` does."""
    sys.path.append(os.getcwd())
    try:
        yield
    finally:
        sys.path.pop()


@dataclass(frozen=True)
class _Command:
    config: type[Any]
    run: Callable[[Any, Console], None]
    trains: bool  # together with other processes; the main one does the rest alone


_Commands = Mapping[str, "_Command | _Commands"]

_COMMANDS: _Commands = {
    "build": _Command(BuildConfig, build, trains=True),
    "inspect": _Command(InspectConfig, inspect, trains=False),
    "teacher": {
        "train": _Command(TeacherTrainConfig, teacher_train, trains=True),
        "export": _Command(TeacherExportConfig, teacher_export, trains=False),
    },
    "lm": {
        "train": _Command(LmTrainConfig, lm_train, trains=True),
        "fluency": _Command(FluencyConfig, lm_fluency, trains=False),
    },
    "compare": _Command(CompareConfig, compare, trains=True),
}

_GROUPS = {
    "teacher": "Train a collaborative-filtering teacher, or export its item vectors.",
    "lm": "Train a small language model, or judge the titles that arms write.",
}


def _parser() -> ArgumentParser:
    parser = _empty_parser("Semantic-ID generative recommendation.", prog="semid")
    _add_commands(parser, _COMMANDS)
    return parser


def _add_commands(parser: ArgumentParser, commands: _Commands) -> None:
    subcommands = parser.add_subcommands(required=True, dest="subcommand")
    for name, command in commands.items():
        says = command.run.__doc__ if isinstance(command, _Command) else _GROUPS[name]
        sub = _empty_parser(says)
        if isinstance(command, _Command):
            settings = "a YAML file of options; options win"
            sub.add_argument("--config", action="config", help=settings)
            sub.add_class_arguments(command.config)
            _also_spelled(sub, "ids.scheme", "--tokenizer")
        subcommands.add_subcommand(name, sub, help=says)
        if not isinstance(command, _Command):
            _add_commands(sub, command)  # a group has to be in its place before it is filled


def _empty_parser(description: str | None, **settings: Any) -> ArgumentParser:
    return ArgumentParser(
        description=description, exit_on_error=False, allow_abbrev=False, **settings
    )


def _chosen(settings: Any) -> tuple[_Command, dict[str, Any]]:
    """The command that was asked for, however deep it stands, and its options."""
    command: _Command | _Commands = _COMMANDS
    while not isinstance(command, _Command):
        command, settings = command[settings.subcommand], settings[settings.subcommand]
    return command, {name: value for name, value in vars(settings).items() if name != "config"}


def _also_spelled(parser: ArgumentParser, name: str, option: str) -> None:
    """Give the option of that name, where there is one, a second spelling."""
    for action in parser._actions:
        if action.dest == name:
            action.option_strings = [*action.option_strings, option]
            parser._option_string_actions[option] = action
