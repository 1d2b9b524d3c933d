"""What is installed: our packages beside those of others, their version, and several processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import baselines
import semid
from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from semid.ids import SemanticIds

ROOT = Path(__file__).parents[1]
STARTED = "import sys; from semid_command import main; sys.exit(main())"
OURS = ("semid", "tca", "baselines")


def started(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The console command where packages are first searched in ``site``, then in this project."""
    return subprocess.run(
        [sys.executable, "-c", STARTED, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        cwd=site,
        capture_output=True,
        text=True,
        timeout=120,
    )


def foreign(site: Path, name: str, text: str = "raise SystemExit('was run')\n") -> None:
    (site / name).mkdir()
    (site / name / "__init__.py").write_text(text)


def require_refusal(done: subprocess.CompletedProcess[str], pattern: str) -> None:
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert re.match(rf"semid: expected .*{pattern}", done.stderr), done.stderr


def test_the_command_starts_where_all_packages_are_ours(tmp_path: Path) -> None:
    done = started(tmp_path, "--version")
    assert (done.returncode, done.stdout) == (0, f"semid {semid.__version__}\n"), done.stderr


@pytest.mark.parametrize("name", OURS)
def test_a_package_of_another_project_is_named_with_the_cure_and_not_run(
    name: str, tmp_path: Path
) -> None:
    foreign(tmp_path, name)
    place = re.escape(str(tmp_path / name))
    require_refusal(
        started(tmp_path, "--version"), rf"another project \(in {place}\).* pip uninstall {name}"
    )


def test_a_package_written_over_ours_is_another_project(tmp_path: Path) -> None:
    for name in OURS:
        (tmp_path / name).mkdir()
        for path in (ROOT / name).iterdir():
            if path.name not in ("__init__.py", "__pycache__"):
                (tmp_path / name / path.name).symlink_to(path)
        text = (ROOT / name / "__init__.py").read_text()
        (tmp_path / name / "__init__.py").write_text(text)
    assert started(tmp_path, "--version").returncode == 0
    (tmp_path / "tca" / "__init__.py").write_text('__version__ = "0.1.0"\n')
    require_refusal(started(tmp_path, "--version"), "tca is a package of another project")


def test_packages_of_two_installations_are_refused(tmp_path: Path) -> None:
    foreign(tmp_path, "tca", (ROOT / "tca" / "__init__.py").read_text())
    done = started(tmp_path, "--version")
    require_refusal(done, "packages of one installation, got semid in")
    assert str(tmp_path / "tca") in done.stderr


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "semid_command.py").symlink_to(ROOT / "semid_command.py")
    done = subprocess.run(
        [sys.executable, "-S", "-c", STARTED],  # without site-packages
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    require_refusal(done, "semid is missing")


def test_version_is_said_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"semid {semid.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", semid.__version__)


def test_every_public_name_of_baselines_is_there() -> None:
    assert {"load_dataset", "Dataset", "run_comparison", "CompareConfig"} <= set(baselines.__all__)
    for name in baselines.__all__:
        assert getattr(baselines, name).__name__ == name


def test_torchrun_starts_the_console_command_in_several_processes(tmp_path: Path) -> None:
    """``torchrun --no-python semid``: one of the two makes the ids, both end well."""
    programs = Path(sys.executable).parent
    write_plain_layout(synthetic_dataset(num_users=60, num_items=64), tmp_path / "shop")
    command = [programs / "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python"]
    command += ["semid", "build", "--data", "shop", "--out", "ids"]
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.count("collision") > 0
    assert len(SemanticIds.load(tmp_path / "ids").codes) == 64
