"""Language models: two processes, parts of batches and shared layers learn what one process does.

Run as a script, this file is one of the processes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path

import building
import numpy as np
import pytest
import torch
from exact_mass import teacher_mass
from safetensors.torch import load_file
from tiny_lm import write_model
from torch import Tensor
from torch.distributed.tensor import DTensor

from baselines.contracts.backbone import Backbone
from baselines.data.batches import TrainBatch
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.arms import Arm
from baselines.lm.config import Items, LanguageModelConfig, LoraSettings
from baselines.models.config import BackboneConfigs
from baselines.models.fit import FitSettings, fit_backbone
from baselines.teachers.distributions import StoredDistributions
from baselines.teachers.simple import Popularity
from baselines.training.config import TrainingConfig
from semid.distributed import distributed_state
from semid.provenance import Provenance
from tca.candidates import Positions
from tca.collaborative import CollaborativeTokenizer
from tca.objective import Objective

ROOT = Path(__file__).parents[3]
DATASET = synthetic_dataset(num_users=10, num_items=32, num_categories=2)
CODES = torch.cartesian_prod(torch.arange(4), torch.arange(8))
ARM = Arm.parse("lm:soft_ntp:0.3:mean=branching", masked=True, tau=1.0)
TRAINING = TrainingConfig(epochs=2, batch_events=26, lr=0.003, weight_decay=0.1, precision="fp32")
EVALUATION = EvaluationConfig(validation_beam=32, validation_targets=6, batch_size=2)
KINDS = ("titles", "codes", "all weights")
NUM_KILLED = 3  # steps of the second epoch that a kill leaves undone


class Killed(Exception):
    """What ends a training in the middle of an epoch."""


class Mass(StoredDistributions):
    """Distributions that remember how many weights were here when they were asked for."""

    def __init__(self, mass: Tensor, model: Backbone, kill_after: int) -> None:
        super().__init__(mass)
        self.model = model
        self.first = [weakref.ref(weight) for weight in model.parameters()]
        self.kill_after = kill_after
        self.here: set[int] = set()
        self.calls = 0

    def __call__(self, batch: TrainBatch, at: Positions) -> Tensor:
        if self.calls == self.kill_after:
            raise Killed
        self.calls += 1
        living = [*self.model.parameters(), *(known() for known in self.first)]
        here = {id(weight): weight for weight in living if weight is not None}.values()
        parts = (p.to_local() if isinstance(p, DTensor) else p for p in here)
        self.here.add(sum(part.numel() for part in parts))
        return super().__call__(batch, at)


def build(kind: str, model: Path, *, shard: bool = False) -> Backbone:
    items: Items = "codes" if kind == "codes" else "titles"
    lora = LoraSettings(r=0 if kind == "all weights" else 2, dropout=0.0)
    config = LanguageModelConfig(
        model=str(model),
        items=items,
        template="{history}>",
        lora=lora,
        max_history=5,
        shard=shard,
    )
    shapes = BackboneConfigs(lm=config)
    return building.build(ARM.backbone, shapes, CODES, (4, 8), catalog=DATASET.catalog)


def learn(
    kind: str,
    folder: Path,
    *,
    accumulate: int = 1,
    shard: bool = False,
    kill_after: int = -1,
    evaluation: EvaluationConfig = EVALUATION,
) -> Mass:
    """Train an arm, or only some steps of it."""
    splits = DATASET.splits
    backbone = build(kind, folder.parents[1] / "model", shard=shard)
    tokenizer = CollaborativeTokenizer(backbone.trie)
    mass = teacher_mass(Popularity(splits.train, 32), tokenizer, splits.train, batch_size=9)
    teacher = Mass(mass, backbone, kill_after)
    with suppress(Killed):
        fit_backbone(
            backbone,
            FitSettings(
                objective=ARM.objective,
                training=dataclasses.replace(TRAINING, accumulate=accumulate),
                evaluation=evaluation,
                seed=0,
            ),
            teacher,
            splits,
            folder=folder,
            lineage=Provenance(kind="model", content=""),
            title=kind,
        )
    return teacher


def work(out: Path) -> None:
    """All that one process, and each of several, does in this test."""
    whole, *_ = [learn(kind, out / kind) for kind in KINDS]
    learn("titles", out / "titles, in parts", accumulate=3)
    if distributed_state().num_processes == 1:
        learn("all weights", out / "all weights, in parts", accumulate=3)
        return
    titles, codes = (learn(kind, out / f"{kind}, sharded", shard=True) for kind in KINDS[:2])
    learn("titles", out / "titles, sharded, in parts", shard=True, accumulate=3)
    at_once = dataclasses.replace(EVALUATION, batch_size=10)  # one process has nothing to decode
    learn("titles", out / "titles, sharded, decoded by one", shard=True, evaluation=at_once)
    for shard, name in ((False, "titles"), (True, "titles, sharded")):
        folder = out / f"{name}, killed"
        learn("titles", folder, shard=shard, kill_after=whole.calls - NUM_KILLED)
        assert (folder / "checkpoint.safetensors").exists()
        learn("titles", folder, shard=shard)
    if distributed_state().is_main_process:
        held = {"whole": whole.here, "titles": titles.here, "codes": codes.here}
        (out / "held.json").write_text(json.dumps({name: list(its) for name, its in held.items()}))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
    distributed_state().wait_for_everyone()
    distributed_state().destroy_process_group()
    sys.exit()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one process wrote in ``1`` and what two wrote in ``2``."""
    folder = tmp_path_factory.mktemp("runs")
    write_model(folder / "model", DATASET.catalog.texts("{title}"), std=0.05)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", __file__, str(folder / "2")]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "ACCELERATE_USE_CPU": "1"}
    together = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, timeout=300
    )
    assert together.returncode == 0, together.stderr[-4000:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    work(folder / "1")
    torch.set_num_threads(threads)
    return folder


WAYS = (
    "1/titles, in parts",
    "1/all weights, in parts",
    "2/titles",
    "2/codes",
    "2/all weights",
    "2/titles, in parts",
    "2/titles, sharded",
    "2/codes, sharded",
    "2/titles, sharded, in parts",
    "2/titles, sharded, decoded by one",
)


@pytest.mark.parametrize("way", WAYS)
def test_the_loss_curve_and_the_weights_are_those_of_one_process_and_whole_batches(
    runs: Path, way: str
) -> None:
    kind = way[2:].partition(",")[0]
    expected, found = (history(runs / folder) for folder in (f"1/{kind}", way))
    assert len(expected) == len(found) == TRAINING.epochs
    for epoch, same in zip(expected, found, strict=True):
        assert epoch.keys() == {"loss", "ntp", "validation"}
        assert same == pytest.approx(epoch, rel=1e-5)
    weights, same_weights = (
        load_file(runs / folder / "model.safetensors") for folder in (f"1/{kind}", way)
    )
    assert weights.keys() == same_weights.keys()
    for name, value in weights.items():
        torch.testing.assert_close(same_weights[name], value, rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize("way", ["titles", "titles, sharded"])
def test_killed_and_resumed_it_ends_with_the_same_files(runs: Path, way: str) -> None:
    for name in ("model.safetensors", "provenance.json"):
        undisturbed, resumed = (runs / "2" / f"{way}{end}" / name for end in ("", ", killed"))
        assert undisturbed.read_bytes() == resumed.read_bytes()
    assert history(runs / "2" / way) == history(runs / "2" / f"{way}, killed")


def test_a_process_holds_a_part_of_shared_layers_between_steps(runs: Path) -> None:
    held = json.loads((runs / "2" / "held.json").read_text())
    base = load_file(runs / "model" / "model.safetensors")
    layers = sum(value.numel() for name, value in base.items() if ".layers." in name)
    (whole,), (shared,) = held["whole"], held["titles"]
    assert whole - shared == layers / 2
    assert len(held["codes"]) == 1


def test_the_parts_of_these_batches_differ_in_counted_positions(runs: Path) -> None:
    backbone = build("titles", runs / "model")
    objective = Objective(ARM.objective)
    counts = [
        {int(objective.positions(backbone.trie, part.target_items).count) for part in parts}
        for parts in (
            list(batch.split(3))
            for batch in backbone.windows(DATASET.splits.train).epoch(
                TRAINING.batch_events, np.random.default_rng(0)
            )
        )
    ]
    assert sum(len(found) > 1 for found in counts) > len(counts) / 2


def history(folder: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads((folder / "state.json").read_text())["history"]
    return found
