"""Select and run the command named by the arguments.

The current folder is searched for modules after installed packages, so that it may define your own
schemes, teachers and other parts. Code that computes is imported only when a command runs, so that
help and option parsing stay fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from baselines.cli.commands import COMMANDS, Command
from baselines.cli.console import QUIET, CommandConsole, speaking
from baselines.cli.help import help_of, overview
from baselines.cli.options import named_first
from baselines.data.config import require_source
from semid import __version__
from semid.checks import did_you_mean

_HELP, _HELP_ALL, _VERSION = ("-h", "--help"), "--help-all", "--version"


def run(argv: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name; None for those of this process.

    Raises:
        ValueError: If they name no command, or contain invalid options.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    words = [word for word in given if word != QUIET]
    for length in (1, 2):
        name = " ".join(words[:length])
        if name in COMMANDS:
            _run_command(name, words[length:], quiet=QUIET in given)
            return
    if words == [_VERSION]:
        print(f"semid {__version__}")
        return
    group = [name for name in COMMANDS if words and name.startswith(f"{words[0]} ")]
    rest, within = words[bool(group) :], group or list(COMMANDS)
    if rest and rest[0] in (*_HELP, _HELP_ALL):
        print(overview({name: COMMANDS[name].says for name in within}))
        return
    name = " ".join(words[:2])
    raise ValueError(
        f"expected a command out of {', '.join(within)}, got {name or 'none'}."
        f"{did_you_mean(name, within)} semid --help says what they do."
    )


def _run_command(name: str, words: Sequence[str], *, quiet: bool) -> None:
    command = COMMANDS[name]
    if command.first is not None:
        words = named_first(words, command.first, command.config)
    if any(word in _HELP for word in words):
        print(help_of(name, command))
        return
    from baselines.cli.parsing import parser_of, settings_of  # takes a third of a second

    parser = parser_of(command.config, prog=f"semid {name}", says=command.says)
    if _HELP_ALL in words:
        parser.print_help()
        return
    settings = settings_of(parser, command.config, words, command.second_names)
    if getattr(settings, "data", None) is not None:
        require_source(settings.data)
    if command.check is not None:
        command.check(settings)
    _compute(command, settings, quiet=quiet)


def _compute(command: Command, settings: Any, *, quiet: bool) -> None:
    from baselines.runtime.allocator import keep_freed_memory
    from semid.distributed import distributed_state

    keep_freed_memory()
    here = distributed_state()
    if command.trains or here.is_main_process:
        console = CommandConsole(quiet=not here.is_main_process)
        with _modules_of_this_folder(), speaking(console, quiet=quiet):
            command.run(settings, console)
    here.wait_for_everyone()
    here.destroy_process_group()


@contextmanager
def _modules_of_this_folder() -> Iterator[None]:
    """Search the current folder for modules, as ``python -m`` does."""
    sys.path.append(os.getcwd())
    try:
        yield
    finally:
        sys.path.pop()
