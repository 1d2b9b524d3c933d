import json
import logging
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from semid.build import build_semantic_ids
from semid.catalog import Catalog
from semid.embed import (
    Embeddings,
    LsaEncoder,
    SentenceTransformerEncoder,
    embed_catalog,
    read_embeddings,
)
from semid.ids import SemanticIds
from semid.interop import read_codes_file
from semid.provenance import ProvenanceError, hash_arrays, hash_ids
from semid.quality import id_quality
from semid.tokenizers import RQKMeans

TEXTS = ["red lipstick", "red lipstick matte", "dry shampoo", "shampoo for dry hair", "brush"]


def catalog_of(texts: Sequence[str] = TEXTS, first: int = 1) -> Catalog:
    item_ids = list(range(first, first + len(texts)))
    return Catalog(item_ids=item_ids, fields=pl.DataFrame({"title": list(texts)}))


class CountingEncoder:
    """Vectors of text lengths; counts how often it is asked."""

    def __init__(self, scale: float = 1.0) -> None:
        self.calls = 0
        self.scale = scale

    @property
    def config(self) -> dict[str, Any]:
        return {"encoder": "lengths", "scale": self.scale}

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls += 1
        return np.array([[self.scale * len(text)] for text in texts], dtype=np.float32)


def test_lsa_puts_like_texts_together() -> None:
    vectors = LsaEncoder(dim=4).encode(TEXTS)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -1)
    assert likeness.argmax(axis=1)[:4].tolist() == [1, 0, 3, 2]


def test_one_text_has_one_vector_in_every_unicode_form() -> None:
    title = "Crème brûlée torch"
    forms = [unicodedata.normalize("NFC", title), unicodedata.normalize("NFD", title)]
    vectors = LsaEncoder(dim=4).encode([*forms, *TEXTS])
    assert vectors[0].tolist() == pytest.approx(vectors[1].tolist(), abs=1e-6)
    fitted = LsaEncoder(dim=4).fit([forms[1], *TEXTS])
    assert fitted.encode(forms[:1]).tolist() == fitted.encode(forms[1:]).tolist()


def test_lsa_is_tf_idf_cut_to_its_strongest_directions() -> None:
    full = LsaEncoder(dim=5).encode(TEXTS)
    assert full.shape == (5, 5)
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"\b\w+\b", sublinear_tf=True)
    letters = TfidfVectorizer(ngram_range=(3, 5), analyzer="char_wb", sublinear_tf=True)
    rows = np.hstack([v.fit_transform(TEXTS).toarray() for v in (words, letters)])
    np.testing.assert_allclose(full @ full.T, rows @ rows.T / 2, atol=1e-5)


def test_lsa_gives_the_same_vectors_each_time() -> None:
    first, second = (LsaEncoder(dim=3).encode(TEXTS) for _ in range(2))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)


def test_lsa_is_narrower_where_there_are_fewer_texts() -> None:
    assert LsaEncoder(dim=128).encode(TEXTS[:2]).shape == (2, 2)
    assert LsaEncoder(dim=128).encode(["one"]).shape == (1, 1)


def test_lsa_rows_have_length_one_and_a_text_without_words_is_zero() -> None:
    vectors = LsaEncoder(dim=8).encode([*TEXTS, ""])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 1, 0], atol=1e-6)


def test_lsa_refuses_texts_without_any_word() -> None:
    with pytest.raises(ValueError, match="Choose a template"):
        LsaEncoder().encode(["", "..."])


@pytest.fixture(scope="session")
def sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model of a few random weights, made here."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("sentence_model")
    words = sorted({word for text in TEXTS for word in text.split()})
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])
    )
    config = BertConfig(
        vocab_size=5 + len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder / "bert")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    SentenceTransformer(str(folder / "bert"), device="cpu").save(str(folder / "model"))
    return folder / "model"


def test_a_local_sentence_model_embeds_each_text(sentence_model: Path) -> None:
    encoder = SentenceTransformerEncoder(name_or_path=str(sentence_model), device="cpu")
    together = encoder.encode(TEXTS)
    assert together.shape == (5, 8)
    assert together.dtype == np.float32
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS[:2]])
    np.testing.assert_allclose(together[:2], alone, atol=1e-5)


