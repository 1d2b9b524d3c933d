"""Whether a wheel, installed alone into a fresh environment, does what the README promises.

Builds the wheel from a copy of this project, installs it with the versions of ``constraints.txt``,
and, from a folder that has packages ``baselines`` and ``tca`` of its own, runs the README's first
block of Python after the commands before it, ``semid --version``, ``semid compare --help`` and
``torchrun --no-python semid``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("semid", "tca", "baselines")
FILES = ("semid_command.py", "pyproject.toml", "README.md", "LICENSE")


def build(folder: Path) -> Path:
    """A wheel of a copy, so that nothing of an earlier build is packed."""
    copy = folder / "sources"
    copy.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(copy)]
    subprocess.run(pip, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(wheel: Path, environment: Path) -> Path:
    """Install a wheel with the tested versions; the folder of the environment's programs."""
    venv.create(environment, with_pip=True)
    programs = environment / "bin"
    pip = [str(programs / "python"), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    return programs


def first_block() -> tuple[list[list[str]], str]:
    """The README's first block of Python, and the ``semid`` commands before it."""
    text = (ROOT / "README.md").read_text()
    found = re.search(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert found, "expected a python block in README.md, found none"
    before = text[: found.start()].replace("\\\n", " ")
    return [line.split() for line in re.findall(r"^semid .*$", before, re.M)], found[1]


def said(programs: Path, folder: Path, command: Sequence[str]) -> str:
    """What a program of the environment writes; it must end well."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    done = subprocess.run(
        [str(programs / command[0]), *command[1:]],
        cwd=folder,
        env={**kept, "PATH": path, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def check(programs: Path, folder: Path) -> None:
    """Use the installed package from a folder with packages of the same names."""
    for name in ("baselines", "tca"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('of the folder, not ours')\n")
    (folder / "code").mkdir()
    commands, first = first_block()
    (folder / "code" / "first.py").write_text(first)
    version = said(programs, folder, ["semid", "--version"])
    assert re.fullmatch(r"semid \d+\.\d+\.\d+\n", version), version
    assert "usage: semid compare" in said(programs, folder, ["semid", "compare", "--help"])
    for command in commands:
        said(programs, folder, command)
    assert said(programs, folder, ["python", "code/first.py"]).strip()
    torchrun = ["torchrun", "--standalone", "--nproc-per-node", "2", "--no-python"]
    build_ids = ["semid", "build", "--data", "synthetic", "--out", "ids"]
    said(programs, folder, [*torchrun, *build_ids])
    assert (folder / "ids").is_dir()
    print(f"{version.strip()}: the wheel works from {folder}")


def main() -> int:
    """Run the check; 0 if all of it holds."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        programs = install(build(folder), folder / "environment")
        check(programs, folder / "elsewhere")
    return 0


if __name__ == "__main__":
    sys.exit(main())
