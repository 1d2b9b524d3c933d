"""The code of the README and of docs/get_started.md runs as it stands there.

Each page is run from top to bottom, in an empty folder of its own.

A ``python`` block shares its names with those before it; an ``sh`` block is run by bash with the
environment's programs on the path, or in this process if it holds nothing but ``semid``, since a
start takes longer than its work (``test_scheme_of_your_own`` starts one). What installs or
fetches (``SKIPPED_LINES``) is left out, as is a block below the comment
``<!-- not run: reason -->``. Blocks that show output are ``text``.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from baselines.cli import main

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": ROOT / "README.md", "get_started.md": ROOT / "docs" / "get_started.md"}
RUN = ("python", "sh")
SHOWN = ("text", "yaml", "json", "toml", "bibtex")
SKIPPED_LINES = ("make ", "git clone ", "cd ", "pip install ", "python -m venv ", "source ")
TIME_LIMIT = 600

BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n\s*)?"
    r"^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=fence)[ ]*$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    line: int  # of the first line of code
    reason: str | None = None  # why it is not run


def blocks_of(text: str) -> list[Block]:
    return [
        Block(
            language=match["language"].strip(),
            code=match["code"],
            line=text.count("\n", 0, match.start("code")) + 1,
            reason=match["reason"],
        )
        for match in BLOCK.finditer(text)
    ]


def runnable_lines(code: str) -> str:
    """The commands of a shell block without those that install or fetch; empty if none is left."""
    commands = code.replace("\\\n", " ").splitlines()
    kept = [line for line in commands if not line.strip().startswith(SKIPPED_LINES)]
    return "\n".join(line for line in kept if line.strip() and not line.lstrip().startswith("#"))


def run_shell(script: str, folder: Path) -> None:
    programs = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "PATH": programs + os.pathsep + os.environ["PATH"],
            "HF_HUB_OFFLINE": "1",
        },
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, f"{script}\nended with {done.returncode}:\n{done.stderr[-2000:]}"


def run_commands(script: str, folder: Path) -> None:
    """In this process where all of them are ``semid``, else by bash."""
    commands = [shlex.split(line) for line in script.splitlines()]
    if any(program != "semid" for program, *_ in commands):
        run_shell(script, folder)
        return
    for command in commands:
        assert main(command[1:]) == 0, script


def run_python(block: Block, names: dict[str, Any], source: str) -> None:
    padded = "\n" * (block.line - 1) + block.code  # a traceback then names the README's line
    exec(compile(padded, source, "exec"), names)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where each page is run."""
    made = {name: tmp_path_factory.mktemp(name.partition(".")[0]) for name in PAGES}
    for folder in made.values():
        (folder / "scripts").symlink_to(ROOT / "scripts")
    return made


@pytest.fixture(scope="module")
def programs() -> dict[str, ModuleType]:
    """What holds each page's names."""
    return {name: ModuleType("__main__") for name in PAGES}


BLOCKS = {name: blocks_of(path.read_text(encoding="utf-8")) for name, path in PAGES.items()}
ALL = [(name, block) for name, blocks in BLOCKS.items() for block in blocks]


@pytest.mark.parametrize(
    ("page", "block"),
    ALL,
    ids=[f"{n}-line{b.line}-{b.language}" for n, b in ALL],
)
def test_block(
    page: str,
    block: Block,
    folders: dict[str, Path],
    programs: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert block.language in (*RUN, *SHOWN), (
        f"line {block.line}: mark the block as one of {', '.join((*RUN, *SHOWN))}"
    )
    if block.reason:
        pytest.skip(block.reason)
    monkeypatch.chdir(folders[page])
    monkeypatch.setitem(sys.modules, "__main__", programs[page])  # its classes are found there
    if block.language == "python":
        run_python(block, vars(programs[page]), str(PAGES[page]))
    elif block.language == "sh" and (script := runnable_lines(block.code)):
        run_commands(script, folders[page])


def test_the_first_block_of_python_recommends_in_a_process_of_its_own(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, blocks = folders["README.md"], BLOCKS["README.md"]
    monkeypatch.chdir(folder)
    first = next(block for block in blocks if block.language == "python")
    scripts = (runnable_lines(b.code) for b in blocks if b.language == "sh" and b.line < first.line)
    for script in filter(None, scripts):
        run_commands(script, folder)  # what is trained already is read
    done = subprocess.run(
        [sys.executable, "-c", first.code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    best = [line.split()[0] for line in done.stdout.splitlines()[:5]]
    assert len(set(best)) == 5
    assert all(1 <= int(item_id) <= 500 for item_id in best)


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=list(BLOCKS))
def test_a_page_shows_code_that_runs(blocks: list[Block]) -> None:
    assert {block.language for block in blocks if not block.reason} >= set(RUN)


def test_the_readme_stays_short() -> None:
    assert len(PAGES["README.md"].read_text(encoding="utf-8").splitlines()) <= 120


EXAMPLE = """# Title

```sh
git clone https://example.org/x && cd x
make demo
semid build --data synthetic \\
  --out ids
# a remark
```

<!-- not run: needs a download -->
```python
import missing_module
```

Text, `inline`, and

```python
answer = 42
```
```text
42
```
"""


def test_blocks_come_with_language_line_and_reason() -> None:
    assert [(b.language, b.line, b.reason) for b in blocks_of(EXAMPLE)] == [
        ("sh", 4, None),
        ("python", 13, "needs a download"),
        ("python", 19, None),
        ("text", 22, None),
    ]


def test_a_comment_excuses_only_the_block_below_it() -> None:
    assert blocks_of("<!-- not run: why -->\n\nword\n\n```python\n1\n```\n")[0].reason is None


def test_installing_and_remarks_are_left_out_and_continuations_joined() -> None:
    left = runnable_lines(blocks_of(EXAMPLE)[0].code)
    assert " ".join(left.split()) == "semid build --data synthetic --out ids"
    assert runnable_lines("make demo\n") == ""


def test_python_blocks_share_names_and_name_the_line_of_an_error() -> None:
    names: dict[str, Any] = {}
    run_python(Block("python", "x = 1\n", 1), names, "README.md")
    with pytest.raises(ZeroDivisionError) as caught:
        run_python(Block("python", "y = x + 1\ny / 0\n", 10), names, "README.md")
    assert names["y"] == 2
    assert caught.traceback[-1].lineno == 10  # counted from 0: the second line of the block


def test_a_failing_command_fails_with_what_it_said(tmp_path: Path) -> None:
    run_shell('python -c \'open("made", "w")\'', tmp_path)
    assert (tmp_path / "made").exists()
    with pytest.raises(AssertionError, match="the reason"):
        run_shell("echo the reason >&2; false\ntrue", tmp_path)
