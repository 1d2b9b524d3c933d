"""Language-model arms from the command line: trained, resumed, ranked and refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from tiny_lm import write_model
from tiny_shop import compare, rows, write_shop_model

from baselines.data.loading import load_dataset, write_plain_layout
from semid.provenance import Provenance

ARMS = "lm:msl,lm:soft_ntp:0.1:tau=4.5"


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_titles_and_codes_train_and_evaluate_beside_their_teacher(
    shop: Path, model: Path, tmp_path: Path, items: str
) -> None:
    out = tmp_path / "out"
    options = ("--backbones.lm.items", items, "--fusion.arms", "[lm:msl]")
    assert compare(shop, model, out, *options, arms=ARMS, epochs=2) == 0
    found = rows(out)
    settings = json.loads((out / "comparison.json").read_text())["settings"]
    assert settings["language model"] == f"{model}, writes {items}"
    assert {"LM msl", "LM+TCA soft_ntp alpha=0.1 tau=4.5"} < found.keys()
    for arm in ("lm-msl-0", "lm-soft_ntp-0.1-tau4.5-0"):
        state = json.loads((out / arm / "state.json").read_text())
        assert state["history"][1]["loss"] < state["history"][0]["loss"]
        weights = load_file(out / arm / "model.safetensors")
        assert all("lora_" in name or name.startswith("added.") for name in weights)
        assert ("added.rows" in weights) == (items == "codes")
        certificate = json.loads((out / arm / "test.json").read_text())
        assert certificate["illegal"] == 0
        assert certificate["recall"]["100"] == 1, "a beam as wide as the catalogue misses nothing"
        made_from = Provenance.read(out / arm).inputs
        assert {"base", "paths", "prompts"} <= made_from.keys()
        assert ("teacher" in made_from) == ("soft_ntp" in arm)
    assert ("mass" in {path.name for path in out.iterdir()}) == (items == "codes")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert compare(shop, model, out, *options, arms=ARMS, epochs=2) == 0
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert after == before, "nothing is done twice"


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_what_the_released_code_does_is_an_arm_of_its_own(
    shop: Path, model: Path, tmp_path: Path, items: str
) -> None:
    out, name = tmp_path / "out", "lm-soft_ntp-0.1-tau4.5"
    arms = "{0}, {0}:reference=linear+end+bfloat16".format("lm:soft_ntp:0.1:tau=4.5")
    assert compare(shop, model, out, "--backbones.lm.items", items, arms=arms) == 0
    label = "LM+TCA soft_ntp alpha=0.1 tau=4.5"
    assert {label, f"{label} reference=bfloat16+end+linear"} < rows(out).keys()
    weights = [
        load_file(out / folder / "model.safetensors")
        for folder in (f"{name}-0", f"{name}-referencebfloat16+end+linear-0")
    ]
    assert any(not torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    assert len(list((out / "mass").glob("mass-*"))) == (2 if items == "codes" else 0)


def test_a_base_that_has_changed_is_refused(
    shop: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moving = tmp_path / "model"
    write_shop_model(shop, moving)
    assert compare(shop, moving, tmp_path / "out", arms="lm:msl") == 0
    write_shop_model(shop, moving, seed=1)
    assert compare(shop, moving, tmp_path / "out", arms="lm:msl") == 2
    assert "the model in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": None}, "title"),
        ({"title": "empty"}, "titles with at least one token, got 1 items"),
        ({"model": ""}, "Name a folder or a hub id with --backbones.lm.model"),
        ({"model": "./nothing/is/here"}, "cannot be loaded"),
        ({"kind": "t5"}, "expected a causal language model"),
        ({"end": None}, "a tokenizer with an end token"),
        ({"chat": True}, "a tokenizer with a chat template"),
        ({"max_length": 12}, "Raise max_length"),
        ({"target": "lm_head"}, "between embedding and output matrix"),
        ({"target": "c_attn"}, "c_attn"),
        ({"quantize": "4bit"}, "needs bitsandbytes"),
        ({"shard": True, "lora.r": 0}, "shard needs a frozen"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_used_is_refused_in_one_line_before_anything_is_trained(
    shop: Path,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    said: str,
) -> None:
    options: tuple[str, ...] = ()
    if "title" in change:
        shop = changed(shop, tmp_path / "shop", empty=change["title"] == "empty")
    if "end" in change:
        model = write_model(tmp_path / "model", ["a title"], end=None)
    if "kind" in change:
        model = shutil.copytree(model, tmp_path / "model")
        (model / "config.json").write_text(json.dumps({"model_type": change["kind"]}))
    if "model" in change:
        options = ("--backbones.lm.model", change["model"])
    for name in ("chat", "max_length", "quantize", "shard", "lora.r"):
        if name in change:
            options += (f"--backbones.lm.{name}", str(change[name]).lower())
    if "target" in change:
        options = ("--backbones.lm.lora.target", change["target"])
    assert compare(shop, model, tmp_path / "out", *options, arms="lm:ntp") == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def changed(shop: Path, folder: Path, *, empty: bool) -> Path:
    """The same shop with an item without title, or with none at all."""
    dataset = load_dataset(shop)
    write_plain_layout(dataset, folder)
    items = pl.read_parquet(folder / "items.parquet")
    if empty:
        title = pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise(pl.col("title"))
        items = items.with_columns(title.alias("title"))
    else:
        items = items.drop("title")
    items.write_parquet(folder / "items.parquet")
    return folder


def test_full_fine_tuning_saves_the_whole_model(shop: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--backbones.lm.lora.r", "0", "--backbones.lm.gradient_checkpointing", "true")
    assert compare(shop, model, out, *options, arms="lm:ntp") == 0
    saved = load_file(out / "lm-ntp-0" / "model.safetensors")
    assert {"lm.model.embed_tokens.weight", "lm.lm_head.weight"} <= saved.keys()
    base = load_file(model / "model.safetensors")
    assert not torch.equal(saved["lm.lm_head.weight"], base["lm_head.weight"])
