"""Published recommenders from the command line, with and without TCA, on one training."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest
from tiny_shop import compare, rows

from baselines.evaluation.ranks import Ranks
from baselines.models.spec import ModelSpec
from semid.provenance import Provenance

pytestmark = pytest.mark.slow

PLAIN, TCA = "ntp:masked=false", "soft_ntp:0.1:masked=false"
ROUNDED = "lm:soft_ntp:0.1:reference=bfloat16"


def times(out: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


def test_what_is_trained_alike_is_trained_once_and_ranked_each_in_its_own_way(
    shop: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    names = ("lm", "tallrec", "d3", "bigrec")
    arms = [f"{name}:{objective}" for objective in (PLAIN, TCA) for name in names]
    options = ("--fusion.arms", f"[d3:{PLAIN},lm:{PLAIN}]", "--fusion.weights", "[0.5]")
    options += ("--backbones.lm.prompt_loss", "false")
    assert compare(shop, model, out, *options, arms=",".join(arms)) == 0
    folders = {path.name for path in out.iterdir() if path.name.endswith("-0")}
    assert folders == {"lm-ntp-maskedfalse-0", "lm-soft_ntp-0.1-maskedfalse-0"}
    found = rows(out)
    for label, note in {"LM": True, "TALLRec": True, "D3": True, "BIGRec": False}.items():
        for row in (f"{label} ntp masked=false", f"{label}+TCA soft_ntp alpha=0.1 masked=false"):
            assert ("certificate" in found[row]["evaluations"][0]) == note
    gains = json.loads((out / "comparison.json").read_text())["differences"]
    measured = {(one["arm"], one["reference"]) for one in gains}
    assert ("D3+TCA soft_ntp alpha=0.1 masked=false", "D3 ntp masked=false") in measured
    folder = out / "lm-ntp-maskedfalse-0"
    results = {name: Ranks.load(folder / f"test-{name}.safetensors") for name in names[1:]}
    plain = Ranks.load(folder / "test.safetensors")
    assert (results["d3"].top == plain.top).all()
    assert (results["tallrec"].top != plain.top).any()
    assert (results["bigrec"].top != plain.top).any()
    assert {path.name.partition("-")[2][:2] for path in folder.glob("fused*")} > {"d3"}
    assert len(list(folder.glob("fused*"))) == 2
    before = times(out)
    assert compare(shop, model, out, *options, arms=",".join(arms)) == 0
    assert times(out) == before, "nothing is done twice"


def test_tallrec_and_bigrec_learn_from_prompts_too_and_share_that(
    shop: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert compare(shop, model, out, arms="lm:ntp,tallrec:ntp,d3:ntp,bigrec:ntp") == 0
    folders = {path.name for path in out.iterdir() if path.name.endswith("-0")}
    assert folders == {"lm-ntp-0", "lm-ntp-prompt-0"}
    settings = {name: Provenance.read(out / name).config["shape"] for name in folders}
    assert "prompt_loss" not in settings["lm-ntp-0"], "the hash of older trainings"
    assert settings["lm-ntp-prompt-0"]["prompt_loss"] is True
    results = {path.name for path in (out / "lm-ntp-prompt-0").glob("test-*.safetensors")}
    assert results == {"test-tallrec.safetensors", "test-bigrec.safetensors"}
    said = "| loss on prompt tokens | TALLRec ntp, BIGRec ntp |"
    assert said in (out / "comparison.md").read_text()


def test_a_folder_from_before_prompts_had_a_loss_goes_on_as_it_was_begun(
    shop: Path, model: Path, tmp_path: Path
) -> None:
    out, arms = tmp_path / "out", "tallrec:ntp,lm:ntp"
    assert compare(shop, model, out, "--backbones.lm.prompt_loss", "false", arms=arms) == 0
    settings = (out / "config.json").read_text()
    kept = json.loads(settings)["backbones"]
    assert "prompt_loss" not in kept["lm"], "as older versions have written it"
    assert "curriculum" not in kept["llara"]
    found, before = rows(out), times(out)
    assert compare(shop, model, out, arms=arms) == 0
    assert times(out) == before, "nothing is trained again"
    assert (out / "config.json").read_text() == settings
    assert {arm: row["metrics"] for arm, row in rows(out).items()} == {
        arm: row["metrics"] for arm, row in found.items()
    }
    assert compare(shop, model, out, "--backbones.lm.prompt_loss", "true", arms=arms) == 0
    assert before.items() < times(out).items(), "others are trained beside those there are"


def test_the_order_of_arms_that_share_a_training_changes_nothing(
    shop: Path, model: Path, tmp_path: Path
) -> None:
    arms, found = ["bigrec:ntp", "tallrec:ntp", "lm:ntp"], []
    for number, order in enumerate((arms, arms[::-1])):
        out = tmp_path / str(number)
        assert compare(shop, model, out, arms=",".join(order)) == 0
        found.append({arm: row["metrics"] for arm, row in rows(out).items()})
    assert found[0] == found[1]


def test_a_recommender_alone_and_one_that_was_killed_end_alike(
    shop: Path, model: Path, tmp_path: Path
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert compare(shop, model, whole, arms="bigrec:ntp") == 0
    shutil.copytree(whole, resumed)
    (resumed / "comparison.json").unlink()
    for name in ("test-bigrec.safetensors", "test-bigrec.json"):
        (resumed / "lm-ntp-prompt-0" / name).unlink()
    assert compare(shop, model, resumed, arms="bigrec:ntp") == 0
    assert rows(resumed)["BIGRec ntp"]["metrics"] == rows(whole)["BIGRec ntp"]["metrics"]


def test_a_model_is_gone_before_the_next_is_loaded(
    shop: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build, built = ModelSpec.build, []

    def watched(*args: Any, **options: Any) -> Any:
        gc.collect()
        assert [made() for made in built] == [None] * len(built)
        backbone = build(*args, **options)
        built.append(weakref.ref(backbone))
        return backbone

    monkeypatch.setattr(ModelSpec, "build", watched)
    arms = f"lm:{PLAIN},bigrec:{PLAIN},yesno:{TCA},allmrec:{TCA},lm:{TCA}"
    options = ("--fusion.arms", f"[lm:{PLAIN}]", "--fusion.weights", "[0.5]")
    assert compare(shop, model, tmp_path / "out", *options, arms=arms) == 0
    assert len(built) == 5


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_questions_are_asked_about_the_teachers_best_and_counted(
    shop: Path, model: Path, tmp_path: Path, items: str
) -> None:
    out, arms = tmp_path / "out", f"yesno:{PLAIN},yesno:{TCA}"
    options = ("--backbones.lm.items", items, "--backbones.yesno.candidates", "3")
    assert compare(shop, model, out, *options, arms=arms, epochs=2) == 0
    found, teacher = rows(out), rows(out)["SASRec ce (teacher)"]
    labels = [f"TALLRec yes/no{row} masked=false" for row in (" ntp", "+TCA soft_ntp alpha=0.1")]
    for label in labels:
        row, told = found[label], found[label]["evaluations"][0]
        assert 0 <= told["questions"]["UAUC"] <= 1
        assert 0 <= told["questions"]["AUC"] <= 1
        assert "certificate" not in told
        assert row["parameters"] > teacher["parameters"], "it takes the teacher to serve it"
        for metric in ("R@5", "R@10"):  # only the order of the first three is its own
            assert row["metrics"]["kept"][metric] == teacher["metrics"]["kept"][metric]
    page = (out / "comparison.md").read_text()
    assert "## Yes or no" in page
    assert "| yes/no candidates | the teacher's 3 best items |" in page
    for folder in ("yesno-ntp-maskedfalse-0", "yesno-soft_ntp-0.1-maskedfalse-0"):
        assert {"teacher", "answers"} <= Provenance.read(out / folder).inputs.keys()
        state = json.loads((out / folder / "state.json").read_text())
        assert state["history"][1]["loss"] < state["history"][0]["loss"]
    before = times(out)
    assert compare(shop, model, out, *options, arms=arms, epochs=2) == 0
    assert times(out) == before


@pytest.mark.parametrize(
    ("arms", "options", "said"),
    [
        ("bigrec:ntp", ("--backbones.lm.items", "codes"), "BIGRec compares generated titles"),
        ("bigrec:ntp", ("--backbones.lm.lora.r", "0"), "Set --backbones.lm.lora.r"),
        ("bigrec:ntp", ("--backbones.bigrec.beams", "0"), "beams must be a whole number"),
        ("lm:ntp,bigrec:ntp", ("--fusion.arms", "[bigrec:ntp]"), "BIGRec ntp, which has no beam"),
        ("lm:ntp,bigrec:ntp", ("--fusion.arms", "[all]"), "BIGRec ntp, which has no beam"),
        ("yesno:ntp", ("--fusion.arms", "[all]"), "TALLRec yes/no ntp, which has no beam"),
        ("yesno:ntp", ("--backbones.yesno.candidates", "0"), "candidates must be a whole number"),
        (
            "yesno:ntp",
            ("--backbones.yesno.template", "{history}"),
            "{candidate} exactly once after it",
        ),
        ("yesno:ntp", ("--backbones.lm.max_history", "31"), "outside a window of 32 items"),
        ("allmrec:ntp", ("--backbones.lm.max_history", "31"), "outside a window of 32 items"),
        (ROUNDED, ("--teacher.model", "bert4rec"), "reference=bfloat16 needs a teacher whose"),
        (ROUNDED, ("--mass.top_k", "5"), "rounds the scores of all items, and mass.top_k 5 takes"),
        ("lm:soft_ntp:0.1", ("--teacher.model", "bert4rec", "--mass.top_k", "5"), "top_k needs a"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_is_trained(
    shop: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arms: str,
    options: tuple[str, ...],
    said: str,
) -> None:
    out = tmp_path / "out"
    assert compare(shop, model, out, *options, arms=arms) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not out.exists()
