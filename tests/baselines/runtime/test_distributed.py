"""Two processes train, rank and compare as one does; run as a script, this file is one of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from accelerate import PartialState
from building import build
from exact_mass import teacher_mass
from group_threads import group_threads
from safetensors.torch import load_file
from torch import Tensor

from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.cli import main
from baselines.data.batches import TrainBatch, Windows
from baselines.data.splits import Splits
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.arms import Arm
from baselines.models.config import BackboneConfigs
from baselines.models.fit import FitSettings, fit_backbone
from baselines.nn.config import EncoderConfig
from baselines.runtime import precision
from baselines.teachers.config import SASRecConfig
from baselines.teachers.distributions import StoredDistributions
from baselines.teachers.sasrec import SASRec
from baselines.teachers.simple import Popularity
from baselines.training.config import TrainingConfig
from baselines.training.loop import TrainingTask, train
from baselines.training.precision import settled
from semid.distributed import all_reduce_mean, distributed_state
from semid.ids import SemanticIds
from semid.provenance import Provenance
from tca.collaborative import CollaborativeTokenizer
from tca.objective import ObjectiveOutput

ROOT = Path(__file__).parents[3]
NUM_ITEMS = 32
CODES = torch.cartesian_prod(torch.arange(4), torch.arange(8))
ENCODER = EncoderConfig(dim=8, num_layers=1, ff_dim=16, dropout=0.0)
SHAPES = BackboneConfigs(
    tiger=TigerConfig(num_layers=1, dim=8, num_heads=2, head_dim=4, ff_dim=16, dropout=0.0),
    causal=CausalConfig(max_history=9, path_dropout=0.0, encoder=ENCODER),
)
ARMS = ("tiger:soft_ce:0.5", "causal:soft_ntp:0.3", "causal:soft_ce:0.5:alpha=learned:rise=0.5")
BATCH_EVENTS = 18
TRAINING = TrainingConfig(
    epochs=3, batch_events=BATCH_EVENTS, lr=0.003, weight_decay=0.1, precision="fp32"
)
EVALUATION = EvaluationConfig(validation_beam=10, validation_targets=30, batch_size=7)
COMPARE = {
    "data": "synthetic:50x40",
    "ids": {"codebook_sizes": [4, 4]},
    "arms": ["causal:ntp", "causal:soft_ce:0.5"],
    "seeds": [0],
    "temperature": "auto",
    "teacher": {"sasrec": {"max_history": 9, "encoder": dataclasses.asdict(ENCODER)}},
    "teacher_training": {"epochs": 1, "precision": "fp32"},
    "backbones": {"causal": dataclasses.asdict(SHAPES.causal)},
    "training": {"epochs": 2, "batch_events": 100, "precision": "fp32"},
    "evaluation": {"beam": 10, "validation_targets": 30, "batch_size": 16},
    "resamples": 20,
}
BUILD = ["build", "--data", "synthetic:50x60"]
BUILD += ["--ids.scheme", "rqvae", "--ids.codebook_sizes", "[8,4]"]
BUILD += ["--ids.settings", json.dumps({"epochs": 3, "batch_size": 17, "hidden_dims": [8]})]
LM = ["lm", "train", "--data", "synthetic:100x64", "--texts.held_out", "0.1"]
LM += ["--model.vocab_size", "300", "--model.dim", "16", "--model.num_layers", "1"]
LM += ["--model.ff_dim", "32", "--model.context", "128", "--training.epochs", "2"]


class Killed(Exception):
    """What ends a training in the middle of an epoch."""


def world() -> Splits:
    return synthetic_dataset(num_users=24, num_items=NUM_ITEMS, num_categories=2).splits


def train_arm(text: str, out: Path) -> None:
    """Train an arm with a teacher whose mass the processes compute together."""
    arm, splits = Arm.parse(text, masked=True, tau=1.0), world()
    backbone = build(arm.backbone, SHAPES, CODES, (4, 8))
    tokenizer = CollaborativeTokenizer(backbone.trie)
    mass = teacher_mass(Popularity(splits.train, NUM_ITEMS), tokenizer, splits.train, batch_size=9)
    fit_backbone(
        backbone,
        FitSettings(
            objective=arm.objective,
            training=TRAINING,
            evaluation=EVALUATION,
            seed=0,
        ),
        StoredDistributions(mass),
        splits,
        folder=out / arm.folder,
        lineage=Provenance(kind="model", content=""),
        title=text,
    )


def train_with_dropout(folder: Path, *, killed: bool = False) -> tuple[list[str], int]:
    """Train a teacher, or only into epoch 2.

    Returns:
        This process's weights after each epoch, hashed, and the number of targets it learned from.
    """
    config = dataclasses.replace(TRAINING, batch_events=24, average_last=2)
    encoder = dataclasses.replace(ENCODER, dropout=0.3)
    model = SASRec(SASRecConfig(max_history=9, encoder=encoder), NUM_ITEMS, seed=0)
    windows = Windows.per_sequence(world().train, 9)
    kill_after = windows.num_batches(config.batch_events) + 3
    counts: list[int] = []
    hashes: list[str] = []

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        if len(counts) == kill_after and killed:
            raise Killed
        counts.append(len(batch.target_id))
        return ObjectiveOutput(loss=model.loss(batch), parts={}, count=torch.tensor(counts[-1]))

    def validate() -> float:
        digest = hashlib.sha256()
        for value in model.parameters():
            digest.update(value.detach().numpy().tobytes())
        hashes.append(digest.hexdigest())
        return float(len(hashes))

    with suppress(Killed):
        train(
            model,
            config=config,
            seed=0,
            task=TrainingTask(
                windows=windows,
                loss=loss,
                validate=validate,
            ),
            folder=folder,
            lineage=Provenance(kind="model", content=""),
            title="dropout",
        )
    return hashes, sum(counts)


def forbid_writing(folder: Path) -> None:
    """Let this process only read what is in a folder."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(f"{folder}/"):
            assert not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT), arguments[0]

    sys.addaudithook(hook)


