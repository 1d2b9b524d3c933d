"""Runs of a study at the same time: the same results, failures told, and nothing half-done."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from baselines.cli import main
from baselines.experiments.parallel import ParallelRuns, share_of_machine
from semid.atomic import is_temporary

SHAPE = {"max_history": 9, "encoder": {"dim": 8, "num_layers": 1}}
TINY: dict[str, Any] = {
    "title": "A tiny study",
    "table": "gains",
    "defaults": {
        "compare": {
            "data": "synthetic:60x40",
            "seeds": [0],
            "ids": {"codebook_sizes": [4, 4]},
            "teacher": {"model": "itemknn"},
            "backbones": {"causal": SHAPE},
            "teacher_training": {"precision": "fp32"},
            "training": {"epochs": 2, "precision": "fp32"},
            "evaluation": {"beam": 20, "validation_beam": 5, "validation_targets": 20},
            "counted": False,
        },
        "teacher train": {"data": "synthetic:60x40"},
    },
    "runs": {
        "arms": {
            "command": "compare",
            "hours": 0.5,
            "options": {"arms": ["causal:ntp", "causal:soft_ce:0.5"]},
        },
        "lost": {"command": "teacher train", "hours": 0.1, "options": {"data": "nowhere"}},
        "knn": {
            "command": "teacher train",
            "hours": 0.1,
            "options": {"teacher": {"model": "itemknn"}},
        },
        "again": {
            "command": "compare",
            "hours": 0.1,
            "after": "arms",
            "options": {"evaluation": {"prior": 0.5}},
        },
    },
}
WHOLE = {**TINY, "runs": {name: run for name, run in TINY["runs"].items() if name != "lost"}}


def write(plan: dict[str, Any]) -> None:
    Path("studies").mkdir(exist_ok=True)
    Path("studies/tiny.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def results() -> dict[str, Any]:
    """All that the runs found, but for dates, times, memory and the number of threads."""
    return {
        path.stem: _without_cost(json.loads(path.read_text()))
        for path in Path("studies/tiny").glob("*.json")
    }


def _without_cost(values: Any) -> Any:
    if isinstance(values, dict):
        costs = ("seconds", "date", "hours", "seal", "threads", "memory")
        kept = {key: v for key, v in values.items() if not any(word in key for word in costs)}
        return {key: _without_cost(v) for key, v in kept.items()}
    return [_without_cost(v) for v in values] if isinstance(values, list) else values


def start(*options: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "baselines.cli", "study", "tiny", "--quiet", *options]
    with open("said.txt", "wb") as said:
        return subprocess.Popen(words, stdout=said, stderr=said, stdin=subprocess.DEVNULL)


def test_they_end_as_one_after_another_and_a_failure_stops_no_other(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(WHOLE)
    assert main(["study", "tiny", "--quiet"]) == 0
    expected, table = results(), Path("studies/tiny/table.md").read_text()
    Path("studies").rename("studies-before")
    Path("runs").rename("runs-before")
    write(TINY)
    capsys.readouterr()
    assert main(["study", "tiny", "--quiet", "--parallel", "2"]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith(
        "semid: 1 of the runs failed, and all others are finished: lost. Of lost, "
    )
    assert "runs/studies/tiny/lost.log ends with: " in line
    assert "nowhere" in line
    assert results() == expected
    assert Path("studies/tiny/table.md").read_text() == table
    for word, name in [("finished", "arms"), ("finished", "again"), ("finished", "knn")]:
        assert f"{word}: {name}" in said.out
    assert said.out.index("finished: arms") < said.out.index("begun: again")
    assert main(["study", "tiny", "--quiet", "--parallel", "2", "--runs", "knn,arms"]) == 0


def children(process: int) -> list[int]:
    """The processes that a process has started, on Linux."""
    found = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(each) for each in found.split()]


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except OSError:
        return False


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@on_linux
def test_an_interrupt_stops_all_of_them(here: Path) -> None:
    write(WHOLE)
    study = start("--parallel", "2")
    deadline = time.monotonic() + 300
    while len(children(study.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    below = children(study.pid)
    assert len(below) == 2
    study.send_signal(signal.SIGINT)
    assert study.wait(60) == 130
    assert not any(map(is_alive, below))
    assert "stopped; the same command goes on from here" in Path("said.txt").read_text()


@pytest.mark.slow
@on_linux
def test_a_study_killed_three_times_ends_with_the_tables_of_an_unbroken_one(here: Path) -> None:
    write(WHOLE)
    begun = time.monotonic()
    assert start("--parallel", "2").wait(600) == 0
    whole = time.monotonic() - begun
    expected, table = results(), Path("studies/tiny/table.md").read_text()
    Path("studies").rename("studies-before")
    Path("runs").rename("runs-before")
    write(WHOLE)
    draw, killed = random.Random(0), 0
    for number in range(3):
        study = start("--parallel", "2")
        time.sleep(draw.uniform(0.3, 0.8) * whole)
        below = children(study.pid) if is_alive(study.pid) else []
        study.kill()
        if number:  # the first time, the runs themselves live on beside those of the next
            for process in below:
                os.kill(process, signal.SIGKILL)
        killed += study.wait() == -signal.SIGKILL
    assert killed
    assert start("--parallel", "2").wait(600) == 0
    assert results() == expected
    assert Path("studies/tiny/table.md").read_text() == table
    assert not [path for path in Path("studies").rglob("*") if is_temporary(path.name)]


def _runs(folder: Path, number: int, budget: int) -> tuple[ParallelRuns, list[str]]:
    said: list[str] = []

    def command(name: str) -> Sequence[str]:
        return [sys.executable, "-c", f"import sys; print('{name}'); sys.exit({name == 'bad'})"]

    return (
        ParallelRuns(
            number=number,
            command=command,
            logs=folder,
            may_begin=lambda _, beside: len(beside) < budget,
            report=said.append,
        ),
        said,
    )


def test_a_chain_is_done_in_order_and_after_a_failure_goes_on(tmp_path: Path) -> None:
    runs, said = _runs(tmp_path, 2, budget=9)
    (failure,) = runs([["bad", "b"], ["c"]])
    assert (failure.name, failure.line, failure.log) == ("bad", "bad", tmp_path / "bad.log")
    assert said.index("failed: bad: bad") < said.index("begun: b")
    assert {"finished: b", "finished: c"} <= set(said)
    assert (tmp_path / "b.log").read_text() == "b\n"


def test_a_run_waits_until_it_may_begin_beside_others(tmp_path: Path) -> None:
    runs, said = _runs(tmp_path, 3, budget=1)
    assert runs([["a"], ["b"], ["c"]]) == []
    assert said == [f"{word}: {name}" for name in "abc" for word in ("begun", "finished")]


def test_each_process_has_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert share_of_machine(0, 3) == {"OMP_NUM_THREADS": "2", "POLARS_MAX_THREADS": "2"}
    assert share_of_machine(0, 99)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert share_of_machine(0, 2) == {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "4"}


def test_gpus_are_dealt_out_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = [share_of_machine(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)]
    assert found == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert share_of_machine(1, 2)["CUDA_VISIBLE_DEVICES"] == "7"


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_wrong_number_is_refused(
    number: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(TINY)
    assert main(["study", "tiny", "--parallel", number]) == 2
    assert "parallel" in capsys.readouterr().err
