"""Arms on two schemes at once: their rows, picking and growing, and what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from baselines.backbones.config import CausalConfig
from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.arms import Arm
from baselines.experiments.config import CompareConfig, FusionConfig
from baselines.experiments.folder import ComparisonFolder
from baselines.experiments.picking import FinishedComparison
from baselines.experiments.run import run_comparison
from baselines.models.config import BackboneConfigs
from baselines.models.other_data import rank_on
from baselines.models.trained import TrainedModel
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig, TeacherConfig
from baselines.training.config import TrainingConfig
from semid.config import IdsConfig

ENCODER = EncoderConfig(dim=8, num_layers=1, num_heads=1, ff_dim=8)
DATASET = synthetic_dataset(num_users=40, num_items=32, num_categories=2)
BOTH = "causal@text+random:soft_ce:0.5"
TINY = CompareConfig(
    schemes={
        "text": IdsConfig(codebook_sizes=(4, 4)),
        "random": IdsConfig(scheme="random", codebook_sizes=(16, 4), collisions="keep"),
    },
    arms=("causal@text:soft_ce:0.5", BOTH),
    seeds=(0,),
    counted=False,
    teacher=TeacherConfig(sasrec=SASRecConfig(max_history=9, encoder=ENCODER)),
    teacher_training=TrainingConfig(epochs=1),
    backbones=BackboneConfigs(causal=CausalConfig(max_history=9, encoder=ENCODER)),
    training=TrainingConfig(epochs=1),
    evaluation=EvaluationConfig(beam=10, validation_beam=5, validation_targets=20),
    fusion=FusionConfig(arms=(BOTH,), weights=(0.5, 1.0)),
)
LABEL = "Causal@text+random+TCA soft_ce alpha=0.5"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of one set that has grown by an arm of two."""
    here = tmp_path_factory.mktemp("runs")
    write_plain_layout(DATASET, here / "shop")
    config = dataclasses.replace(TINY, data=str(here / "shop"), out=str(here / "run"))
    run_comparison(dataclasses.replace(config, arms=config.arms[:1], fusion=FusionConfig()))
    run_comparison(config)
    return here / "run"


def test_such_an_arm_is_a_row_beside_the_one_of_one_scheme(out: Path) -> None:
    table = json.loads((out / "comparison.json").read_text())
    rows: dict[str, Any] = {row["arm"]: row for row in table["rows"]}
    assert {LABEL, f"{LABEL}, teacher in the beam", "Causal@text+TCA soft_ce alpha=0.5"} <= set(
        rows
    )
    assert [card["name"] for card in table["schemes"]] == ["text", "random"]
    (evaluation,) = rows[LABEL]["evaluations"]
    assert len(evaluation["item_weight"]["validation"]) == 6
    folder = out / "causal@text+random-soft_ce-0.5-0"
    assert (folder / "second_ids").is_dir()
    provenance = json.loads((folder / "provenance.json").read_text())
    of_random = json.loads((out / "ids-random" / "provenance.json").read_text())
    assert provenance["inputs"]["second_ids"] == of_random["content"]


def metrics(out: Path) -> dict[str, Any]:
    table = json.loads((out / "comparison.json").read_text())
    return {row["arm"]: row["metrics"] for row in table["rows"]}


def test_the_same_command_again_trains_nothing(out: Path) -> None:
    weights = {path: path.stat().st_mtime_ns for path in out.glob("causal*/model.safetensors")}
    before = metrics(out)
    run_comparison(ComparisonFolder.read(out).config)
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert metrics(out) == before


@pytest.mark.parametrize("with_card", [True, False])
def test_it_is_picked_as_a_model_that_ranks_as_the_table_has_it(
    out: Path, tmp_path: Path, with_card: bool
) -> None:
    card = out / "causal@text+random-soft_ce-0.5-0" / "model.json"
    written = card.read_text()
    if not with_card:
        card.unlink()  # as in a run that was killed before
    found = FinishedComparison(out)
    found.model(found.choose(LABEL, 0)).save(tmp_path / "model")
    card.write_text(written)
    model = TrainedModel.load(tmp_path / "model")
    ranks, _ = rank_on(model, DATASET)
    value = float(ranks.metrics("removed", model.spec.evaluation.ties)["N@10"].mean())
    assert metrics(out)[LABEL]["removed"]["N@10"]["mean"] == pytest.approx(value, abs=1e-6)


def test_the_folder_builds_it_with_both_sets(out: Path) -> None:
    folder = ComparisonFolder.read(out)
    (arm,) = (arm for arm in folder.arms if arm.second)
    assert folder.fresh(arm, 0).second_trie is not None


@pytest.mark.parametrize("backbone", ["tiger", "causal"])
def test_a_backbone_that_learns_one_set_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], backbone: str
) -> None:
    options = ["--data", "synthetic", "--out", str(tmp_path / "out"), "--seeds", "[0]"]
    schemes = "{a: {scheme: random}, b: {scheme: atomic}}"
    arms = f"['{backbone}@a+b:ntp']"
    by_code = ["--backbones.causal.input", "code"]
    assert main(["compare", *options, "--schemes", schemes, "--arms", arms, *by_code]) == 2
    assert "two sets of IDs need a backbone that learns both" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/teachers/*"))


@pytest.mark.parametrize("named", ["a+", "+b", "a+a", "a+b+c"])
def test_anything_but_two_different_names_is_refused(named: str) -> None:
    with pytest.raises(ValueError, match="one scheme after @, or two different ones joined by"):
        Arm.parse(f"causal@{named}:ntp", masked=True, tau=1.0)


def test_an_unknown_second_scheme_is_named(tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY, out=str(tmp_path), arms=("causal@text+rnadom:ntp",), fusion=FusionConfig()
    )
    with pytest.raises(ValueError, match=r"'rnadom'.*Did you mean random"):
        run_comparison(config, DATASET)


def test_the_counterpart_has_the_same_two_sets() -> None:
    texts = ("causal@text:ntp", "causal@text+random:ntp", "causal@random+text:ntp", BOTH)
    arms = [Arm.parse(text, masked=True, tau=1.0) for text in texts]
    assert arms[3].counterpart(arms) == arms[1]
    assert [arm.folder for arm in arms[:2]] == ["causal@text-ntp", "causal@text+random-ntp"]
