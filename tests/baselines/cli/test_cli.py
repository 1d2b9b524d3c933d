"""The command line: what it writes and prints, and one line for whatever is wrong."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from semid.catalog import Catalog
from semid.embed import Embeddings
from semid.ids import SemanticIds

SCRIPTS = Path(__file__).parents[3] / "scripts"
EXAMPLES = sorted((SCRIPTS.parent / "examples").glob("*.yaml"))
TINY = """
data: shop
out: runs/tiny
ids: {codebook_sizes: [4, 4]}
arms: ["tiger:ntp", "tiger:soft_ce:0.5"]
seeds: [0]
teacher: {sasrec: {max_history: 9, encoder: {dim: 8, num_layers: 1, ff_dim: 8}}}
teacher_training: {epochs: 1}
backbones:
  tiger: {num_layers: 1, dim: 8, num_heads: 1, head_dim: 8, ff_dim: 8, max_history: 4}
training: {epochs: 1}
evaluation: {beam: 10, validation_beam: 5, validation_targets: 20}
resamples: 20
"""

SCHEMES = """
from dataclasses import dataclass

from semid import SemanticIdTokenizer


@dataclass(kw_only=True, eq=False)
class Float(SemanticIdTokenizer):
    codebook_sizes: tuple[int, ...] = (2,)

    def _fit(self, embeddings, cf_embeddings):
        return {}

    def _encode(self, embeddings, learned):
        return embeddings[:, :1]