def work(out: Path) -> None:
    """All that one process, and each of several, does in this test."""
    for arm in ARMS:
        train_arm(arm, out)
    means, nobody_counts = (
        torch.tensor([1.0 + distributed_state().process_index]),
        torch.tensor([3.0]),
    )
    all_reduce_mean([means], torch.tensor(2 * distributed_state().process_index + 1))
    assert float(means) == (1.0 if distributed_state().num_processes == 1 else 1.75)
    all_reduce_mean([nobody_counts], torch.tensor(0))
    assert float(nobody_counts) == 3.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            precision, "is_bfloat16_faster", lambda device: distributed_state().is_main_process
        )
        assert settled(TrainingConfig()).precision == "bf16"
    whole, targets = train_with_dropout(out / "undisturbed")
    begun, _ = train_with_dropout(out / "resumed", killed=True)
    rest, _ = train_with_dropout(out / "resumed")
    log = out.with_name(f"{out.name}-{distributed_state().process_index}.json")
    log.write_text(json.dumps({"weights": [whole, begun, rest], "targets": targets}))
    with pytest.MonkeyPatch.context() as patch:
        # They part at the end of a command, and cannot meet again.
        patch.setattr(PartialState, "destroy_process_group", lambda self: None)
        assert main([*BUILD, "--out", str(out / "ids")]) == 0
        assert main([*LM, "--out", str(out / "lm")]) == 0
    options = ["--config", str(out.parent / "compare.yaml"), "--out", str(out / "compare")]
    assert main(["compare", *options]) == 0


if __name__ == "__main__":
    if not distributed_state().is_main_process:
        forbid_writing(Path(sys.argv[1]))
    work(Path(sys.argv[1]))
    sys.exit(f"still run: {group_threads()}" if group_threads() else 0)


pytestmark = pytest.mark.usefixtures("with_pages")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one process wrote in ``1`` and what two wrote in ``2``."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "compare.yaml").write_text(json.dumps(COMPARE))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", __file__, str(folder / "2")]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "ACCELERATE_USE_CPU": "1"}
    together = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, timeout=300
    )
    assert together.returncode == 0, together.stderr[-4000:]
    (folder / "2.txt").write_text(together.stdout)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    work(folder / "1")
    torch.set_num_threads(threads)
    return folder


