"""Vectors from the files of other programs, brought into the order of a catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from semid.batched import VectorSource
from semid.build import ids_from_config, require_made_by
from semid.catalog import Catalog
from semid.config import IdsConfig
from semid.embed import Embeddings, read_embeddings
from semid.provenance import ProvenanceError, hash_arrays
from semid.vector_files import read_vector_file

ITEMS = ["a", "b", "c", "d", "e"]
VECTORS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
SHOP = Catalog(item_ids=ITEMS, fields=pl.DataFrame())
CONFIG = IdsConfig(codebook_sizes=(2, 2))


class _NotPlain:
    """What a checkpoint with more than tensors holds."""


def write_npy(path: Path, vectors: NDArray[Any]) -> str:
    np.save(path / "v.npy", vectors)
    return str(path / "v.npy")


def write_npz(path: Path, vectors: NDArray[Any]) -> str:
    np.savez(path / "v.npz", vectors)
    return str(path / "v.npz")


def write_named(path: Path, vectors: NDArray[Any]) -> str:
    np.savez(path / "n.npz", text=vectors, image=np.zeros((9, 2)))
    return f"{path / 'n.npz'}:text"


def write_pt(path: Path, vectors: NDArray[Any]) -> str:
    torch.save(torch.from_numpy(vectors).requires_grad_(), path / "v.pt")
    return str(path / "v.pt")


def write_checkpoint(path: Path, vectors: NDArray[Any]) -> str:
    state = {"item_emb.weight": torch.from_numpy(vectors), "dense.weight": torch.ones(2, 2)}
    torch.save({"epoch": 3, "state_dict": state}, path / "v.pth")
    return f"{path / 'v.pth'}:state_dict.item_emb.weight"


def write_safetensors(path: Path, vectors: NDArray[Any]) -> str:
    tensors = {"weight": torch.from_numpy(vectors.copy()), "bias": torch.zeros(3)}
    save_file(tensors, path / "v.safetensors")
    return str(path / "v.safetensors")


def write_parquet(path: Path, vectors: NDArray[Any]) -> str:
    pl.DataFrame(
        {"vector": vectors.tolist()}, schema={"vector": pl.List(pl.Float32)}
    ).write_parquet(path / "v.parquet")
    return str(path / "v.parquet")


Write = Callable[[Path, NDArray[Any]], str]
WRITERS: list[Write] = [
    write_npy,
    write_npz,
    write_named,
    write_pt,
    write_checkpoint,
    write_safetensors,
    write_parquet,
]
formats = pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)


@formats
def test_every_format_gives_the_same_vectors_and_ids(tmp_path: Path, write: Write) -> None:
    found = read_embeddings(write(tmp_path, VECTORS), SHOP)
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert found.provenance == Embeddings.from_array(VECTORS, SHOP).provenance
    source = write(tmp_path, VECTORS)
    expected = ids_from_config(replace(CONFIG, embeddings=write_npy(tmp_path, VECTORS)), SHOP)
    for fit_items in (None, 5):
        config = replace(CONFIG, embeddings=source, fit_items=fit_items)
        ids = ids_from_config(config, SHOP)
        assert ids.provenance.content == expected.provenance.content
        assert ids.provenance.inputs == expected.provenance.inputs
        require_made_by(ids, config, SHOP, where="ids")


@formats
@pytest.mark.parametrize("form", ["txt", "json", "npy"])
def test_rows_in_another_order_are_named_by_a_file(
    tmp_path: Path, write: Write, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    order = [3, 0, 4, 2, 1]
    named = [*(ITEMS[row] for row in order), "x", "y"]
    rows = np.concatenate([VECTORS[order], np.full((2, 3), np.nan, dtype=np.float32)])
    path = tmp_path / f"ids.{form}"
    if form == "txt":
        path.write_bytes("\ufeff".encode() + "\r\n".join(named).encode())
    elif form == "json":
        path.write_text(json.dumps(named))
    else:
        np.save(path, np.array(named))
    source = write(tmp_path, rows)
    found = read_embeddings(source, SHOP, path)
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert "2 rows of items that the catalogue lacks" in caplog.text
    assert "such as 'x', 'y'" in caplog.text
    (tmp_path / "plain").mkdir()
    plain = replace(CONFIG, embeddings=write_npy(tmp_path / "plain", VECTORS))
    expected = ids_from_config(plain, SHOP)
    for fit_items in (None, 5):
        config = replace(CONFIG, embeddings=source, embedding_ids=str(path), fit_items=fit_items)
        ids = ids_from_config(config, SHOP)
        assert ids.provenance.content == expected.provenance.content
        require_made_by(ids, config, SHOP, where="ids")


@pytest.mark.parametrize("kind", [pl.String, pl.Int32, pl.Float64])
def test_a_column_of_parquet_names_the_items(tmp_path: Path, kind: Any) -> None:
    order = [2, 1, 0]
    items = pl.Series("item_id", [str(row) for row in order]).cast(kind, strict=True)
    vector = pl.Series("emb", VECTORS[order]).cast(pl.Array(pl.Float32, 3))
    table = pl.DataFrame([items, vector, pl.Series("title", ["x", "y", "z"])])
    table.write_parquet(tmp_path / "v.parquet")
    catalog = Catalog(item_ids=[0, 1, 2], fields=pl.DataFrame())
    found = read_embeddings(tmp_path / "v.parquet", catalog)
    np.testing.assert_array_equal(found.vectors, VECTORS[:3])
    with pytest.raises(ValueError, match=r"ids once, got them in .*and apart from it"):
        read_embeddings(tmp_path / "v.parquet", catalog, tmp_path / "ids.txt")


def test_other_files_name_their_items_too(tmp_path: Path) -> None:
    named = np.array(ITEMS[::-1])
    np.savez(tmp_path / "v.npz", vectors=VECTORS[::-1], item_ids=named)
    torch.save({"ids": ITEMS[::-1], "v": torch.from_numpy(VECTORS[::-1].copy())}, tmp_path / "v.pt")
    each = {item: torch.from_numpy(VECTORS[row]) for row, item in enumerate(ITEMS)}
    torch.save(dict(reversed(each.items())), tmp_path / "each.pt")
    save_file(each, tmp_path / "each.safetensors")
    for name in ("v.npz", "v.pt", "each.pt", "each.safetensors"):
        np.testing.assert_array_equal(read_embeddings(tmp_path / name, SHOP).vectors, VECTORS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_numbers_of_other_types_are_converted(tmp_path: Path, dtype: torch.dtype) -> None:
    given = (100 * torch.from_numpy(VECTORS)).to(dtype)
    torch.save(given, tmp_path / "v.pt")
    save_file({"v": given}, tmp_path / "v.safetensors")
    for name in ("v.pt", "v.safetensors"):
        found = read_embeddings(tmp_path / name, SHOP).vectors
        np.testing.assert_array_equal(found, given.float().numpy())


@formats
@pytest.mark.parametrize("end", ["first", "last"])
def test_a_padding_row_of_zeros_is_recognised_and_said(
    tmp_path: Path, write: Write, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    zeros = np.zeros((1, 3), dtype=np.float32)
    parts = [zeros, VECTORS] if end == "first" else [VECTORS, zeros]
    source = write(tmp_path, np.concatenate(parts))
    found = read_embeddings(source, SHOP)
    np.testing.assert_array_equal(found.vectors, VECTORS)
    row = 0 if end == "first" else 5
    assert f"row {row} is all zeros: it is taken for a padding row" in caplog.text
    (tmp_path / "ids.txt").write_text("\n".join(ITEMS[::-1]))
    named = read_embeddings(source, SHOP, tmp_path / "ids.txt")
    np.testing.assert_array_equal(named.vectors, VECTORS[::-1])


def test_a_padding_row_may_have_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """RecBole's has one, and is not zero."""
    rows = np.concatenate([np.ones((1, 3), dtype=np.float32), VECTORS[::-1]])
    source = write_pt(tmp_path, rows)
    with pytest.raises(
        ValueError, match=r"5 items of the catalogue, got 6 rows in .*\.pt. Is there a padding"
    ):
        read_embeddings(source, SHOP)
    (tmp_path / "ids.json").write_text(json.dumps(["[PAD]", *ITEMS[::-1]]))
    found = read_embeddings(source, SHOP, tmp_path / "ids.json")
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert "1 rows of items that the catalogue lacks" in caplog.text
    assert "'[PAD]'" in caplog.text


