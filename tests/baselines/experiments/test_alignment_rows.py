"""Fused rows, controls and agreement in a whole comparison: what is trained and what is not."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from baselines.backbones.config import CausalConfig
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.config import CompareConfig, FusionConfig
from baselines.experiments.controls import pairs_of_seeds
from baselines.experiments.report import comparison_table
from baselines.experiments.run import run_comparison
from baselines.models.config import BackboneConfigs
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig, TeacherConfig
from baselines.training.config import TrainingConfig
from semid.config import IdsConfig

ENCODER = EncoderConfig(dim=8, num_layers=1, num_heads=1, ff_dim=8)
FUSED = FusionConfig(arms=("all",), weights=(0.3, 0.7), controls=True)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    """The settings of a finished comparison without any fusion."""
    folder = tmp_path_factory.mktemp("fusion")
    world = synthetic_dataset(num_users=40, num_items=32, num_categories=2)
    write_plain_layout(world, folder / "shop")
    config = CompareConfig(
        data=str(folder / "shop"),
        out=str(folder / "plain"),
        ids=IdsConfig(codebook_sizes=(4, 4)),
        arms=("causal:ntp", "causal:soft_ce:0.5"),
        seeds=(0, 1),
        teacher=TeacherConfig(sasrec=SASRecConfig(max_history=9, encoder=ENCODER)),
        teacher_training=TrainingConfig(epochs=2),
        backbones=BackboneConfigs(causal=CausalConfig(max_history=9, encoder=ENCODER)),
        training=TrainingConfig(epochs=2),
        evaluation=EvaluationConfig(beam=10, validation_beam=5, validation_targets=20),
        counted=False,
    )
    run_comparison(config)
    return config


@pytest.fixture(scope="module")
def fused(plain: CompareConfig, tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    """The same with fusions and controls added to it."""
    out = shutil.copytree(plain.out, tmp_path_factory.mktemp("fusion") / "fused")
    config = dataclasses.replace(plain, out=str(out), fusion=FUSED)
    run_comparison(config)
    return config


def rows(config: CompareConfig) -> dict[str, dict[str, Any]]:
    found = json.loads((Path(config.out) / "comparison.json").read_text())
    return {row["arm"]: row for row in found["rows"]}


def written(config: CompareConfig, pattern: str) -> dict[str, int]:
    """When each file was written."""
    out = Path(config.out)
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in out.rglob(pattern)}


def test_a_fused_row_stands_after_its_arm_and_controls_at_the_end(fused: CompareConfig) -> None:
    assert [(row["arm"], row["seeds"]) for row in rows(fused).values()] == [
        ("Popularity", [None]),
        ("SASRec ce (teacher)", [0, 1]),
        ("Causal ntp", [0, 1]),
        ("Causal ntp, teacher in the beam", [0, 1]),
        ("Causal+TCA soft_ce alpha=0.5", [0, 1]),
        ("Causal+TCA soft_ce alpha=0.5, teacher in the beam", [0, 1]),
        ("SASRec ce, two seeds (control)", [0]),
        ("Causal ntp, two seeds (control)", [0]),
        ("Causal+TCA soft_ce alpha=0.5, two seeds (control)", [0]),
    ]


def test_fusion_is_added_to_a_finished_comparison_without_training(
    plain: CompareConfig, fused: CompareConfig
) -> None:
    assert set(written(fused, "model.safetensors")) == set(written(plain, "model.safetensors"))
    before, after = rows(plain), rows(fused)
    for arm, row in before.items():
        for name in ("metrics", "consistency", "parameters", "train_seconds"):
            assert after[arm][name] == row[name]


def test_a_fused_row_tells_its_weight_and_how_it_was_chosen(fused: CompareConfig) -> None:
    found = rows(fused)
    for arm in ("Causal ntp", "Causal+TCA soft_ce alpha=0.5"):
        row = found[f"{arm}, teacher in the beam"]
        for told in row["evaluations"]:
            tried = told["fusion"]["validation"]
            assert set(tried) == {"0.3", "0.7"}
            assert tried[f"{told['fusion']['weight']:g}"] == max(tried.values())
            assert told["certificate"]["illegal"] == 0
        assert row["metrics"] != found[arm]["metrics"]
        assert row["parameters"] == (
            found[arm]["parameters"] + found["SASRec ce (teacher)"]["parameters"]
        )
        assert row["train_seconds"] == found[arm]["train_seconds"]


def test_the_page_shows_weights_and_agreement(fused: CompareConfig) -> None:
    page = (Path(fused.out) / "comparison.md").read_text()
    weights = page.split("## Teacher in the beam")[1]
    for told in (row for row in rows(fused).values() if "fusion" in row["evaluations"][0]):
        chosen = ", ".join(f"{one['fusion']['weight']:g}" for one in told["evaluations"])
        assert f"| {told['arm']} | {chosen} |" in weights
    agreement = page.split("## Agreement with the teacher")[1].split("##")[0]
    assert agreement.count("\n| Causal") == 6
    assert "generator's weight, teacher in the beam | 0.3, 0.7 by validation N@10, beam 10" in page


def test_the_console_shows_the_weights(plain: CompareConfig, fused: CompareConfig) -> None:
    def shown(config: CompareConfig) -> str:
        console = Console(width=300, record=True, file=io.StringIO())
        console.print(comparison_table(run_comparison(config)))
        return console.export_text()

    row = rows(fused)["Causal ntp, teacher in the beam"]
    weights = ", ".join(f"{told['fusion']['weight']:g}" for told in row["evaluations"])
    assert f"2 seeds, weight {weights}" in shown(fused)
    assert "weight" not in shown(plain)


def test_agreement_is_with_the_teacher_of_the_same_seed(fused: CompareConfig) -> None:
    for arm, row in rows(fused).items():
        for told in row["evaluations"]:
            if arm == "Popularity" or arm.endswith("(teacher)"):
                assert "agreement" not in told
                continue
            agreement = told["agreement"]
            assert 0 <= agreement["top-1"] <= 1
            assert 0 <= agreement["overlap@10"] <= 1
            hits = agreement["hits@10"]
            assert sum(hits.values()) == pytest.approx(1)
        if row["consistency"] is not None:
            tops = [told["agreement"]["top-1"] for told in row["evaluations"]]
            assert row["consistency"]["mean"] == pytest.approx(sum(tops) / len(tops))
    one_seed = rows(fused)["Causal ntp"]
    hits = [told["agreement"]["hits@10"] for told in one_seed["evaluations"]]
    recall = sum(hit["both"] + hit["recommender_only"] for hit in hits) / len(hits)
    assert recall == pytest.approx(one_seed["metrics"]["removed"]["R@10"]["mean"])


def test_going_on_decodes_only_what_is_missing(fused: CompareConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(
        fused, out=str(shutil.copytree(fused.out, tmp_path / "out", copy_function=shutil.copy2))
    )
    before, times = rows(config), written(config, "*.safetensors")
    lost = next(Path(config.out).glob("causal-ntp-1/fused-*/weight-*.safetensors"))
    lost.unlink()
    (Path(config.out) / "comparison.json").unlink()
    run_comparison(config)
    after = rows(config)
    for row in (*before.values(), *after.values()):
        for told in row["evaluations"]:
            del told["test_seconds"]
    assert after == before
    again = written(config, "*.safetensors")
    assert {name for name in again if again[name] != times[name]} == {
        str(lost.relative_to(config.out))
    }


def test_another_grid_tries_only_what_is_new(fused: CompareConfig, tmp_path: Path) -> None:
    wider = dataclasses.replace(
        fused,
        out=str(shutil.copytree(fused.out, tmp_path / "out")),
        fusion=FusionConfig(arms=("causal:ntp",), weights=(0.7, 1.0)),
    )
    run_comparison(wider)
    found = rows(wider)
    assert not any("control" in arm for arm in found)
    assert "Causal+TCA soft_ce alpha=0.5, teacher in the beam" not in found
    before = rows(fused)["Causal ntp, teacher in the beam"]["evaluations"]
    after = found["Causal ntp, teacher in the beam"]["evaluations"]
    for old, new in zip(before, after, strict=True):
        assert set(new["fusion"]["validation"]) == {"0.7", "1"}
        assert new["fusion"]["validation"]["0.7"] == old["fusion"]["validation"]["0.7"]


def test_the_whole_weight_on_the_generator_is_the_arm_itself(
    fused: CompareConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        fused,
        out=str(shutil.copytree(fused.out, tmp_path / "out")),
        fusion=FusionConfig(arms=("causal:ntp",), weights=(1.0,)),
    )
    run_comparison(config)
    found = rows(config)
    assert found["Causal ntp, teacher in the beam"]["metrics"] == found["Causal ntp"]["metrics"]
    page = (Path(config.out) / "comparison.md").read_text()
    assert "| Causal ntp, teacher in the beam | 1, 1 |" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": FusionConfig(arms=("tiger:ntp",))}, "got 'tiger:ntp'"),
        ({"fusion": FUSED, "seeds": (0,)}, "controls need at least two seeds"),
    ],
)
def test_a_fusion_that_cannot_be_leaves_no_folder(
    plain: CompareConfig, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = dataclasses.replace(plain, out=str(tmp_path / "out"))
    with pytest.raises(ValueError, match=message):
        run_comparison(dataclasses.replace(config, **changes))
    assert not (tmp_path / "out").exists()


def test_seeds_go_in_pairs_and_none_is_alone() -> None:
    assert pairs_of_seeds((3, 5)) == [(3, 5)]
    assert pairs_of_seeds((0, 1, 2)) == [(0, 1), (1, 2), (2, 0)]