def history(folder: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads((folder / "state.json").read_text())["history"]
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    """Weights but for the keys' biases: no loss depends on them, so that rounding moves them."""
    found = load_file(folder / "model.safetensors")
    for name, value in found.items():
        if name.endswith("query_key_value.bias"):
            found[name] = torch.cat([value[: ENCODER.dim], value[2 * ENCODER.dim :]])
    return found


@pytest.mark.parametrize("arm", [Arm.parse(text, masked=True, tau=1.0).folder for text in ARMS])
def test_the_loss_curve_and_the_weights_are_those_of_one_process(runs: Path, arm: str) -> None:
    alone, together = history(runs / "1" / arm), history(runs / "2" / arm)
    assert len(alone) == len(together) == TRAINING.epochs
    for epoch, same in zip(alone, together, strict=True):
        learned = {"alpha"} if "learned" in arm else set()
        assert epoch.keys() == same.keys() == {"loss", "ntp", "validation"} | learned
        assert same == pytest.approx(epoch, rel=1e-5)
    expected, found = weights(runs / "1" / arm), weights(runs / "2" / arm)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("arm", ARMS)
def test_the_trainings_above_met_uneven_shares_and_batches_too_small_to_share(arm: str) -> None:
    backbone = build(Arm.parse(arm, masked=True, tau=1.0).backbone, SHAPES, CODES, (4, 8))
    batches = backbone.windows(world().train).epoch(BATCH_EVENTS, np.random.default_rng(0))
    rows = [len(batch.windows.items) for batch in batches]
    assert min(rows) == 1
    assert any(number % 2 == 1 for number in rows if number > 1)


def test_processes_share_the_work_and_hold_the_same_weights_also_after_a_kill(runs: Path) -> None:
    alone, first, second = (
        json.loads((runs / f"{name}.json").read_text()) for name in ("1-0", "2-0", "2-1")
    )
    assert first["targets"] + second["targets"] == alone["targets"]
    assert first["weights"] == second["weights"]
    whole, begun, rest = first["weights"]
    assert len(begun) == 1
    assert begun + rest == whole


def test_a_comparison_is_written_and_printed_once_with_the_results_of_one_process(
    runs: Path,
) -> None:
    files = [
        sorted(path.relative_to(runs / name) for path in (runs / name).rglob("*"))
        for name in ("1", "2")
    ]
    hashes = re.compile(r"-[0-9a-f]{16}$")  # of weights, which rounding moves
    names = [[hashes.sub("", path.name) for path in paths] for paths in files]
    assert names[0] == names[1]
    assert {"mass", "mass.npy", "temperature", "calibration.json"} <= set(names[0])
    assert (runs / "2.txt").read_text().count("comparison.md") == 1
    alone, together = (
        json.loads((runs / name / "compare" / "comparison.json").read_text()) for name in "12"
    )
    assert (alone["settings"]["processes"], together["settings"]["processes"]) == (1, 2)
    assert alone["rows"][0]["metrics"] == together["rows"][0]["metrics"], "nothing is trained here"
    tables = [
        pl.read_parquet(runs / name / "compare" / "per_user.parquet").select("N@10")
        for name in "12"
    ]
    assert (tables[0] - tables[1]).to_series().abs().mean() < 0.01


def test_ids_are_fitted_together_and_written_once(runs: Path) -> None:
    assert (runs / "2.txt").read_text().count("semantic ids:") == 1
    ids = SemanticIds.load(runs / "2" / "ids")
    assert len(ids.codes) == 60
    assert len(ids.codes.unique(dim=0)) == 60
    assert len(list((runs / "2" / "ids.cache").iterdir())) == 1


def test_a_small_language_model_makes_the_steps_of_one_process(runs: Path) -> None:
    assert (runs / "2.txt").read_text().count("language model: ") == 1
    one, two = (json.loads((runs / name / "lm" / "report.json").read_text()) for name in "12")
    for alone, shared in zip(one["history"], two["history"], strict=True):
        assert shared["loss"] == pytest.approx(alone["loss"], rel=1e-4)
        assert shared["held_out"] == pytest.approx(alone["held_out"], rel=2e-2), "other batches"
    assert two["perplexity"] == pytest.approx(one["perplexity"], rel=1e-3)


def test_a_process_that_cannot_meet_the_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed_state()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"expected 2 processes \(WORLD_SIZE\), got 1"):
        distributed_state()
