"""Help that fits the screen: the commands, and the options of each that matter."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from docstring_parser import parse

from baselines.cli.commands import Command
from semid.field_types import choices_of

_WIDEST = 100
_COLUMN = 25  # column where an option's description starts


def overview(commands: Mapping[str, str]) -> str:
    """The list of commands, with a one-line description of each."""
    lines = ["usage: semid COMMAND [options]", "", "Semantic-ID generative recommendation.", ""]
    lines += ["commands:", *_entry_lines(commands.items())]
    lines += ["", "semid COMMAND --help describes one command;"]
    return "\n".join([*lines, "semid --version prints the version."])


def help_of(name: str, command: Command) -> str:
    """The help of one command."""
    documented = dict(documented_options(command.config))
    shown = command.shown or tuple(documented)
    short_for = {option: second for second, option in command.second_names.items()}
    entries = {f"--{short_for.get(option, option)}": documented[option] for option in shown}
    entries["--config FILE"] = "A YAML file of options; options win."
    entries["--quiet"] = "Show no progress."
    entries["--print_config"] = "Print all options with their values, as a YAML file."
    entries["--help-all"] = f"Help on all {len(documented)} options."
    lines = [f"usage: semid {name} [options]", "", *_wrapped(command.says)]
    lines += ["", "example:", f"  {command.example}", "", "options:"]
    return "\n".join([*lines, *_entry_lines(entries.items())])


def documented_options(
    config: type, prefix: str = "", given: Any = None
) -> Iterator[tuple[str, str]]:
    """Dotted names of the settings, with their descriptions.

    Args:
        config: The dataclass.
        prefix: Prefix of the names.
        given: An instance that holds the defaults, if they differ from the class's.
    """
    descriptions = {
        each.arg_name: each.description or ""
        for cls in reversed(config.__mro__)  # a class may describe anew what it inherits
        for each in parse(cls.__doc__ or "").params
    }
    kinds = get_type_hints(config)
    for own in fields(config):
        name, kind = f"{prefix}{own.name}", kinds[own.name]
        default = _default(own) if given is None else getattr(given, own.name)
        if is_dataclass(kind):
            assert isinstance(kind, type)
            yield from documented_options(kind, f"{name}.", default)
        else:
            facts = [f"one of {', '.join(choices_of(kind))}"] if choices_of(kind) else []
            facts += _default_text(default)
            sentence = _first_sentence(descriptions.get(own.name, ""))
            yield name, f"{sentence} ({'; '.join(facts)})" if facts else sentence


def _first_sentence(text: str) -> str:
    flat = " ".join(text.split()).replace("``", "").replace("`", "")
    return flat.split(". ")[0].rstrip(".") + "."


def _default(own: Any) -> Any:
    return own.default_factory() if own.default_factory is not MISSING else own.default


def _default_text(value: Any) -> list[str]:
    if value is MISSING:
        return ["required"]
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, bool):
        value = str(value).lower()
    return [] if value in (None, "", {}) else [f"default: {value}"]


def _entry_lines(entries: Any) -> Iterator[str]:
    for name, text in entries:
        wrapped = _wrapped(text, indent=_COLUMN)
        if len(name) + 3 > _COLUMN:
            yield f"  {name}"
        else:
            wrapped[0] = f"  {name}".ljust(_COLUMN) + wrapped[0].lstrip()
        yield from wrapped


def _wrapped(text: str, indent: int = 0) -> list[str]:
    width = min(shutil.get_terminal_size((_WIDEST, 24)).columns, _WIDEST)
    pad = " " * indent
    return textwrap.wrap(text, width, initial_indent=pad, subsequent_indent=pad)
