"""``semid runs``: what it lists, shows, compares and removes."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest

from baselines.cli import main
from baselines.experiments.claim import claimed

TINY = """
data: synthetic:40x32
ids: {codebook_sizes: [4, 4]}
teacher: {model: popularity}
backbones:
  causal: {max_history: 9, encoder: {dim: 8, num_layers: 1, ff_dim: 8}}
training: {epochs: 1}
evaluation: {beam: 32, validation_beam: 5, validation_targets: 20}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two comparisons, one below a study's folder, and a model picked from the first."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "tiny.yaml").write_text(TINY)
    own = ["compare", "--config", f"{folder}/tiny.yaml", "--seeds", "0", "--counted", "false"]
    assert main([*own, "--arms", "causal:ntp", "--out", f"{folder}/runs/one"]) == 0
    other = ["--training.lr", "0.01", "--out", f"{folder}/runs/studies/tiny/other"]
    assert main([*own, "--arms", "causal:ntp", *other]) == 0
    assert main(["pick", f"{folder}/runs/one", "--out", f"{folder}/runs/model"]) == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(["runs", *argv]) == 0
    return capsys.readouterr().out


def row(run: str) -> dict[str, float]:
    """The metrics of the only arm of a comparison, seen items removed."""
    rows = json.loads((Path("runs") / run / "comparison.json").read_text())["rows"]
    (arm,) = (one for one in rows if one["role"] == "arm")
    return {name: value["mean"] for name, value in arm["metrics"]["removed"].items()}


def line(text: str, *parts: str) -> list[str]:
    """The words of the only line that has these parts."""
    (found,) = (one for one in text.splitlines() if all(part in one for part in parts))
    return found.split()


def test_runs_are_listed_with_what_they_hold(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Path("runs/studies/tiny/other/comparison.json")
    values = json.loads(table.read_text())
    values["rows"] = [one for one in values["rows"] if one["role"] != "arm"]
    table.write_text(json.dumps(values))
    damaged = Path(shutil.copytree("runs/one", "runs/zero"))
    (damaged / "config.json").write_text("{")
    text = printed(capsys)
    found = line(text, "runs/one ")
    for part in ("synthetic,", "leave_one_out", "causal:ntp", "0", "finished", "N@10"):
        assert part in found
    assert found[-1] == f"{row('one')['N@10']:.4f}"
    unfinished = line(text, "runs/studies/tiny/other")
    assert unfinished[-3:] == ["not", "finished", "—"]
    assert line(text, "runs/model ")[-1] == f"{row('one')['N@10']:.4f}"
    assert "cannot be read" in " ".join(line(text, "runs/zero"))
    assert "no runs in runs/model/ids" in printed(capsys, "runs/model/ids")
    assert main(["runs", "nowhere"]) == 2
    assert "no folder nowhere" in capsys.readouterr().err


def test_a_run_is_shown_with_its_metrics(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, kind in (("one", "comparison"), ("model", "model")):
        text = printed(capsys, "show", f"runs/{run}")
        assert f"kind: {kind}" in text
        assert [f"{value:.4f}" for value in row("one").values()] == line(text, "Causal ntp", " 0 ")[
            -7:
        ]
    assert main(["runs", "show", "runs"]) == 2
    assert "expected the folder of a comparison or of a model, got runs" in capsys.readouterr().err


def test_two_runs_stand_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "compare", "runs/one", "runs/studies/tiny/other")
    assert line(text, "training.lr") == ["training.lr", "0.001", "0.01"]
    assert "training.epochs" not in text
    one, other = row("one")["N@10"], row("studies/tiny/other")["N@10"]
    cells = [f"{one:.4f}", f"{other:.4f}", f"{other - one:+.4f}"]
    assert line(text, "Causal ntp", "N@10")[-3:] == cells
    assert line(text, "Popularity  ", "N@10")[-1] == "+0.0000"
    assert "cannot be compared" not in text
    data = Path("runs/one/data.json")
    values = {**json.loads(data.read_text()), "test": "0"}
    values.pop("seal")
    data.write_text(json.dumps(values))
    text = printed(capsys, "compare", "runs/one", "runs/studies/tiny/other")
    assert "other test targets: their metrics cannot be compared" in text
    assert main(["runs", "compare", "runs/one"]) == 2
    assert "folders must be two, got 1" in capsys.readouterr().err


def test_a_run_is_removed_once_that_is_confirmed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert "nothing removed" in printed(capsys, "remove", "runs/one")
    assert main(["runs", "remove", "runs/one"]) == 2  # the input has ended
    assert "Add --yes" in capsys.readouterr().err
    assert Path("runs/one").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert "removed: runs/one" in printed(capsys, "remove", "runs/one")
    assert not Path("runs/one").exists()
    with claimed(Path("runs/model"), {"seeds": [0]}):
        assert main(["runs", "remove", "runs/model", "--yes"]) == 2
        assert "another command is at work" in capsys.readouterr().err
    (Path("runs/model") / "model.json").write_text("{")  # damaged, and not kept for that
    printed(capsys, "remove", "runs/model", "--yes")
    assert not Path("runs/model").exists()
    assert main(["runs", "remove", "runs", "--yes"]) == 2
    assert Path("runs/studies").exists()
