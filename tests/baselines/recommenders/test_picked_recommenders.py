"""Published recommenders as models of their own: picked from a table, they rank as it has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_shop import compare

from baselines.data.loading import load_dataset
from baselines.experiments.picking import FinishedComparison
from baselines.models.other_data import rank_on
from baselines.models.trained import TrainedModel

ROWS = {
    "LM ntp": "lm-ntp-0/test.safetensors",
    "BIGRec ntp": "lm-ntp-0/test-bigrec.safetensors",
    "LLaRA ntp": "llara-ntp-0/test.safetensors",
}


@pytest.fixture(scope="module")
def run(shop: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("picked") / "run"
    options = ("--backbones.lm.prompt_loss", "false")
    assert compare(shop, model, out, *options, arms="lm:ntp,bigrec:ntp,llara:ntp") == 0
    return out


@pytest.mark.parametrize("row", ROWS)
def test_a_row_that_shares_weights_or_reads_a_teacher_is_picked(
    run: Path, shop: Path, tmp_path: Path, row: str
) -> None:
    found = FinishedComparison(run)
    found.model(found.choose(row, None)).save(tmp_path / "model")
    ranks, _ = rank_on(TrainedModel.load(tmp_path / "model"), load_dataset(shop))
    expected = load_file(run / ROWS[row])
    for policy in ("removed", "kept"):
        np.testing.assert_array_equal(ranks.better[policy], expected[f"better/{policy}"])
