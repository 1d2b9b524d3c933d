from pathlib import Path

import numpy as np
import pytest

from semid.catalog import Catalog
from semid.embed import LsaEncoder, embed_catalog
from semid.lsa import FittedLsa, fit_lsa
from semid.provenance import ProvenanceError

TEXTS = ["red lipstick", "red lipstick matte", "dry shampoo", "shampoo for dry hair", "brush"]
LATER = ["matte red lipstick", "shampoo", "something else altogether", "red lipstick", ""]


def test_a_fitted_text_keeps_its_vector_where_no_direction_is_cut() -> None:
    vectors, fitted = fit_lsa(TEXTS, dim=5, seed=0)
    np.testing.assert_array_equal(vectors, LsaEncoder(dim=5).encode(TEXTS))
    np.testing.assert_allclose(fitted.encode(TEXTS), vectors, atol=1e-5)


def test_a_fitted_text_nearly_keeps_its_vector_where_directions_are_cut() -> None:
    words = np.random.default_rng(0).choice(
        ["red", "pink", "nude", "dry", "fine", "lipstick", "shampoo", "brush", "Ada", "Bo"], (60, 5)
    )
    texts = [" ".join(row) for row in words]
    vectors, fitted = fit_lsa(texts, dim=8, seed=0)
    likeness = (vectors * fitted.encode(texts)).sum(axis=1)
    assert likeness.min() > 0.98


def test_a_vector_depends_on_its_text_alone() -> None:
    fitted = LsaEncoder(dim=3).fit(TEXTS)
    together = fitted.encode(LATER)
    assert together.shape == (5, 3)
    assert together.dtype == np.float32
    for text, vector in zip(LATER, together, strict=True):
        np.testing.assert_array_equal(fitted.encode([text])[0], vector)
    assert not together[4].any()
    likeness = fitted.encode(TEXTS) @ together[1]
    assert likeness.argmax() in (2, 3)


def test_save_then_load_encodes_the_same(tmp_path: Path) -> None:
    fitted = LsaEncoder(dim=3, seed=2).fit(TEXTS)
    fitted.save(tmp_path / "encoder")
    loaded = FittedLsa.load(tmp_path / "encoder")
    np.testing.assert_array_equal(loaded.encode(LATER), fitted.encode(LATER))
    assert loaded.config == fitted.config
    assert loaded.config["seed"] == 2


def test_what_was_learned_is_part_of_the_config() -> None:
    first, second = (LsaEncoder(dim=3).fit(TEXTS[start:]) for start in (0, 1))
    assert first.config != second.config
    assert first.config == LsaEncoder(dim=3).fit(TEXTS).config


def test_a_changed_encoder_is_refused(tmp_path: Path) -> None:
    LsaEncoder(dim=3).fit(TEXTS).save(tmp_path / "encoder")
    file = tmp_path / "encoder" / "vocabulary.json"
    file.write_text(file.read_text().replace("shampoo", "shampop"))
    with pytest.raises(ProvenanceError, match=r"vocabulary\.json was changed"):
        FittedLsa.load(tmp_path / "encoder")


def test_a_catalogue_is_embedded_by_the_encoder_of_another(tiny_catalog: Catalog) -> None:
    fitted = LsaEncoder(dim=4).fit(tiny_catalog.texts())
    embeddings = embed_catalog(tiny_catalog, fitted)
    assert embeddings.provenance.config["fitted"] == fitted.config["fitted"]
    np.testing.assert_array_equal(embeddings.vectors, fitted.encode(tiny_catalog.texts()))
