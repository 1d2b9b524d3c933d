"""Trainings in several stages: in order, each resumed, each read again, and none replaced."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_lm import TITLES, write_model
from tiny_recommenders import recommender, some_splits
from torch import Tensor

import baselines.models.fit as module
from baselines.evaluation.config import EvaluationConfig
from baselines.models.fit import FitSettings, fit_backbone
from baselines.models.stages import is_fitted, one_after_another, read_fitted
from baselines.training.checkpoint import TrainingState
from baselines.training.config import TrainingConfig
from baselines.training.monitor import NonFiniteMonitor
from semid.provenance import Provenance, ProvenanceError
from tca.config import ObjectiveConfig

STAGES = {"llara": ["whole"], "collm": ["text", "vectors"], "allmrec": ["alignment", "answers"]}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


def fit(made: Any, folder: Path) -> TrainingState:
    return fit_backbone(
        made,
        FitSettings(
            objective=ObjectiveConfig(name="msl", tau="adaptive", mean="branching"),
            training=TrainingConfig(epochs=2, lr=0.02, batch_events=60),
            evaluation=EvaluationConfig(validation_beam=12),
            seed=0,
        ),
        None,
        some_splits(),
        folder=folder,
        lineage=Provenance(kind="generator", content="", inputs=made.input_hashes),
        title="test",
    )


def files(folder: Path) -> dict[str, Path]:
    return {str(p.relative_to(folder)): p for p in folder.rglob("model.safetensors")}


class Killed(Exception):
    """What a test raises in the middle of an epoch."""


@pytest.mark.parametrize(
    ("name", "stage"), [(name, i) for name, stages in STAGES.items() for i in range(len(stages))]
)
def test_a_training_killed_in_any_stage_ends_like_an_undisturbed_one(
    llama: Path,
    tiny_codes: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    stage: int,
) -> None:
    made = recommender(name, llama, tiny_codes)
    steps = made.windows(some_splits().train).num_batches(60)
    state = fit(made, tmp_path / "undisturbed")
    record, calls = NonFiniteMonitor.record, iter(range(1000))

    def killed(self: NonFiniteMonitor, *args: Any) -> None:
        if next(calls) == (2 * stage + 1) * steps + 1:  # in the second epoch of the stage
            raise Killed
        record(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(NonFiniteMonitor, "record", killed)
        with pytest.raises(Killed):
            fit(recommender(name, llama, tiny_codes), tmp_path / "killed")
    assert not is_fitted(made, tmp_path / "killed")
    assert len(list((tmp_path / "killed").rglob("checkpoint.safetensors"))) == 1
    torch.rand(7)  # what else happened in the process is of no consequence
    resumed = fit(recommender(name, llama, tiny_codes), tmp_path / "killed")
    assert is_fitted(made, tmp_path / "killed")
    first, second = (files(tmp_path / folder) for folder in ("undisturbed", "killed"))
    assert first.keys() == second.keys()
    assert len(first) == len(STAGES[name])
    for path in first:
        weights = [load_file(found[path]) for found in (first, second)]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    for field in ("epoch", "best", "best_epoch", "history"):
        assert getattr(state, field) == getattr(resumed, field)
    assert state.epoch == 2 * len(STAGES[name])


def test_each_stage_trains_by_its_own_loss_and_is_chosen_by_its_own_ranking(
    llama: Path, tiny_codes: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[str] = []
    for name in ("rank_by_beam", "rank_by_scores"):
        rank = getattr(module, name)

        def spy(*args: Any, _name: str = name, _rank: Any = rank, **options: Any) -> Any:
            ranked.append(_name)
            return _rank(*args, **options)

        monkeypatch.setattr(module, name, spy)
    state = fit(recommender("allmrec", llama, tiny_codes), tmp_path)
    assert ranked == ["rank_by_scores"] * 2 + ["rank_by_beam"] * 2
    assert {"recommendation", "matching", "vectors", "texts"} <= state.history[0].keys()
    assert "matching" not in state.history[2]
    assert state.history[1]["loss"] < state.history[0]["loss"]
    saved = {name: load_file(path) for name, path in files(tmp_path).items()}
    of_objective = {
        name for name, weights in saved.items() if "objective.temperature.tau" in weights
    }
    assert of_objective == {"model.safetensors"}, "the first stage has no use for the objective"
    ranked.clear()
    fit(recommender("collm", llama, tiny_codes), tmp_path / "collm")
    assert ranked == ["rank_by_beam"] * 4


def test_stages_are_bound_to_each_other(llama: Path, tiny_codes: Tensor, tmp_path: Path) -> None:
    made = recommender("collm", llama, tiny_codes)
    state = fit(made, tmp_path / "a")
    text, last = (Provenance.read(tmp_path / "a" / name) for name in ("text", "."))
    assert last.inputs["stage_text"] == text.content
    assert (text.config, last.config) == ({"stage": "text"}, {})
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = recommender("collm", llama, tiny_codes, seed=4)
    assert fit(again, tmp_path / "a") == state
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    ours, theirs = (dict(each.named_parameters()) for each in (made, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in made.trainable_names())
    assert again.trainable_names() == made.trainable_names() > {"projector.0.weight"}

    fit(recommender("collm", llama, tiny_codes, seed=1), tmp_path / "b")
    shutil.rmtree(tmp_path / "a" / "text")
    shutil.copytree(tmp_path / "b" / "text", tmp_path / "a" / "text")
    with pytest.raises(ProvenanceError, match="the stage text of the model in"):
        read_fitted(made, tmp_path / "a")


def test_trainings_one_after_another_add_up() -> None:
    first = TrainingState(epoch=3, best=0.9, best_epoch=2, seconds=5.0, validation_seconds=1.0)
    first.history += [{"loss": 3.0}]
    first.stopped_by_time = True
    last = TrainingState(epoch=4, best=0.1, best_epoch=1, seconds=7.0, validation_seconds=2.0)
    last.history += [{"loss": 4.0}]
    both = one_after_another([first, last])
    assert dataclasses.asdict(both) == {
        "epoch": 7,
        "best": 0.1,
        "best_epoch": 4,
        "seconds": 12.0,
        "validation_seconds": 3.0,
        "history": [{"loss": 3.0}, {"loss": 4.0}],
        "stopped_by_time": True,
    }
    assert json.dumps(dataclasses.asdict(both))
    assert one_after_another([last]) == last