def test_texts_that_the_encoder_cuts_are_counted(
    sentence_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    word = TEXTS[0].split()[0]
    fits, long = " ".join([word] * 30), " ".join([word] * 31)  # 32 with the two of the encoder
    catalog = catalog_of([fits, long, f"{long} {TEXTS[1]}", word])
    encoder = SentenceTransformerEncoder(name_or_path=str(sentence_model), device="cpu")
    for source in ("encoder", "cache"):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            embeddings = embed_catalog(catalog, encoder, cache_dir=tmp_path)
        assert "2 of 4 texts are longer than what the encoder reads" in caplog.text, source
        assert embeddings.provenance.config["cut_texts"] == 2, source
        np.testing.assert_array_equal(embeddings.vectors[1], embeddings.vectors[2])
    ids = build_semantic_ids(RQKMeans(codebook_sizes=(2,)), embeddings, catalog)
    assert id_quality(ids)["cut_texts"] == 2
    ids.save(tmp_path / "ids")
    assert id_quality(SemanticIds.load(tmp_path / "ids"))["cut_texts"] == 2
    of_lsa = embed_catalog(catalog, LsaEncoder(dim=3))
    assert "cut_texts" not in of_lsa.provenance.config, "it reads all of a text"


def npy(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(96)


@pytest.mark.parametrize(
    "damaged",
    [
        npy("(6000000000, 400)"),
        npy("(3, -1)"),
        npy("(7, 400)"),
        b"PK\3\4" + bytes(40),
        b"\x93NUMPY\1\0" + (20).to_bytes(2, "little") + b"{'descr': '<f4', 'fo\n",
        b"",
    ],
    ids=["6e9 rows", "negative", "too short", "archive", "cut header", "empty"],
)
def test_a_damaged_npy_is_refused_in_one_line_that_names_it(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "m.npy").write_bytes(damaged)
    with pytest.raises(
        ValueError, match=r"expected a \.npy file of numbers, got .*m\.npy"
    ) as error:
        read_embeddings(tmp_path / "m.npy", catalog_of())
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"matrix of integers in .*m\.npy"):
        read_codes_file(tmp_path / "m.npy", catalog_of())


def test_a_local_model_is_known_by_its_files(sentence_model: Path) -> None:
    encoder = SentenceTransformerEncoder(name_or_path=str(sentence_model))
    before = encoder.config
    assert encoder.config == before
    (sentence_model / "note.txt").write_text("changed")
    assert encoder.config["files"] != before["files"]


def test_a_model_on_the_hub_is_known_by_name_and_revision() -> None:
    encoder = SentenceTransformerEncoder(name_or_path="someone/model", revision="v1")
    assert encoder.config["model"] == "someone/model"
    assert encoder.config["revision"] == "v1"


def test_embedding_a_catalogue_records_template_encoder_and_texts() -> None:
    embeddings = embed_catalog(catalog_of(), LsaEncoder(dim=3))
    assert embeddings.items == catalog_of().order_hash
    assert embeddings.provenance.content == hash_arrays(embeddings.vectors)
    assert embeddings.provenance.inputs == {"texts": hash_ids(TEXTS)}
    assert embeddings.provenance.config == {
        "encoder": "lsa",
        "dim": 3,
        "seed": 0,
        "template": "{title}",
    }


def test_equal_texts_are_encoded_once(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    first = embed_catalog(catalog_of(), encoder, cache_dir=tmp_path)
    again = embed_catalog(catalog_of(), encoder, cache_dir=tmp_path, template="{title}")
    assert encoder.calls == 1
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert first.provenance == again.provenance


def test_the_cache_knows_texts_and_encoder_but_not_item_ids(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    embed_catalog(catalog_of(), encoder, cache_dir=tmp_path)
    renamed = embed_catalog(catalog_of(first=100), encoder, cache_dir=tmp_path)
    assert encoder.calls == 1
    assert renamed.items == catalog_of(first=100).order_hash
    embed_catalog(catalog_of(TEXTS[::-1]), encoder, cache_dir=tmp_path)
    embed_catalog(catalog_of(), encoder, cache_dir=tmp_path, template="the {title}")
    assert encoder.calls == 3
    other = CountingEncoder(scale=2.0)
    embed_catalog(catalog_of(), other, cache_dir=tmp_path)
    assert other.calls == 1


def test_a_damaged_cache_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = CountingEncoder()
    first = embed_catalog(catalog_of(), encoder, cache_dir=tmp_path)
    for file in tmp_path.glob("*/vectors.npy"):
        np.save(file, first.vectors + 1)
    with caplog.at_level(logging.WARNING):
        again = embed_catalog(catalog_of(), encoder, cache_dir=tmp_path)
    assert encoder.calls == 2
    assert "embedding again" in caplog.text
    np.testing.assert_array_equal(first.vectors, again.vectors)


def test_an_encoder_that_loses_a_row_is_refused() -> None:
    class Losing(CountingEncoder):
        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return super().encode(texts)[1:]

    with pytest.raises(ValueError, match="5 items of the catalogue, got 4 rows"):
        embed_catalog(catalog_of(), Losing())


def test_save_then_load_gives_the_same_embeddings(tmp_path: Path) -> None:
    written = embed_catalog(catalog_of(), CountingEncoder())
    written.save(tmp_path / "embeddings")
    loaded = Embeddings.load(tmp_path / "embeddings")
    np.testing.assert_array_equal(loaded.vectors, written.vectors)
    assert (loaded.items, loaded.provenance) == (written.items, written.provenance)


def test_a_changed_artefact_is_refused(tmp_path: Path) -> None:
    embed_catalog(catalog_of(), CountingEncoder()).save(tmp_path / "embeddings")
    np.save(tmp_path / "embeddings" / "vectors.npy", np.zeros((5, 1), dtype=np.float32))
    with pytest.raises(ProvenanceError, match=r"vectors\.npy was changed"):
        Embeddings.load(tmp_path / "embeddings")


def test_an_array_in_catalogue_order_is_taken_as_it_is(tmp_path: Path) -> None:
    array = np.arange(10, dtype=np.float16).reshape(5, 2)
    np.save(tmp_path / "vectors.npy", array)
    embeddings = Embeddings.from_array(tmp_path / "vectors.npy", catalog_of())
    assert embeddings.vectors.dtype == np.float32
    np.testing.assert_array_equal(embeddings.vectors, array)
    assert embeddings.provenance.inputs == {"array": hash_arrays(array)}


@pytest.mark.parametrize("form", ["list", "json", "npy", "txt"])
def test_an_array_with_ids_is_brought_into_catalogue_order(tmp_path: Path, form: str) -> None:
    named = [5, 9, 1, 2, 3, 4]
    ids: Any = tmp_path / f"ids.{form}"
    if form == "list":
        ids = named
    elif form == "json":
        ids.write_text(json.dumps(named))
    elif form == "npy":
        np.save(ids, np.array(named))
    else:
        ids.write_text("".join(f"{item}\n" for item in named))
    array = np.array([[float(item)] for item in named])
    embeddings = Embeddings.from_array(array, catalog_of(), ids=ids)
    assert embeddings.vectors[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert set(embeddings.provenance.inputs) == {"array", "ids"}


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), r"\(item, dim\)"),
        (np.zeros((5, 0)), r"\(item, dim\)"),
        (np.full((5, 2), "a"), "of numbers"),
        (np.zeros((6, 2)), "got 6 rows in the array. Is there a padding row"),
        (np.full((5, 2), np.nan), "NaN or infinity in 5 rows, first in row 0"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(array: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embeddings.from_array(array, catalog_of())


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 2, 3, 4], "4 ids, got 5 rows"),
        ([1, 2, 3, 4, 4], "unique ids"),
        ([1, 2, 3, 4, 6], "none for 1 \\(such as '5'\\)"),
    ],
)
def test_ids_that_do_not_fit_are_refused(ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embeddings.from_array(np.zeros((5, 2)), catalog_of(), ids=ids)


def test_files_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not there"):
        Embeddings.from_array(tmp_path / "none.npy", catalog_of())
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(ValueError, match=r"numpy\.save"):
        Embeddings.from_array(tmp_path / "text.npy", catalog_of())
    np.savez(tmp_path / "many.npz", a=np.zeros((5, 2)), b=np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"a \(5, 2\), b \(5, 2\). Name one"):
        Embeddings.from_array(tmp_path / "many.npz", catalog_of())
    (tmp_path / "ids.json").write_text("{}")
    with pytest.raises(ValueError, match="JSON list"):
        Embeddings.from_array(np.zeros((5, 2)), catalog_of(), ids=tmp_path / "ids.json")


@pytest.mark.shared_data
def test_the_stored_vectors_fit_their_catalogue(shared_data: Path) -> None:
    folder = shared_data / "beauty"
    catalog = Catalog.read(folder / "items.parquet")
    embeddings = Embeddings.from_array(folder / "item_embeddings.lsa128.npy", catalog)
    assert embeddings.vectors.shape == (12_101, 128)


def test_vectors_are_read_from_a_file_or_a_folder(tmp_path: Path) -> None:
    embeddings = embed_catalog(catalog_of(), LsaEncoder(dim=3))
    np.save(tmp_path / "items.npy", embeddings.vectors)
    embeddings.save(tmp_path / "folder")
    read = read_embeddings(tmp_path / "items.npy", catalog_of())
    np.testing.assert_array_equal(read.vectors, embeddings.vectors)
    assert read_embeddings(tmp_path / "folder", catalog_of()).provenance == embeddings.provenance


def test_a_folder_of_vectors_of_other_items_is_refused(tmp_path: Path) -> None:
    embed_catalog(catalog_of(), LsaEncoder(dim=3)).save(tmp_path / "folder")
    with pytest.raises(ProvenanceError, match="item order of the embeddings in"):
        read_embeddings(tmp_path / "folder", catalog_of(first=2))
    with pytest.raises(FileNotFoundError, match="which is not there"):
        read_embeddings(tmp_path / "nowhere", catalog_of())
