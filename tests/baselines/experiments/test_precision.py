"""Precision ``auto``: decided when a folder is begun, written there, and kept on any processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baselines.cli import main
from baselines.runtime import precision

TINY = [
    *("--data", "synthetic:40x32", "--ids.codebook_sizes", "[4,4]", "--counted", "false"),
    *("--arms", "[causal:ntp,causal:soft_ce:0.5]", "--seeds", "[0]"),
    *("--training.epochs", "1", "--backbones.causal.encoder.dim", "8"),
    *("--evaluation.beam", "10", "--evaluation.validation_targets", "20"),
]
TEACHER = ["--teacher.sasrec.encoder.dim", "8", "--teacher.sasrec.encoder.num_layers", "1"]


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Processor:
    return Processor(monkeypatch)


class Processor:
    """What the machine answers."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def prefers(self, name: str) -> None:
        self._patch.setattr(precision, "is_bfloat16_faster", lambda device: name == "bf16")


def compare(out: Path, *options: str) -> int:
    epochs = ["--teacher_training.epochs", "1"]
    return main(["compare", "--out", str(out), *TINY, *TEACHER, *epochs, *options])


def train_teachers(out: Path, *options: str, seeds: str = "[0]") -> int:
    command = ["teacher", "train", "--data", "synthetic:40x32", "--out", str(out)]
    return main([*command, *TEACHER, "--training.epochs", "1", "--seeds", seeds, *options])


def models(out: Path) -> dict[str, tuple[bytes, float]]:
    """Weights of each model below a folder, and when they were written."""
    return {
        path.relative_to(out).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in out.rglob("model.safetensors")
    }


def recorded(out: Path) -> set[str]:
    """The precisions that the models below a folder were trained in, as their lineage has them."""
    records = [json.loads(path.read_text()) for path in out.rglob("provenance.json")]
    trained = [record["config"] for record in records if "training" in record["config"]]
    assert trained
    return {config["training"]["precision"] for config in trained}


def settings(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "config.json").read_text())
    return found


@pytest.mark.parametrize(("first", "then"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_comparison_keeps_the_precision_it_was_begun_with_on_another_processor(
    first: str, then: str, processor: Processor, tmp_path: Path
) -> None:
    processor.prefers(first)
    assert compare(tmp_path) == 0
    trained, table = models(tmp_path), (tmp_path / "comparison.md").read_text()
    assert recorded(tmp_path) == {first}
    assert settings(tmp_path)["training"]["precision"] == first
    assert settings(tmp_path)["teacher_training"]["precision"] == first
    assert f"| precision | {first} |" in table
    processor.prefers(then)
    for path in tmp_path.rglob("state.json"):
        if path.parent.name == "causal-soft_ce-0.5-0":  # as if it had been killed before this arm
            path.unlink()
    assert compare(tmp_path) == 0
    assert recorded(tmp_path) == {first}
    assert {name: weights for name, (weights, _) in models(tmp_path).items()} == {
        name: weights for name, (weights, _) in trained.items()
    }
    assert f"| precision | {first} |" in (tmp_path / "comparison.md").read_text()


def test_a_comparison_begun_by_earlier_defaults_goes_on_with_nothing_trained_again(
    processor: Processor, tmp_path: Path
) -> None:
    earlier = ["--teacher_training.precision", "bf16", "--training.precision", "fp32"]
    assert compare(tmp_path, *earlier) == 0
    trained = models(tmp_path)
    assert len(trained) == 3
    processor.prefers("fp32")
    assert compare(tmp_path) == 0
    assert models(tmp_path) == trained
    assert settings(tmp_path)["teacher_training"]["precision"] == "bf16"
    assert "| precision | fp32, teacher bf16 |" in (tmp_path / "comparison.md").read_text()


def test_a_named_precision_is_taken_on_any_processor_and_refused_in_a_folder_of_the_other(
    processor: Processor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processor.prefers("bf16")
    named = ["--teacher_training.precision", "fp32", "--training.precision", "fp32"]
    assert compare(tmp_path, *named) == 0
    assert recorded(tmp_path) == {"fp32"}
    assert compare(tmp_path, "--training.precision", "bf16") == 2
    assert "holds a comparison with other settings (training.precision)" in capsys.readouterr().err


def test_a_folder_of_teachers_goes_on_as_it_was_begun_for_every_seed(
    processor: Processor, tmp_path: Path
) -> None:
    processor.prefers("bf16")
    assert train_teachers(tmp_path) == 0
    first = models(tmp_path)
    processor.prefers("fp32")
    assert train_teachers(tmp_path, seeds="[0,1]") == 0
    assert recorded(tmp_path) == {"bf16"}
    assert len(models(tmp_path)) == 2
    assert first.items() <= models(tmp_path).items()


def test_other_teachers_in_a_folder_do_not_decide(processor: Processor, tmp_path: Path) -> None:
    processor.prefers("bf16")
    assert train_teachers(tmp_path) == 0
    processor.prefers("fp32")
    assert train_teachers(tmp_path, "--training.lr", "2e-3") == 0
    assert recorded(tmp_path) == {"bf16", "fp32"}


@pytest.mark.parametrize("there", ["bf16", "fp32"])
@pytest.mark.parametrize("here", ["bf16", "fp32"])
def test_a_comparison_takes_a_teacher_that_others_have_trained_as_it_is(
    there: str, here: str, processor: Processor, tmp_path: Path
) -> None:
    teachers, out = tmp_path / "teachers", tmp_path / "out"
    assert train_teachers(teachers, "--training.precision", there) == 0
    trained = models(teachers)
    processor.prefers(here)
    assert compare(out, "--teachers", str(teachers)) == 0
    assert models(teachers) == trained
    assert settings(out)["teacher_training"]["precision"] == there
    assert settings(out)["training"]["precision"] == here


def test_of_two_shared_teachers_the_one_in_float32_is_taken_on_every_processor(
    processor: Processor, tmp_path: Path
) -> None:
    for each in ("bf16", "fp32"):
        assert train_teachers(tmp_path / "teachers", "--training.precision", each) == 0
    processor.prefers("bf16")
    assert compare(tmp_path / "out", "--teachers", str(tmp_path / "teachers")) == 0
    assert settings(tmp_path / "out")["teacher_training"]["precision"] == "fp32"


def test_a_hybrid_goes_on_with_the_collaborative_teacher_it_was_begun_with(
    processor: Processor, tmp_path: Path
) -> None:
    hybrid = ["--teacher.model", "hybrid"]
    processor.prefers("bf16")
    assert train_teachers(tmp_path, *hybrid) == 0
    trained = models(tmp_path)
    processor.prefers("fp32")
    assert train_teachers(tmp_path, *hybrid) == 0
    assert models(tmp_path) == trained
