"""Write docs/options.md: every option of every command, as the site's reference.

Usage:
    python scripts/write_options.py [FILE]   (docs/options.md by default)
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from baselines.cli.commands import COMMANDS, Command
from baselines.cli.help import documented_options

ROOT = Path(__file__).parents[1]
_FEW = 40  # options of a command that a reader looks through at a glance
_ESCAPED = str.maketrans({"\n": "\\n", "|": "\\|", "<": "&lt;", "[": "\\["})


def page() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Options"
    yield ""
    yield "All options of each command, as `semid COMMAND --help-all` lists them.\n"
    yield "| command | its options |\n| --- | --- |"
    groups = {name: _groups(command) for name, command in COMMANDS.items()}
    for name, found in groups.items():
        below = " ".join(f"[`{group}`](#{_anchor(name, group)})" for group in found if group)
        yield f"| [`semid {name}`](#semid-{name.replace(' ', '-')}) | {below} |"
    for name, found in groups.items():
        yield f"\n## `semid {name}`\n\n{COMMANDS[name].says}"
        for group, options in found.items():
            if group:
                yield f"\n### `--{group}.*` {{ #{_anchor(name, group)} }}"
            yield "\n| option | meaning |\n| --- | --- |"
            yield from (
                f"| `--{option}` | {text.translate(_ESCAPED)} |" for option, text in options
            )


def _groups(command: Command) -> dict[str, list[tuple[str, str]]]:
    """Options by what they belong to, such as ``teacher.sasrec``; in one group if they are few."""
    short_for = {option: second for second, option in command.second_names.items()}
    options = list(documented_options(command.config))
    found: dict[str, list[tuple[str, str]]] = {"": []}
    for option, text in options:
        parts = option.split(".")[:-1] if len(options) > _FEW else []
        group = "" if option in short_for else ".".join(parts[:2])
        found.setdefault(group, []).append((short_for.get(option, option), text))
    return found


def _anchor(command: str, group: str) -> str:
    return re.sub(r"\W", "-", f"{command}-{group}")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "options.md"
    target.write_text(page(), encoding="utf-8")