class Cf(Float):
    uses_cf = True
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small shop, and settings that fit it."""
    folder = tmp_path_factory.mktemp("world")
    dataset = synthetic_dataset(num_users=40, num_items=32, num_categories=2)
    write_plain_layout(dataset, folder / "shop")
    (folder / "tiny.yaml").write_text(TINY)
    codes = {str(item): [f"<a_{item}>"] for item in dataset.catalog.item_ids}
    (folder / "codes.json").write_text(json.dumps(codes))
    (folder / "codes_of_others.json").write_text(json.dumps({"a": ["<a_1>"]}))
    broken = {"items": b"PAR1 no table PAR1", "interactions": b"nothing like parquet"}
    for name, data in broken.items():
        shutil.copytree(folder / "shop", folder / f"broken_{name}")
        (folder / f"broken_{name}" / f"{name}.parquet").write_bytes(data)
    for name in broken:
        file = Path(shutil.copytree(folder / "shop", folder / f"unnamed_{name}"))
        file /= f"{name}.parquet"
        pl.read_parquet(file).drop("item_id").write_parquet(file)
    vectors = np.random.default_rng(0).normal(size=(33, 4))
    np.save(folder / "padded.npy", vectors)
    np.save(folder / "same.npy", np.ones((32, 4)))
    vectors[3, 0] = np.nan
    np.save(folder / "nan.npy", vectors[:32])
    (folder / "schemes.py").write_text(SCHEMES)
    (folder / "unreadable.py").write_text("class Scheme:")
    shutil.copytree(folder / "shop", folder / "one")
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    items[:1].write_parquet(folder / "one" / "items.parquet")
    (folder / "broken.yaml").write_text("data: [")
    (folder / "codes.parquet").write_bytes(b"PAR1 no table PAR1")
    return folder


@pytest.fixture
def folder(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of one's own that shows the same files."""
    for path in world.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_build_writes_ids_and_prints_their_quality(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--data", "shop", "--out", "ids", "--ids.codebook_sizes", "[4,4]"]) == 0
    printed = capsys.readouterr().out
    assert "perplexity" in printed
    assert "after; 0 moved" in printed
    assert "semantic ids: ids" in printed
    ids = SemanticIds.load("ids")
    assert (len(ids), ids.sizes[:2], ids.scheme) == (32, (4, 4), "rqkmeans")


def test_a_shop_that_grew_keeps_the_ids_it_has(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "shop", folder / "young")
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    young, youth = items.head(26), items.head(29)
    young.write_parquet(folder / "young" / "items.parquet")
    sizes = ["--ids.codebook_sizes", "[8,8]"]
    assert main(["build", "--data", "young", "--out", "ids", *sizes]) == 0
    youth.write_parquet(folder / "young" / "items.parquet")
    extend = ["build", "--extends", "ids", "--ids.collisions", "next_nearest"]
    assert main([*extend, "--data", "young", "--out", "more"]) == 0
    assert "before next_nearest, 0 after" in capsys.readouterr().out
    assert main([*extend, "--data", "shop", "--out", "all", "--extends", "more"]) == 0
    old, grown = SemanticIds.load("ids"), SemanticIds.load("all")
    assert grown.item_ids[:26] == old.item_ids
    assert set(grown.item_ids) == set(items["item_id"].to_list())
    assert grown.codes[:26].equal(old.codes)
    assert grown.sizes == old.sizes
    assert [made["items"] for made in grown.provenance.config["extended"]] == [3, 3]
    assert len(set(map(tuple, grown.codes.tolist()))) == 32

    assert main([*extend, "--data", "shop", "--out", "x", "--ids.scheme", "random"]) == 2
    assert "the scheme is the one that was saved in ids" in capsys.readouterr().err
    assert main([*extend, "--data", "shop", "--out", "x", "--ids.template", "x {title}"]) == 2
    assert "a different encoder or template" in capsys.readouterr().err


def test_ids_extended_by_no_item_in_their_own_folder_keep_their_tokenizer(folder: Path) -> None:
    command = ["build", "--data", "shop", "--out", "ids"]
    assert main(command) == 0
    again = [*command, "--extends", "ids", "--ids.collisions", "next_nearest"]
    before = SemanticIds.load("ids")
    assert [main(again), main(again)] == [0, 0]
    assert SemanticIds.load("ids").codes.equal(before.codes)
    assert (folder / "ids" / "tokenizer").is_dir()


def test_ids_of_another_catalogue_are_replaced_only_where_that_is_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "shop", folder / "other")
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    items.head(20).write_parquet(folder / "other" / "items.parquet")
    sizes = ["--ids.codebook_sizes", "[8,8]"]
    build = ["build", "--out", "ids", *sizes, "--data"]
    assert main([*build, "shop"]) == 0
    assert main([*build, "shop", "--tokenizer", "random"]) == 0, "the same items, made anew"
    before = SemanticIds.load("ids")
    assert main([*build, "other"]) == 2
    assert "ids holds the semantic ids of another catalogue" in capsys.readouterr().err
    assert SemanticIds.load("ids").provenance == before.provenance
    assert main([*build, "other", "--overwrite", "true"]) == 0
    assert len(SemanticIds.load("ids")) == 20
    extend = ["--extends", "ids", "--ids.collisions", "next_nearest", "--out", "ids"]
    assert main(["build", "--data", "shop", *extend]) == 0, "no item loses its id"
    assert len(SemanticIds.load("ids")) == 32
    catalog = Catalog(item_ids=list(range(32)), fields=pl.DataFrame())
    Embeddings.of(np.ones((32, 2)), catalog).save("vectors")
    assert main(["build", "--data", "shop", "--out", "vectors", *sizes]) == 2
    assert "vectors holds something else than semantic ids" in capsys.readouterr().err


def test_inspect_holds_a_folder_against_the_catalogue_it_is_given(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "shop", folder / "other")
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    items.head(20).write_parquet(folder / "other" / "items.parquet")
    assert main(["build", "--data", "shop", "--out", "ids", "--tokenizer", "random"]) == 0
    assert main(["inspect", "--ids", "ids", "--data", "shop"]) == 0
    capsys.readouterr()
    assert main(["inspect", "--ids", "ids", "--data", "other"]) == 2
    assert "semantic ids do not match the catalogue" in capsys.readouterr().err


