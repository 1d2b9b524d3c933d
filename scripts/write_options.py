"""Write docs/options.md: every option of every command, as the site's reference.

Usage:
    python scripts/write_options.py [FILE]   (docs/options.md by default)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from baselines.cli.commands import COMMANDS
from baselines.cli.help import documented_options

ROOT = Path(__file__).parents[1]
_ESCAPED = str.maketrans({"\n": "\\n", "|": "\\|", "<": "&lt;", "[": "\\["})


def page() -> str:
    """The page, in Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Options"
    yield ""
    yield "All options of each command, as `semid COMMAND --help-all` lists them."
    for name, command in COMMANDS.items():
        yield f"\n## `semid {name}`\n\n{command.says}\n"
        yield "| option | meaning |\n| --- | --- |"
        short_for = {option: second for second, option in command.second_names.items()}
        for option, text in documented_options(command.config):
            yield f"| `--{short_for.get(option, option)}` | {text.translate(_ESCAPED)} |"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "options.md"
    target.write_text(page(), encoding="utf-8")
