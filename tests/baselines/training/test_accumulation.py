"""Batches that are trained in parts: their gradients and means are those of the whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from building import build
from exact_mass import teacher_mass
from safetensors.torch import load_file
from torch import Tensor
from worlds import random_sequences

from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.data.batches import TrainBatch, Windows
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.arms import Arm
from baselines.models.config import BackboneConfigs
from baselines.models.fit import FitSettings, fit_backbone
from baselines.nn.config import EncoderConfig
from baselines.teachers.distributions import StoredDistributions
from baselines.teachers.simple import Popularity
from baselines.training.config import TrainingConfig
from baselines.training.loop import TrainingTask, train
from semid.provenance import Provenance
from tca.collaborative import CollaborativeTokenizer
from tca.objective import Objective, ObjectiveOutput

CONFIG = TrainingConfig(epochs=3, patience=9, batch_events=40, lr=0.01, schedule="cosine")
LINEAGE = Provenance(kind="model", content="", seen="train", config={"layers": 1})
CODES = torch.cartesian_prod(torch.arange(3), torch.arange(3), torch.arange(2))[[*range(11), 14]]
ENCODER = EncoderConfig(dim=8, num_layers=1, ff_dim=16, dropout=0.0)
SHAPES = BackboneConfigs(
    tiger=TigerConfig(num_layers=1, dim=8, num_heads=2, head_dim=4, ff_dim=16, dropout=0.0),
    causal=CausalConfig(max_history=6, path_dropout=0.0, encoder=ENCODER),
)


@pytest.mark.parametrize("text", ["causal:soft_ntp:0.3:mean=branching", "tiger:soft_ce:0.5"])
def test_parts_of_a_batch_make_the_step_of_the_whole(tmp_path: Path, text: str) -> None:
    arm = Arm.parse(text, masked=True, tau=1.0)
    splits = synthetic_dataset(num_users=24, num_items=12, num_categories=2).splits
    counts: list[set[int]] = []
    for accumulate in (1, 3):
        backbone = build(arm.backbone, SHAPES, CODES, (3, 3, 2))
        tokenizer = CollaborativeTokenizer(backbone.trie)
        popularity = Popularity(splits.train, 12)
        fit_backbone(
            backbone,
            FitSettings(
                objective=arm.objective,
                training=dataclasses.replace(CONFIG, accumulate=accumulate),
                evaluation=EvaluationConfig(validation_targets=20),
                seed=0,
            ),
            StoredDistributions(teacher_mass(popularity, tokenizer, splits.train)),
            splits,
            folder=tmp_path / str(accumulate),
            lineage=LINEAGE,
            title="test",
        )
    loss = Objective(arm.objective)
    for batch in backbone.windows(splits.train).epoch(40, np.random.default_rng([0, 0])):
        parts = [part.target_items for part in batch.split(3)]
        counts.append({int(loss.positions(backbone.trie, items).count) for items in parts})
    assert any(len(found) > 1 for found in counts)
    whole, in_parts = (json.loads((tmp_path / n / "state.json").read_text()) for n in "13")
    for epoch, same in zip(whole["history"], in_parts["history"], strict=True):
        assert same == pytest.approx(epoch, rel=1e-5)
    expected, found = (load_file(tmp_path / n / "model.safetensors") for n in "13")
    for name, value in expected.items():
        if not name.endswith("query_key_value.bias"):  # no loss depends on those of keys
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5, msg=name)


class Running(torch.nn.Module):
    """An objective that keeps a number, which every batch moves halfway to its own."""

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(8.0))

    def step(self, target: Tensor) -> None:
        self.value = (self.value + target) / 2


@pytest.mark.parametrize("counted", [[1, 1, 2], [0, 3, 1], [2, 0, 0], [0, 0, 0]])
def test_means_over_parts_are_weighted_and_a_part_without_positions_has_no_say(
    tmp_path: Path, counted: list[int]
) -> None:
    weight = torch.nn.Parameter(torch.tensor([[1.0]]))
    made, objective = torch.nn.ParameterList([weight]), Running()
    parts = iter(zip(counted, (1.0, 2.0, 6.0), strict=True))
    gradients: list[float] = []
    weight.register_post_accumulate_grad_hook(lambda w: gradients.append(float(w.grad)))

    def loss(batch: TrainBatch) -> ObjectiveOutput:
        count, slope = next(parts)
        objective.step(torch.tensor(slope))
        value = weight.sum() * (slope if count else 0.0)
        part = torch.tensor(slope)
        return ObjectiveOutput(loss=value, parts={"part": part}, count=torch.tensor(count))

    windows = Windows.per_sequence(random_sequences(12, 3), 6)
    state = train(
        made,
        config=TrainingConfig(epochs=1, batch_events=999, accumulate=3, lr=1e-9),
        seed=0,
        task=TrainingTask(
            windows=windows,
            loss=loss,
            validate=lambda: 1.0,
            objective=objective,
        ),
        folder=tmp_path,
        lineage=LINEAGE,
        title="test",
    )
    total = sum(counted)
    mean = sum(c * slope for c, slope in zip(counted, (1.0, 2.0, 6.0), strict=True))
    mean = mean / total if total else 0.0
    assert gradients[-1] == pytest.approx(mean)
    assert state.history[0]["part"] == state.history[0]["loss"] == pytest.approx(mean)
    assert float(objective.value) == pytest.approx((8.0 + mean) / 2 if total else 8.0)