@formats
def test_nan_is_refused_with_rows_and_items(tmp_path: Path, write: Write) -> None:
    broken = VECTORS.copy()
    broken[1, 0], broken[3, 2] = np.nan, np.inf
    source = write(tmp_path, broken)
    for config in (CONFIG, replace(CONFIG, fit_items=5)):
        with pytest.raises(ValueError, match="NaN or infinity in 2 rows, first in row 1, 3"):
            ids_from_config(replace(config, embeddings=source), SHOP)
    (tmp_path / "ids.txt").write_text("\n".join(ITEMS))
    with pytest.raises(ValueError, match=r"first in row 1, 3 \(items 'b', 'd'\) of .*/"):
        read_embeddings(source, SHOP, tmp_path / "ids.txt")


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("abcdd", "5 with 4 distinct in .*, such as 'd' in rows 3, 4. Keep one"),
        ("abcxy", r"none for 2 \(such as 'd', 'e'\)"),
        ("abcd", "for 4 ids, got 5 rows"),
    ],
)
def test_ids_that_do_not_fit_are_named(tmp_path: Path, named: str, message: str) -> None:
    (tmp_path / "ids.txt").write_text("\n".join(named) + "\n")
    with pytest.raises(ValueError, match=message):
        read_embeddings(write_npy(tmp_path, VECTORS), SHOP, tmp_path / "ids.txt")


