"""Parse arguments and YAML files into a command's settings, with errors of one line."""

from __future__ import annotations

import re
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser

from baselines.cli.options import LISTS_OF_NAMES, options_of, spelled_out
from semid.checks import did_you_mean
from semid.field_types import choices_of, described


def parser_of(config: type, *, prog: str, says: str) -> ArgumentParser:
    """The parser of one command."""
    parser = ArgumentParser(prog=prog, description=says, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="a YAML file of options; options win")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_class_arguments(config)
    return parser


def settings_of(
    parser: ArgumentParser,
    config: type,
    argv: Sequence[str],
    second_names: Mapping[str, str] | None = None,
) -> Any:
    """Parse the settings of a command.

    Args:
        parser: The command's parser.
        config: Its dataclass.
        argv: The arguments after its name.
        second_names: Alternative names of options.

    Returns:
        An instance of the dataclass.

    Raises:
        ValueError: If an option or a value is invalid; the message names the option.
    """
    spelled = spelled_out(argv, config, second_names)
    try:
        values = parser.parse_args(spelled).as_dict()
    except ArgumentError as error:
        files = [word.removeprefix("--config=") for word in spelled if word.startswith("--config=")]
        where = f"{' and '.join(files)}: " if files and "config" in str(error) else ""
        raise ValueError(where + _in_words(str(error), options_of(config))) from error
    except RecursionError as error:
        raise ValueError("options are nested too deeply to be read") from error
    return _made(config, values, "")


def _made(config: type, values: Mapping[str, Any], path: str) -> Any:
    """Build a dataclass from its field values; errors begin with the field's dotted name."""
    kinds = get_type_hints(config)
    found = {
        name: _made_field(kinds[name], value, f"{path}{name}")
        for name, value in values.items()
        if name in kinds
    }
    try:
        return config(**found)
    except ValueError as error:
        begins_with_name = str(error).split(" ", 1)[0] in kinds
        within = f" (in {path[:-1]})" if path and not begins_with_name else ""
        raise ValueError(f"{path if begins_with_name else ''}{error}{within}") from error


def _made_field(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        return value
    if is_dataclass(kind):
        assert isinstance(kind, type)
        return _made(kind, value, f"{name}.")
    if get_origin(kind) is dict:
        each = get_args(kind)[1]
        return {key: _made_field(each, own, f"{name}.{key}") for key, own in value.items()}
    return value


def _in_words(text: str, options: Mapping[str, Any]) -> str:
    """Reword a parser message for users: without Python classes, and with a suggestion."""
    group = re.search(r"Group '([^']+)' does not accept option '([^']+)'", text)
    alone = re.search(r"Option '([^']+)' is not accepted", text)
    unknown = f"{group[1]}.{group[2]}" if group else alone and alone[1]
    if unknown:
        return f"unrecognized option {unknown}.{did_you_mean(unknown, options)}"
    wrong = re.search(r'.*key "([^"]+)":\s.*(?:Got|Given) value: ?([^\n]*)', text, re.DOTALL)
    if wrong and wrong[1] in options:
        kind = options[wrong[1]]
        near = did_you_mean(wrong[2], choices_of(kind))
        if wrong[1] in LISTS_OF_NAMES:
            near = f" As an option: {LISTS_OF_NAMES[wrong[1]]} separated by commas."
        return f"{wrong[1]} must be {described(kind)}, got {wrong[2]}{near and '.' + near}"
    return text
