"""One model trained from data in memory."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_models import CONFIGS, TRAINING, shop

from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.config import CompareConfig
from baselines.experiments.single import train_model
from baselines.models.recommender import Recommender
from semid.config import IdsConfig


def test_data_in_memory_give_the_folder_their_name(tmp_path: Path) -> None:
    config = CompareConfig(
        out=str(tmp_path / "model"),
        arms=("causal:ntp",),
        seeds=(0,),
        ids=IdsConfig(codebook_sizes=(4, 4)),
        backbones=CONFIGS,
        training=TRAINING,
        evaluation=EvaluationConfig(beam=10, validation_beam=5, validation_targets=20),
    )
    dataset = shop()
    trained = train_model(config, dataset)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["data"] == dataset.name
    again = train_model(config, dataset)
    assert again.state == trained.state, "nothing is trained again"
    history = dataset.catalog.item_ids[:2]
    assert len(Recommender.from_pretrained(tmp_path / "model").recommend([history], k=3)[0]) == 3