def test_vectors_of_several_widths_are_refused(tmp_path: Path) -> None:
    lists = VECTORS.astype(float).tolist()
    lists[3] = lists[3][:2]
    table = pl.DataFrame({"item_id": ITEMS, "v": lists})
    table.write_parquet(tmp_path / "v.parquet")
    message = r"one width in .*, got 3 in most rows, but another in 1: 2 in row 3 \('d'\)"
    with pytest.raises(ValueError, match=message):
        read_embeddings(tmp_path / "v.parquet", SHOP)
    np.savez(tmp_path / "v.npz", **{item: np.ones(1 + (item == "e")) for item in ITEMS})
    with pytest.raises(ValueError, match=r"2 in row 4 \('e'\)"):
        read_embeddings(tmp_path / "v.npz", SHOP)


def test_files_that_are_not_clear_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", text=VECTORS, image=VECTORS)
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "code.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    pl.DataFrame({"item_id": ITEMS, "title": ITEMS}).write_parquet(tmp_path / "flat.parquet")
    pl.DataFrame({"v": [["a"]]}).write_parquet(tmp_path / "texts.parquet")
    halves = pl.DataFrame({"item_id": [1.0, 0.5], "v": [[1.0], [2.0]]})
    halves.write_parquet(tmp_path / "halves.parquet")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "v.txt").write_text("1 2")
    cases = {
        "two.npz": r"got text \(5, 3\), image \(5, 3\). Name one, such as .*two.npz:text",
        "two.npz:sound": "an array sound in .*two.npz, got text",
        "code.pt": r"expected arrays of numbers in .*code.pt, got .* \(Weights only load failed\)",
        "junk.npz": r"junk.npz, got .* \(This file contains pickled \(object\) data\). Was it",
        "broken.safetensors": "expected arrays of numbers in .*broken.safetensors",
        "flat.parquet": "column of vectors .* got none among item_id, title",
        "flat.parquet:v": "expected v as the column of vectors",
        "texts.parquet": "numbers in the lists v",
        "halves.parquet": r"halves.parquet: ids must be .* got 0.5 in row 1 .* column 'item_id'",
        "v.txt": "expected a file of vectors .*got .*v.txt",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message) as error:
            read_vector_file(str(tmp_path / name))
        assert not {"\n", "\x1b"} & set(str(error.value))
    with pytest.raises(FileNotFoundError, match=r"none.npz, which is not there"):
        read_vector_file(f"{tmp_path / 'none.npz'}:text")


def test_ids_need_a_file_of_vectors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"embedding_ids names the item .*got the embeddings lsa"):
        IdsConfig(embedding_ids="ids.txt")
    with pytest.raises(ValueError, match=r"cf_embedding_ids names .*got the cf_embeddings none"):
        IdsConfig(cf_embedding_ids="ids.txt")
    Embeddings.of(VECTORS, SHOP).save(tmp_path / "folder")
    with pytest.raises(ValueError, match="records its items"):
        read_embeddings(tmp_path / "folder", SHOP, tmp_path / "ids.txt")


def test_collaborative_vectors_have_ids_of_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "cf.npy", VECTORS[::-1])
    (tmp_path / "cf.txt").write_text("\n".join(ITEMS[::-1]))
    text = write_pt(tmp_path, VECTORS)
    config = replace(CONFIG, embeddings=text, cf_embeddings=str(tmp_path / "cf.npy"), cf_scale=1.0)
    ids = ids_from_config(replace(config, cf_embedding_ids=str(tmp_path / "cf.txt")), SHOP)
    assert ids.provenance.inputs["cf_embeddings"] == hash_arrays(VECTORS)


def test_a_folder_is_read_in_batches_and_held_to_its_record(tmp_path: Path) -> None:
    Embeddings.of(VECTORS, SHOP, seen="events").save(tmp_path / "folder")
    config = replace(CONFIG, embeddings=str(tmp_path / "folder"), fit_items=5)
    ids = ids_from_config(config, SHOP)
    assert ids.provenance.seen == "events"
    assert ids.provenance.inputs["embeddings"] == hash_arrays(VECTORS)
    others = Catalog(item_ids=ITEMS[::-1], fields=pl.DataFrame())
    with pytest.raises(ProvenanceError, match="item order of the embeddings"):
        ids_from_config(config, others)
    np.save(tmp_path / "folder" / "vectors.npy", VECTORS + 1)
    with pytest.raises(ProvenanceError, match=r"vectors\.npy was changed"):
        ids_from_config(config, SHOP)
    Embeddings.of(VECTORS, SHOP).provenance.write(tmp_path / "folder")  # without hashes of files
    with pytest.raises(ProvenanceError, match="content of the embeddings in"):
        VectorSource.of(str(tmp_path / "folder"), SHOP).inputs()
