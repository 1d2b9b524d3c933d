"""One model trained from data in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_models import CONFIGS, TRAINING, shop

from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison
from baselines.experiments.single import train_model
from baselines.models.recommender import Recommender
from semid.checks import ContractError
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


def test_a_metric_that_breaks_its_contract_stops_the_run_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rising.py").write_text(
        "from baselines.evaluation import RankMetric\n"
        "class Rising(RankMetric):\n"
        "    symbol = 'X'\n"
        "    def of_rank(self, rank, cutoff):\n"
        "        return 1.0 * rank * (rank < cutoff)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for settings in ({"metrics": ("recall", "rising:Rising")}, {"selected_by": "rising:Rising@5"}):
        config = CompareConfig(
            out=str(tmp_path / "run"), arms=("causal:ntp",), evaluation=EvaluationConfig(**settings)
        )
        for run in (run_comparison, train_model):
            with pytest.raises(ContractError, match=r"rising:Rising .* clause 'order'"):
                run(config, shop())
            assert not (tmp_path / "run").exists()
