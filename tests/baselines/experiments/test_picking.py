"""Rows of a finished comparison as models: the same ranks as the row, without data and run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.picking import FinishedComparison
from baselines.models.other_data import rank_on
from baselines.models.trained import TrainedModel
from baselines.teachers.fitted import FittedTeacher

KEPT = Path(__file__).parent / "golden" / "kept"  # of version 0.1: its arms have no parts
FUSED, PAIR = "Causal ntp, teacher in the beam", "Causal ntp, two seeds (control)"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison whose arms are whole, on data that are gone."""
    out = tmp_path_factory.mktemp("picking") / "run"
    shutil.copytree(KEPT, out)
    found = FinishedComparison(out)
    for each in found.candidates:
        if each.fused is None and each.other_seed is None:
            found.model(each).keep()
    config = json.loads((out / "config.json").read_text())
    config["data"] = "gone"
    (out / "config.json").write_text(json.dumps(config))
    return out


def kept_ranks(pattern: str) -> dict[str, Any]:
    (path,) = KEPT.glob(pattern)
    return load_file(path)


@pytest.mark.parametrize(
    ("row", "seed", "ranks", "partner"),
    [
        ("Causal ntp", 1, "causal-ntp-1/test.safetensors", None),
        ("Causal@random ntp", 0, "causal@random-ntp-0/test.safetensors", None),
        (FUSED, 0, "causal-ntp-0/fused-*/weight-*.safetensors", FittedTeacher),
        (PAIR, 0, "causal-ntp-0/beside-1-*.safetensors", TrainedModel),
    ],
)
def test_a_picked_row_ranks_as_the_table_has_it(
    run: Path, tmp_path: Path, row: str, seed: int, ranks: str, partner: type | None
) -> None:
    found = FinishedComparison(run)
    found.model(found.choose(row, seed)).save(tmp_path / "model")
    model = TrainedModel.load(tmp_path / "model")
    if partner is not None:
        assert model.partner is not None
        assert isinstance(model.partner.model, partner)
    dataset = synthetic_dataset(num_users=40, num_items=32)
    expected = kept_ranks(ranks)
    here, _ = rank_on(model, dataset)
    for policy in ("removed", "kept"):
        moved = here.better[policy] != expected[f"better/{policy}"]
        assert moved.sum() <= 2, "near ties may fall otherwise on another processor"
    assert model.about["row"] == row
    assert model.about["data"]["item_order"] == dataset.catalog.order_hash
    assert np.isfinite(model.about["metrics"]["removed"]["N@10"]["mean"])


def test_without_a_row_the_best_on_validation_is_picked(run: Path) -> None:
    found = FinishedComparison(run)
    best = max(each.validation for each in found.candidates if each.validation is not None)
    assert found.choose(None, None).validation == best
    assert found.choose(None, 0).seed == 0
    own = found.choose("TIGER ntp", None)
    values = {each.seed: each.validation for each in found.candidates if each.label == "TIGER ntp"}
    assert own.validation == max(value for value in values.values() if value is not None)


def test_a_run_of_an_older_version_is_completed_from_its_data(run: Path, tmp_path: Path) -> None:
    old = FinishedComparison(KEPT)
    old.model(old.choose("TIGER ntp", 0)).save(tmp_path / "old")
    new = FinishedComparison(run)
    new.model(new.choose("TIGER ntp", 0)).save(tmp_path / "new")
    one, other = (TrainedModel.load(tmp_path / name) for name in ("old", "new"))
    assert one.identity == other.identity
    assert one.items.counts.tolist() == other.items.counts.tolist()
    shutil.copytree(KEPT, tmp_path / "run")
    shutil.copy(run / "config.json", tmp_path / "run" / "config.json")
    gone = FinishedComparison(tmp_path / "run")
    with pytest.raises((ValueError, FileNotFoundError), match="gone"):
        gone.model(gone.choose("TIGER ntp", 0))


@pytest.mark.parametrize(
    ("row", "seed", "line"),
    [
        ("SASRec ce (teacher)", None, "which is no generator's"),
        ("SASRec ce, two seeds (control)", None, "which is no generator's"),
        ("Popularity", None, "Those are: Causal ntp; "),
        ("Causal npt", None, r"none of the table\. Did you mean Causal ntp"),
        ("Causal ntp", 7, "a seed out of 0, 1, got 7"),
    ],
)
def test_what_cannot_be_picked_is_refused(run: Path, row: str, seed: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        FinishedComparison(run).choose(row, seed)


def test_a_teacher_that_is_gone_is_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for teacher in (tmp_path / "run" / "teachers").glob("sasrec-0-*"):
        shutil.rmtree(teacher)
    found = FinishedComparison(tmp_path / "run")
    with pytest.raises(ValueError, match="expected the teacher of seed 0"):
        found.model(found.choose(FUSED, 0))