def test_inspect_reads_a_file_of_codes_with_its_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("moved.npy", np.arange(64).reshape(32, 2) % 4 + np.array([0, 8]))
    inspect = ["inspect", "--ids", "moved.npy", "--data", "shop", "--json", "true"]
    assert main(inspect) == 2
    assert "Set offsets" in capsys.readouterr().err
    assert main([*inspect, "--settings", "{offsets: [0, 8]}"]) == 0
    assert [level["size"] for level in json.loads(capsys.readouterr().out)["levels"]] == [3, 4]
    assert main([*inspect, "--settings", "{seed: 1}"]) == 2
    assert "expected settings of a file of codes" in capsys.readouterr().err


def test_code_that_a_folder_of_ids_names_is_not_run(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["build", "--data", "shop", "--out", "ids"]) == 0
    path = folder / "ids" / "tokenizer" / "config.json"
    path.write_text(path.read_text().replace('"rqkmeans"', '"helper:X"'))
    (folder / "helper.py").write_text('open("ran", "w").close()')
    extend = ["build", "--data", "shop", "--out", "more", "--extends", "ids"]
    assert main([*extend, "--ids.collisions", "next_nearest"]) == 2
    assert "semid: " in capsys.readouterr().err
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("config.json", "{}"),
        ("config.json", "[]"),
        ("config.json", '{"scheme": 3, "sizes": [4]}'),
        ("provenance.json", '{"kind": 1, "content": 2}'),
        ("provenance.json", "[]"),
        ("semantic_ids.parquet", "PAR1"),
        ("tokenizer/config.json", "{}"),
        ("tokenizer/config.json", "[" * 100_000),
        ("tokenizer/provenance.json", "{}"),
    ],
)
def test_a_damaged_folder_of_ids_is_one_line_that_names_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str], file: str, text: str
) -> None:
    assert main(["build", "--data", "shop", "--out", "ids"]) == 0
    (folder / "ids" / file).write_text(text)
    capsys.readouterr()
    extend = ["build", "--data", "shop", "--out", "more", "--extends", "ids"]
    assert main([*extend, "--ids.collisions", "next_nearest"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("semid: ")
    assert f"ids/{file}" in said


def test_inspect_tells_the_same_of_a_folder_as_build_and_reads_files_of_codes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["build", "--data", "shop", "--out", "ids", "--ids.scheme", "random"])
    built = capsys.readouterr().out
    assert main(["inspect", "--ids", "ids"]) == 0
    assert built.startswith(capsys.readouterr().out)
    assert main(["inspect", "--ids", "codes.json", "--data", "shop", "--json", "true"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert (card["items"], card["distinct"]) == (32, 32)
    assert card["levels"][0]["used"] == 32


def test_inspect_fits_a_scheme_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(folder.iterdir())
    command = ["inspect", "--tokenizer", "rqkmeans", "--data", "shop", "--json", "true"]
    assert main([*command, "--codebook_sizes", "[4,3]", "--settings", "{iterations: 2}"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert [level["size"] for level in card["levels"]] == [4, 3], "collisions are left in"
    assert set(folder.iterdir()) == before


def test_inspect_asks_neighbours_in_any_space(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for name in ("text.npy", "cf.npy"):
        np.save(name, rng.normal(size=(32, 4)))
    spaces = ["--embeddings", "text.npy", "--cf_embeddings", "cf.npy"]
    fitted = ["inspect", "--tokenizer", "rqkmeans", "--data", "shop", *spaces]
    assert main([*fitted, "--json", "true"]) == 0
    found = json.loads(capsys.readouterr().out)["neighbours"]
    assert found["embeddings"]["auc"] > 0.6, "they are what the scheme was fitted on"
    assert 0.4 < found["cf_embeddings"]["auc"] < 0.6
    assert main(["inspect", "--ids", "codes.json", "--data", "shop", *spaces]) == 0
    printed = capsys.readouterr().out
    assert "embeddings: codes in common with the 10 nearest items, AUC 0.500" in printed
    assert "nearest items" in printed


@pytest.mark.parametrize("scheme", [["--tokenizer", "random"], ["--ids.scheme", "random"]])
def test_tokenizer_is_short_for_the_scheme_of_the_ids(
    scheme: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "--data", "shop", "--out", "ids", *scheme]) == 0
    assert SemanticIds.load("ids").scheme == "random"
    options = ["--ids.codebook_sizes", "[4,4]", "--print_config"]
    for command in ("build", "compare"):
        assert main([command, "--data", "shop", "--out", "ids", *scheme, *options]) == 0
        assert "scheme: random" in capsys.readouterr().out
        assert main([command, "--help"]) == 0
        assert "--tokenizer" in capsys.readouterr().out


def test_the_path_for_modules_is_put_back(folder: Path) -> None:
    before = list(sys.path)
    assert main(["inspect", "--tokenizer", "random", "--data", "shop"]) == 0
    assert sys.path == before


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
    assert main(["compare", "--config", "tiny.yaml", "--teachers", "teachers"]) == 0
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


def test_schemes_stand_beside_each_other_in_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schemes = "{codes: {scheme: 'file:codes.json'}, random: {scheme: random}}"
    arms = "[tiger@codes:ntp, tiger@random:ntp]"
    assert main([*COMPARE, "--schemes", schemes, "--arms", arms]) == 0
    printed = capsys.readouterr().out
    assert "TIGER@codes" in printed
    assert "TIGER@random" in printed
    assert "| @codes | file:codes.json | 33 |" in Path("out/comparison.md").read_text()


def test_compare_prints_both_tables_and_where_the_files_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", "mine", "--ids.scheme", "file:codes.json", "--seeds", "[3]"]
    assert main(["compare", "--config", "tiny.yaml", *options]) == 0
    printed = capsys.readouterr().out
    for text in ("Seen items removed", "Seen items kept", "Popularity", "(teacher)", "soft_ce"):
        assert text in printed
    assert "files: mine/comparison.md, comparison.json, per_user.parquet" in printed
    settings = json.loads(Path("mine/config.json").read_text())
    assert settings["seeds"] == [3], "an option wins over the file"
    assert settings["training"]["epochs"] == 1
    assert Path("mine/comparison.md").read_text().startswith("# Comparison")
    found = json.loads(Path("mine/comparison.json").read_text())
    assert found["settings"]["ids"] == "file:codes.json, sizes 33"


COMPARE = ["compare", "--config", "tiny.yaml", "--out", "out"]
EXPORT = ["teacher", "export", "--data", "shop", "--teachers", "none", "--out", "out"]
TRAIN = ["teacher", "train", "--data", "shop", "--out", "out", "--teacher.model", "hybrid"]
LM = ["lm", "train", "--data", "shop", "--out", "out"]
BUILD = ["build", "--data", "shop", "--out", "out"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ([], "expected a command out of build, inspect, teacher train"),
        (["bild"], "got bild. Did you mean build?"),
        ([*COMPARE, "--arm", "x"], "unrecognized option --arm. Did you mean --arms?"),
        ([*COMPARE, "x"], "unrecognized argument 'x'"),
        ([*COMPARE, "--seeds"], "--seeds needs a value"),
        (["build", "--out", "out"], "required: data"),
        ([*COMPARE, "--seeds", "[a]"], "seeds must be a list, each a whole number, got"),
        (["compare", "--config", "none.yaml"], "File does not exist"),
        (["compare", "--config", "broken.yaml"], "Problems parsing config"),
        ([*COMPARE, "--data", "nowhere"], "no folder nowhere"),
        ([*COMPARE, "--data", "broken_items"], "items.parquet cannot be read as parquet"),
        ([*COMPARE, "--data", "broken_interactions"], "interactions.parquet cannot be read"),
        ([*COMPARE, "--data", "unnamed_items"], "items.parquet has no column item_id"),
        ([*COMPARE, "--data", "unnamed_interactions"], "has no column item_id"),
        ([*COMPARE, "--split", "windows"], "expected one file train"),
        (
            [*COMPARE, "--arms", "[tigre:ntp]"],
            "expected an arm backbone[@scheme]:obj",
        ),
        ([*COMPARE, "--arms", "[tiger:soft_ce:1.5]"], "alpha must be a number of at least 0"),
        ([*COMPARE, "--seeds", "[0,0]"], "expected every seed once"),
        ([*COMPARE, "--temperature", "0"], "temperature must be a number of at least 1e-06"),
        ([*COMPARE, "--ids.scheme", "kmean"], "expected a tokenizer out of"),
        ([*COMPARE, "--ids.scheme", "file:codes_of_others.json"], "file of another catalogue"),
        ([*BUILD, "--ids.scheme", "file:none.json"], "which does not exist"),
        ([*BUILD, "--ids.scheme", "file:codes.parquet"], "codes.parquet cannot be read"),
        ([*BUILD, "--ids.settings", "{depth: 3}"], "expected settings of rqkmeans"),
        ([*BUILD, "--ids.codebook_sizes", "[0]"], "must be a whole number from 1"),
        ([*BUILD, "--ids.template", "{colour}"], "must name columns in braces"),
        ([*BUILD, "--ids.embeddings", "none.npy"], "which is not there"),
        (["build", "--data", "shop", "--out", "shop"], "holds other files"),
        ([*BUILD, "--tokenizer", "no_such_file:Scheme"], "No module named 'no_such_file'"),
        ([*BUILD, "--tokenizer", "unreadable:Scheme"], "unreadable.py, line 1"),
        ([*BUILD, "--tokenizer", "rqkmeans", "--ids.codebook_sizes", "[64]"], "at most 32"),
        ([*BUILD, "--tokenizer", "rqkmeans", "--ids.embeddings", "same.npy"], "1 distinct"),
        ([*BUILD, "--tokenizer", "rqvae", "--ids.embeddings", "same.npy"], "1 distinct"),
        ([*BUILD, "--ids.embeddings", "nan.npy"], "NaN or infinity in 1 rows, first in row 3"),
        ([*BUILD, "--ids.embeddings", "padded.npy"], "got 33 rows"),
        ([*BUILD, "--ids.codebook_sizes", "[99999999999999999999]"], "from 1 to 2147483647"),
        ([*BUILD, "--ids.cf_embeddings", "same.npy"], "expected no cf_embeddings for rqkmeans"),
        ([*BUILD, "--tokenizer", "schemes:Cf"], "expected cf_embeddings for schemes:Cf"),
        ([*BUILD, "--tokenizer", "schemes:Cf", "--ids.cf_embeddings", "padded.npy"], "33 rows"),
        ([*BUILD, "--tokenizer", "schemes:Float"], "clause 'dtype'"),
        (["build", "--data", "one", "--out", "out"], "1 distinct embeddings of 1 items"),
        (["inspect"], "either --ids or --tokenizer"),
        (["inspect", "--tokenizer", "random"], "add --data FOLDER to random"),
        (["inspect", "--ids", "shop", "--settings", "{seed: 1}"], "Name a scheme by --tokenizer"),
        (["inspect", "--ids", "ids", "--codebook_sizes", "[4]"], "name it by --tokenizer"),
        (["inspect", "--tokenizer", "schemes:Float", "--data", "shop"], "clause 'dtype'"),
        (
            ["inspect", "--tokenizer", "random", "--data", "shop", "--cf_embeddings", "padded.npy"],
            "got 33 rows",
        ),
        (["inspect", "--ids", "none"], "no folder or file of semantic ids none"),
        (["inspect", "--ids", "codes.json"], "add --data FOLDER"),
        (["inspect", "--ids", "shop"], "expected an artefact folder"),
        (["teacher"], "out of teacher train, teacher export, got teacher"),
        (["teacher", "--data", "shop"], "out of teacher train, teacher export, got teacher --data"),
        (["teacher", "train", "--data", "nowhere", "--out", "out"], "no folder nowhere"),
        (
            ["teacher", "train", "--data", "shop", "--out", "out", "--teacher.model", "bert"],
            "bert4rec",
        ),
        ([*TRAIN, "--teacher.hybrid.cf", "hybrid"], "hybrid.cf"),
        (
            [*TRAIN, "--teacher.hybrid.half_items", "0"],
            "teacher.hybrid.half_items must be a",
        ),
        ([*COMPARE, "--mass.top_k", "33"], "top_k must be at most the 32 items of the catalogue"),
        ([*COMPARE, "--arms", "[tiger:soft_ce:0.5:rise=2]"], "start and rise are shares"),
        (["lm"], "out of lm train, lm fluency, got lm"),
        (["lm", "fluency"], "run"),
        (["lm", "fluency", "--run", "shop"], "expected the folder of a comparison, got shop"),
        (
            [*TRAIN, "--training.accumulate", "0"],
            "training.accumulate must be a whole",
        ),
        (
            [*LM, "--texts.held_out", "0"],
            "texts.held_out must be a number above 0",
        ),
        ([*LM, "--texts.held_out", "0.99999"], "titles to hold out, got 0 and 32 of 32 items"),
        ([*LM, "--texts.title", "{colour}"], "must name columns in braces"),
        ([*LM, "--model.vocab_size", "200"], "model.vocab_size must be a whole number from 259"),
        ([*LM, "--out", "shop"], "expected an artefact folder"),
        ([*EXPORT, "--seed", "7"], "expected a trained teacher of seed 7 in none, got none"),
        ([*COMPARE, "--arms", "[tiger@x:ntp]"], "those in schemes (none), got 'x'"),
        ([*COMPARE, "--schemes", "{x: {scheme: kmean}}", "--arms", "[tiger@x:ntp]"], "a tokenizer"),
        ([*COMPARE, "--schemes", "{x: {depth: 3}}"], "depth"),
    ],
    ids=lambda value: " ".join(value)[-50:] if isinstance(value, list) else "",
)
def test_bad_input_gives_one_line_and_exit_code_2(
    command: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.startswith("semid: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not Path("out").exists(), "nothing is half-written"


def test_a_folder_of_another_comparison_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMPARE, "--arms", "[tiger:ntp]"]) == 0
    capsys.readouterr()
    assert main([*COMPARE, "--arms", "[tiger:ntp]", "--training.epochs", "2"]) == 2
    assert "holds a comparison with other settings (training.epochs)" in capsys.readouterr().err


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_lacks_nothing_but_its_data(
    example: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", "nowhere", "--out", str(tmp_path / "out")]
    assert main(["compare", "--config", str(example), *options]) == 2
    assert capsys.readouterr().err.startswith("semid: no folder nowhere")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("build_semids", "semantic id"),
        ("train_teacher", "Train a collaborative-filtering teacher"),
        ("compare_tca", "Train and rank every arm"),
    ],
)
def test_a_script_is_the_command_of_its_name(
    script: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", [f"{script}.py", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 0
    assert says in capsys.readouterr().out


def test_the_module_is_the_command_for_launchers_that_take_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["__main__.py", "compare", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(
            str(SCRIPTS.parent / "baselines" / "cli" / "__main__.py"), run_name="__main__"
        )
    assert ended.value.code == 0
    assert "Train and rank every arm" in capsys.readouterr().out


def test_a_script_hands_on_its_arguments_and_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["build_semids.py", "--data", "nowhere", "--out", "out"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "build_semids.py"), run_name="__main__")
    assert ended.value.code == 2
    assert "no folder nowhere" in capsys.readouterr().err
