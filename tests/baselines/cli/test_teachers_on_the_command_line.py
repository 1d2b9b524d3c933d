"""Teachers from the command line: training, export, blends, and what does not belong here."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file, save

from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.teachers.fit import scores_hash
from baselines.training.checkpoint import TrainingState, finish_training
from semid.embed import Embeddings
from semid.provenance import Provenance, read_json

TINY = """
data: shop
out: out
ids: {scheme: random, codebook_sizes: [4, 4]}
arms: ["tiger:soft_ce:0.5"]
seeds: [0]
teacher: {sasrec: {max_history: 9, encoder: {dim: 8}}}
teacher_training: {epochs: 1, patience: 4, batch_events: 1024}
teachers: teachers
backbones:
  tiger: {num_layers: 1, dim: 8, num_heads: 1, head_dim: 8, ff_dim: 8, max_history: 4}
training: {epochs: 1}
evaluation: {beam: 10, validation_beam: 5, validation_targets: 20}
counted: false
"""
COMPARE = ["compare", "--config", "tiny.yaml"]
SMALL = ["--teacher.sasrec.max_history", "9", "--teacher.sasrec.encoder.dim", "8"]
EPOCH = ["--training.epochs", "1"]
TRAINED = ["teacher", "export", "--data", "shop", "--teachers"]
TRAIN = ["teacher", "train", "--data", "shop", "--out", "teachers", *EPOCH, *SMALL]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a small shop, and settings that fit it."""
    dataset = synthetic_dataset(num_users=40, num_items=32, num_categories=2)
    write_plain_layout(dataset, tmp_path / "shop")
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    capsys.readouterr()
    assert main(command) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_trained_teacher_serves_a_comparison(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = "{sasrec: {max_history: 9, encoder: {dim: 8, num_layers: 1, ff_dim: 8}}}"
    (folder / "teacher.yaml").write_text(
        f"data: shop\nout: teachers\nteacher: {shape}\ntraining: {{epochs: 1}}\n"
    )
    assert main(["teacher", "train", "--config", "teacher.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "seen items removed" in printed
    assert "seen items kept" in printed
    made = {path: path.stat().st_mtime_ns for path in Path("teachers").rglob("*.safetensors")}
    assert len(made) == 1
    go_on = ["compare", "--config", "tiny.yaml", "--teachers", "teachers", "--counted", "false"]
    assert main(go_on) == 0
    assert made == {p: p.stat().st_mtime_ns for p in Path("teachers").rglob("*.safetensors")}


def test_any_teacher_is_trained_by_its_name_and_its_own_options(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["teacher", "train", "--data", "shop", "--out", "teachers", "--training.epochs", "1"]
    small = ["--teacher.gru4rec.dim", "8", "--teacher.gru4rec.hidden_dim", "9"]
    assert main([*train, "--teacher.model", "gru4rec", *small]) == 0
    assert "GRU4Rec" in capsys.readouterr().out
    (folder / "knn.yaml").write_text(
        "data: shop\nout: teachers\nteacher: {model: itemknn, itemknn: {decay: 0.5}}\n"
    )
    assert main(["teacher", "train", "--config", "knn.yaml"]) == 0
    assert "item-kNN" in capsys.readouterr().out
    assert {path.name.split("-")[0] for path in Path("teachers").iterdir()} == {
        "gru4rec",
        "itemknn",
    }
    (knn,) = Path("teachers").glob("itemknn-*")
    export = ["teacher", "export", "--data", "shop", "--teachers", str(knn), "--out", "vectors"]
    assert main(export) == 2
    assert "semid: item-kNN has no item vectors" in capsys.readouterr().err


def test_a_teacher_is_exported_as_item_vectors(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["teacher", "train", "--data", "shop", "--out", "teachers", "--training.epochs", "1"]
    assert main([*train, "--seeds", "[0,1]", "--teacher.sasrec.encoder.dim", "8"]) == 0
    export = ["teacher", "export", "--data", "shop", "--teachers", "teachers", "--out", "vectors"]
    capsys.readouterr()
    assert main([*export, "--seed", "1"]) == 0
    vectors = Embeddings.load("vectors")
    zero = int((vectors.vectors == 0).all(axis=1).sum())
    assert f"32 item vectors, {zero} of them zero: vectors" in capsys.readouterr().out
    assert vectors.vectors.shape == (32, 8)
    assert vectors.provenance.config["seed"] == 1


def test_a_hybrid_teaches_from_a_teacher_that_is_there(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(TRAIN) == 0
    (sasrec,) = Path("teachers").rglob("*.safetensors")
    made = sasrec.stat().st_mtime_ns
    assert main([*TRAIN, "--teacher.model", "hybrid"]) == 0
    assert "SASRec ce + content" in capsys.readouterr().out
    assert sasrec.stat().st_mtime_ns == made
    (own,) = Path("teachers").glob("hybrid-0-*")

    assert main([*COMPARE, "--teacher.model", "hybrid", "--temperature", "auto"]) == 0
    assert len(list(Path("teachers").glob("hybrid-0-*"))) == 1, "it is the one that was made"
    teacher = scores_hash(Provenance.read(own))
    (mass,) = Path("out/mass").iterdir()
    for artefact in (mass, Path("out/tiger-soft_ce-0.5-0")):
        assert Provenance.read(artefact).inputs["teacher"] == teacher
    assert "SASRec ce + content (teacher)" in Path("out/comparison.md").read_text()

    assert main([*TRAINED, str(own), "--out", "vectors"]) == 0
    (collaborative,) = Path("teachers").glob("sasrec-0-*")
    assert main([*TRAINED, str(collaborative), "--out", "of_cf"]) == 0
    its, of_cf = (Embeddings.load(folder).vectors for folder in ("vectors", "of_cf"))
    assert (its == of_cf).all(), "a hybrid has the vectors of its collaborative part"


def test_a_teacher_without_vectors_is_refused_before_it_is_trained(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learns = ["--ids.scheme", "letter", "--ids.cf_embeddings", "teacher", "--teachers", "other"]
    for teacher in (["itemknn"], ["hybrid", "--teacher.hybrid.cf", "popularity"]):
        said = refused([*COMPARE, *learns, "--teacher.model", *teacher], capsys)
        assert "cf_embeddings: teacher needs a teacher that learns item vectors" in said
    assert not Path("other").exists()


def test_a_teacher_that_does_not_belong_here_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shop / "shop", shop / "later")
    events = pl.read_parquet(shop / "shop" / "interactions.parquet")
    events.head(-1).write_parquet(shop / "later" / "interactions.parquet")
    shutil.copytree(shop / "shop", shop / "turned")
    items = pl.read_parquet(shop / "shop" / "items.parquet")
    items.reverse().write_parquet(shop / "turned" / "items.parquet")
    assert main(TRAIN) == 0
    export = ["teacher", "export", "--teachers", "teachers", "--out", "vectors", "--data"]
    assert "item order of the teacher" in refused([*export, "turned"], capsys)
    assert "may have seen held-out targets" in refused([*export, "later"], capsys)
    assert not Path("vectors").exists()
    assert main([*export, "later", "--other_interactions", "true"]) == 0


def test_a_teacher_whose_scores_are_no_numbers_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMPARE) == 0
    (own,) = Path("teachers").iterdir()
    weights = load_file(own / "model.safetensors")
    weights["item_embedding.weight"][3] = float("nan")
    (own / "model.safetensors").write_bytes(save(weights))
    fresh = [*COMPARE, "--out", "fresh"]
    assert "was changed after it was written" in refused(fresh, capsys)
    state = TrainingState(**(read_json(own / "state.json") or {}))
    finish_training(own, state, Provenance.read(own))
    said = refused(fresh, capsys)
    assert "scores of SASRec ce must be numbers or -inf, got nan for item 3 of history" in said


def test_best_items_of_a_teacher_without_vectors_are_refused_before_anything_is_trained(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--mass.top_k", "3", "--teacher.model", "itemknn"]
    said = refused([*COMPARE, *options], capsys)
    assert "top_k needs a teacher whose scores are dot products" in said
    assert not list(Path("out").glob("tiger-*"))


def test_rounded_scores_of_a_teacher_without_vectors_are_refused_before_anything_is_trained(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--arms", "[tiger:ntp, tiger:soft_ntp:0.1:reference=bfloat16]"]
    said = refused([*COMPARE, *options, "--teacher.model", "itemknn"], capsys)
    assert "reference=bfloat16 needs a teacher whose scores are dot products" in said
    assert not list(Path("out").glob("tiger-*"))


def test_a_cache_of_another_teacher_split_or_code_table_is_refused(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMPARE) == 0
    (cache,) = Path("out/mass").iterdir()
    shutil.rmtree("out/tiger-soft_ce-0.5-0")
    lineage = Provenance.read(cache)
    for what in ("teacher", "targets", "code_table"):
        other = {**lineage.inputs, what: "0" * 64}
        dataclasses.replace(lineage, inputs=other).write(cache)
        assert "the teacher mass in out/mass" in refused(COMPARE, capsys)
        assert not Path("out/tiger-soft_ce-0.5-0").exists()
    lineage.write(cache)
    assert main(COMPARE) == 0, "the right one is taken"


def test_codes_are_made_from_the_rules_of_the_teacher_beside_the_texts(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = ["--teacher.model", "rules+content", "--ids.scheme", "rqkmeans"]
    joint = [*COMPARE, *rules, "--ids.cf_embeddings", "teacher", "--ids.cf_scale", "1"]
    assert main(joint) == 0
    ids = Provenance.read(Path("out/ids"))
    vectors = Embeddings.load("out/teacher_vectors")
    assert ids.inputs["cf_embeddings"] == vectors.provenance.content
    assert ids.seen == vectors.provenance.seen is not None
    assert ids.config["cf_scale"] == 1
    assert main(joint) == 0, "the finished folder serves again"
    said = refused([*joint[:-1], "0.5"], capsys)
    assert "cf_scale" in said
    assert (
        main(["teacher", "export", "--data", "shop", "--teachers", "teachers", "--out", "v"]) == 0
    )
    assert (Embeddings.load("v").vectors == vectors.vectors).all()
    build = ["build", "--data", "shop", "--out", "built", "--tokenizer", "rqkmeans"]
    sizes = ["--ids.codebook_sizes", "[4,4]", "--ids.cf_embeddings", "v"]
    assert main([*build, *sizes, "--ids.cf_scale", "1"]) == 0
    assert Provenance.read(Path("built")).content == ids.content
    assert "or add them to the embeddings with a cf_scale" in refused([*build, *sizes], capsys)
