"""Trackers: TensorBoard read back, and the calls that the others get."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from worlds import random_sequences

from baselines.cli import main
from baselines.data.batches import TrainBatch, Windows
from baselines.training.checkpoint import TrainingState
from baselines.training.config import TrackerName, TrainingConfig
from baselines.training.loop import TrainingTask, train
from baselines.training.tracking import tracking
from semid.provenance import Provenance
from tca.objective import ObjectiveOutput

WINDOWS = Windows.per_sequence(random_sequences(12, 30), 6)
CONFIG = TrainingConfig(epochs=3, patience=9, batch_events=40, lr=0.01, eval_every=3)
PER_EPOCH = WINDOWS.num_batches(CONFIG.batch_events)
LINEAGE = Provenance(kind="model", content="", seen="train", config={})

FAKE = """
import json, pathlib

class Run:
    def __init__(self, **values):
        self.lines = [values]
    def log(self, values, step=None):
        self.lines.append([step, values])
    def finish(self):
        pathlib.Path("{name}.json").write_text(json.dumps(self.lines))

def init(**values):
    return Run(**values)
"""
FAKE_MLFLOW = (
    FAKE
    + """
active = None
def search_experiments(filter_string):
    return []
def create_experiment(name, artifact_location, tags):
    return name
def start_run(experiment_id, run_name, **values):
    global active
    active = Run(project=experiment_id, name=run_name)
def log_metrics(values, step):
    active.log(values, step)
def end_run():
    active.finish()
"""
)


class Killed(Exception):
    """What a test raises in the middle of an epoch."""


def trained(folder: Path, *, kill_after: int | None = None) -> TrainingState:
    """Train a weight whose loss is known: ``weight + 1``, and ``extra`` of 7."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1, bias=False)
    steps = iter(range(10**6))

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        if next(steps) == kill_after:
            raise Killed
        parts = {"extra": torch.tensor(7.0)}
        return ObjectiveOutput(loss=model.weight.sum() + 1, parts=parts, count=torch.tensor(1))

    task = TrainingTask(windows=WINDOWS, loss=loss, validate=lambda: 0.25)
    how: dict[str, Any] = {"config": CONFIG, "seed": 0, "lineage": LINEAGE}
    return train(model, task, folder=folder, title="a model, seed 0", **how)


def read_back(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The step and value of every scalar, by name."""
    pytest.importorskip("tensorboard", reason="tensorboard, which reads its files, is missing")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (run,) = (folder / "tensorboard").iterdir()
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: [(one.step, one.value) for one in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_has_every_step_and_epoch_once_whatever_was_interrupted(tmp_path: Path) -> None:
    with tracking(["tensorboard"], tmp_path):
        with pytest.raises(Killed):
            trained(tmp_path / "model", kill_after=PER_EPOCH + 2)
        state = trained(tmp_path / "model")
        trained(tmp_path / "model")  # is read, and logs nothing
    found = read_back(tmp_path)
    assert found.keys() == {
        *("step/loss", "step/extra", "step/lr"),
        *("epoch/loss", "epoch/extra", "epoch/validation"),
    }
    losses = found["step/loss"]
    assert [step for step, _ in losses] == list(range(CONFIG.epochs * PER_EPOCH))
    ends = [PER_EPOCH * epoch - 1 for epoch in (1, 2, 3)]
    assert [step for step, _ in found["epoch/loss"]] == ends
    for (end, mean), entry in zip(found["epoch/loss"], state.history, strict=True):
        assert mean == pytest.approx(entry["loss"])
        assert fmean(value for _, value in losses[end + 1 - PER_EPOCH : end + 1]) == pytest.approx(
            mean
        )
    assert found["epoch/validation"] == [(ends[-1], 0.25)]
    assert {value for _, value in found["step/extra"]} == {7.0}
    assert found["step/lr"][-1][1] == pytest.approx(0.01)


def test_nothing_is_logged_unless_it_is_asked_for(tmp_path: Path) -> None:
    trained(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("name", "source"), [("wandb", FAKE), ("trackio", FAKE), ("mlflow", FAKE_MLFLOW)]
)
def test_other_trackers_get_a_run_of_the_same_values(
    name: TrackerName,
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[str], None],
) -> None:
    (tmp_path / f"{name}.py").write_text(source.replace("{name}", name))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    forget(name)
    with tracking([name, "tensorboard"], tmp_path / "results"):
        trained(tmp_path / "model")
    first, *lines = json.loads((tmp_path / f"{name}.json").read_text())
    assert first == {"project": "results", "name": "a model, seed 0"}
    found = read_back(tmp_path / "results")
    of_tracker: dict[str, list[tuple[int, float]]] = {label: [] for label in found}
    for step, values in lines:
        for label, value in values.items():
            of_tracker[label].append((step, pytest.approx(value)))
    assert found == of_tracker


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a module be imported anew, and forgotten after the test."""
    import sys

    def of(name: str) -> None:
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
        monkeypatch.delitem(sys.modules, name)

    return of


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("baselines.training.tracking.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    for command in ("compare", "train"):
        options = ["--data", "synthetic:40x32", "--out", "none", "--log_to", "wandb"]
        assert main([command, *options]) == 2
        error = capsys.readouterr().err.strip()
        assert "pip install 'semid[trackers]'" in error
        assert "\n" not in error
        assert not Path("none").exists()
    assert main(["compare", "--log_to", "wandbb"]) == 2
    assert "log_to" in capsys.readouterr().err


def test_a_command_logs_each_of_its_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["--training.epochs", "1", "--log_to", "tensorboard", "--data", "synthetic:40x32"]
    shape = "{max_history: 9, encoder: {dim: 8, num_layers: 1, ff_dim: 8}}"
    teacher = ["--teacher.sasrec", shape, "--seeds", "0,1", "--out", "teachers"]
    assert main(["teacher", "train", *small, *teacher]) == 0
    runs = sorted(path.name for path in Path("teachers/tensorboard").iterdir())
    assert runs == ["SASRec-ce-seed-0", "SASRec-ce-seed-1"]
    model = ["--arm", "causal:ntp", "--backbones.causal", shape, "--ids.codebook_sizes", "4,4"]
    assert main(["train", *small, *model, "--out", "model"]) == 0
    assert len(read_back(Path("model"))["epoch/validation"]) == 1
    assert main(["train", *small[:2], *small[4:], *model, "--out", "model"]) == 0  # without it
