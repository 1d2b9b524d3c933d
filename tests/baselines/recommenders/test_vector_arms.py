"""Arms that read vectors of their teacher, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_shop import compare, rows

from semid.provenance import Provenance

pytestmark = pytest.mark.slow

NAMES = {"llara": "LLaRA", "collm": "CoLLM", "allmrec": "A-LLMRec"}
PROMPTS = (
    *("--backbones.collm.template", "{user}: {history}>"),
    *("--backbones.allmrec.template", "{user}: {history}>"),
)


@pytest.mark.parametrize(
    ("name", "items"), [*((name, "titles") for name in NAMES), ("allmrec", "codes")]
)
def test_each_trains_with_and_without_tca_beside_its_teacher(
    shop: Path, model: Path, tmp_path: Path, name: str, items: str
) -> None:
    out = tmp_path / "out"
    arms = f"{name}:ntp:masked=false,{name}:soft_ntp:0.1:tau=4.5"
    fused = ("--fusion.arms", f"[{name}:soft_ntp:0.1:tau=4.5]", "--fusion.weights", "[0.5]")
    options = (*PROMPTS, "--backbones.lm.items", items, *fused)
    assert compare(shop, model, out, *options, arms=arms, epochs=2) == 0
    found, label = rows(out), NAMES[name]
    aligned = f"{label}+TCA soft_ntp alpha=0.1 tau=4.5"
    expected = {f"{label} ntp masked=false", aligned, f"{aligned}, teacher in the beam"}
    assert expected < found.keys()
    for row in (f"{name}-ntp-maskedfalse-0", f"{name}-soft_ntp-0.1-tau4.5-0"):
        state = json.loads((out / row / "state.json").read_text())
        assert state["history"][1]["loss"] != state["history"][0]["loss"]
        inputs = Provenance.read(out / row).inputs
        assert {"base", "paths", "prompts_with_vectors", "item_vectors"} <= inputs.keys()
        assert "teacher" in inputs
        certificate = json.loads((out / row / "test.json").read_text())
        assert certificate["illegal"] == 0
        assert certificate["recall"]["100"] == 1, "a beam as wide as the catalogue misses nothing"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert compare(shop, model, out, *options, arms=arms, epochs=2) == 0
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert after == before, "nothing is done twice"


def trained_files(out: Path) -> list[Path]:
    """The weights of arms and their stages, not those of the teachers kept beside them."""
    found = out.glob("*-msl-0/**/model.safetensors")
    return sorted(path for path in found if path.parent.name != "teacher")


def test_two_runs_have_the_same_weights_and_rows(shop: Path, model: Path, tmp_path: Path) -> None:
    arms = "llara:msl,collm:msl,allmrec:msl"
    options = (*PROMPTS, "--training.epochs", "1")
    for run in ("a", "b"):
        assert compare(shop, model, tmp_path / run, *options, arms=arms) == 0
        torch.rand(3)
    files = {run: trained_files(tmp_path / run) for run in "ab"}
    assert len(files["a"]) == 5, "two have two stages"
    for first, second in zip(files["a"], files["b"], strict=True):
        weights = load_file(first), load_file(second)
        assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    found = [rows(tmp_path / run) for run in "ab"]
    teacher = found[0]["SASRec ce (teacher)"]["parameters"]
    for label in NAMES.values():
        assert found[0][f"{label} msl"]["parameters"] > teacher, "it is served with its teacher"
        assert found[0][f"{label} msl"]["metrics"] == found[1][f"{label} msl"]["metrics"]


def test_generators_of_two_seeds_each_read_their_own_teacher(
    shop: Path, model: Path, tmp_path: Path
) -> None:
    options = ("--fusion.arms", "[collm:msl]", "--fusion.controls", "true", "--seeds", "[0,1]")
    options += ("--fusion.weights", "[0.5]", "--training.epochs", "1")
    assert compare(shop, model, tmp_path / "out", *PROMPTS, *options, arms="collm:msl") == 0
    assert "CoLLM msl, two seeds (control)" in rows(tmp_path / "out")


@pytest.mark.parametrize(
    ("arm", "options", "said"),
    [
        ("llara:ntp", ("--teacher.model", "popularity"), "Popularity has no item vectors"),
        ("collm:ntp", ("--teacher.model", "bert4rec"), "BERT4Rec has no states of users"),
        ("allmrec:ntp", ("--teacher.model", "hybrid"), "no item vectors and no states of users"),
        (
            "collm:ntp",
            ("--backbones.collm.template", "{history}"),
            "must contain {user} exactly once",
        ),
        ("llara:ntp", ("--backbones.lm.model", ""), "Name a folder or a hub id"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_is_trained(
    shop: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arm: str,
    options: tuple[str, ...],
    said: str,
) -> None:
    assert compare(shop, model, tmp_path / "out", *PROMPTS, *options, arms=arm) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
