"""Ids that keep their text encoder give new items ids without the old texts."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from semid import (
    Catalog,
    CatalogEncoder,
    IdsConfig,
    SentenceTransformerEncoder,
    build_semantic_ids,
    extend_from_texts,
    extend_ids_from_config,
    fit_text_encoder,
    ids_from_config,
    load_extendable,
    load_text_encoder,
)
from semid.embed import Embeddings, LsaEncoder, embed_catalog
from semid.extension import load_tokenizer
from semid.ids import SemanticIds
from semid.lsa import FittedLsa
from semid.provenance import ProvenanceError

NEW = Catalog(
    item_ids=[901, 902],
    fields=pl.DataFrame({"title": ["a red lipstick", "shampoo for dry hair"]}),
)
CONFIG = IdsConfig(codebook_sizes=(4, 8), template="{title}", collisions="next_nearest")


def ids_of(catalog: Catalog, config: IdsConfig = CONFIG) -> SemanticIds:
    ids = ids_from_config(config, catalog)
    return replace(ids, text_encoder=fit_text_encoder(ids, config, catalog))


@pytest.fixture
def folder(tiny_catalog: Catalog, tmp_path: Path) -> Path:
    ids_of(tiny_catalog).save(tmp_path / "ids")
    return tmp_path / "ids"


def test_the_encoder_is_read_as_it_was_saved(folder: Path, tiny_catalog: Catalog) -> None:
    made, loaded = ids_of(tiny_catalog).text_encoder, load_text_encoder(folder)
    assert made is not None
    assert loaded is not None
    assert (loaded.source, loaded.template) == ("lsa", "{title}")
    texts = [*tiny_catalog.texts("{title}"), "something else", ""]
    np.testing.assert_array_equal(loaded.encode(texts), made.encode(texts))
    expected = LsaEncoder().fit(tiny_catalog.texts("{title}")).encode(texts)
    np.testing.assert_array_equal(loaded.encode(texts), expected)


def test_new_items_get_ids_from_the_folder_and_their_texts_alone(
    folder: Path, tiny_catalog: Catalog
) -> None:
    old = load_extendable(folder)
    grown = extend_from_texts(old, NEW)
    assert grown.item_ids == [*tiny_catalog.item_ids, 901, 902]
    assert grown.codes[: len(old)].equal(old.codes)
    encoder = LsaEncoder().fit(tiny_catalog.texts("{title}"))
    vectors = embed_catalog(NEW, encoder, template="{title}")
    record = grown.provenance.inputs["new_embeddings"]
    assert record == vectors.provenance.content
    grown.save(folder)
    again = extend_from_texts(load_extendable(folder), replace(NEW, item_ids=[903, 904]))
    assert again.codes[: len(grown)].equal(grown.codes)
    assert len(again) == len(old) + 4


def test_the_folder_extends_as_one_that_kept_no_encoder_does(
    folder: Path, tiny_catalog: Catalog
) -> None:
    both = Catalog(
        item_ids=[*tiny_catalog.item_ids, *NEW.item_ids],
        fields=pl.concat([tiny_catalog.fields.select("title"), NEW.fields]),
    )
    asked = IdsConfig(template="{title}", collisions="next_nearest")
    with_encoder = extend_ids_from_config(folder, asked, both)
    shutil.rmtree(folder / "text_encoder")
    without = extend_ids_from_config(folder, asked, both)
    assert with_encoder.provenance == without.provenance
    assert with_encoder.codes.equal(without.codes)


def test_old_items_need_no_texts_and_encoder_and_template_no_names(folder: Path) -> None:
    grown = extend_ids_from_config(folder, IdsConfig(collisions="next_nearest"), NEW)
    assert grown.item_ids[-2:] == [901, 902]
    for change, says in (
        ({"embeddings": "some/model"}, r"expected the embeddings .*'lsa', got 'some/model'"),
        ({"template": "{brand}"}, r"expected the template .*'\{title\}', got '\{brand\}'"),
    ):
        with pytest.raises(ValueError, match=says):
            extend_ids_from_config(folder, replace(IdsConfig(), **change), NEW)


def test_codes_of_a_file_or_of_vectors_keep_no_encoder_and_say_so(
    tiny_catalog: Catalog, tmp_path: Path
) -> None:
    codes = {str(item): [row] for row, item in enumerate(tiny_catalog.item_ids)}
    (tmp_path / "codes.json").write_text(json.dumps(codes))
    np.save(tmp_path / "items.npy", np.random.default_rng(0).normal(size=(len(tiny_catalog), 4)))
    of_file = IdsConfig(scheme=f"file:{tmp_path / 'codes.json'}")
    of_vectors = replace(CONFIG, embeddings=str(tmp_path / "items.npy"))
    for config, says in (
        (of_file, r"codes of codes\.json came from a file: bring codes for the new items too"),
        (of_vectors, "expected semantic ids with a text encoder, got rqkmeans"),
    ):
        ids_of(tiny_catalog, config).save(tmp_path / "ids")
        assert load_text_encoder(tmp_path / "ids") is None
        with pytest.raises(ValueError, match=says):
            extend_from_texts(load_extendable(tmp_path / "ids"), NEW)


def test_an_encoder_of_other_ids_or_changed_files_are_refused(
    folder: Path, tiny_catalog: Catalog, tmp_path: Path
) -> None:
    ids_of(tiny_catalog, replace(CONFIG, template="{brand}")).save(tmp_path / "other")
    kept = tmp_path / "kept"
    shutil.move(folder / "text_encoder", kept)
    shutil.copytree(tmp_path / "other" / "text_encoder", folder / "text_encoder")
    with pytest.raises(ProvenanceError, match="got none or that of other ids"):
        load_text_encoder(folder)
    shutil.rmtree(folder / "text_encoder")
    shutil.copytree(kept, folder / "text_encoder")
    shutil.rmtree(folder / "text_encoder" / "lsa")
    FittedLsa.load(tmp_path / "other" / "text_encoder" / "lsa").save(folder / "text_encoder/lsa")
    with pytest.raises(ProvenanceError, match="text encoder lsa"):
        load_text_encoder(folder)


def test_a_sentence_encoder_is_kept_by_name(tiny_catalog: Catalog, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    encoder = SentenceTransformerEncoder(name_or_path=str(model))
    vectors = np.random.default_rng(0).normal(size=(len(tiny_catalog), 4))
    embeddings = Embeddings.of(vectors, tiny_catalog)
    source = ids_of(tiny_catalog).tokenizer
    assert source is not None
    ids = build_semantic_ids(
        type(source)(codebook_sizes=(4, 8)), embeddings, tiny_catalog, collisions="keep"
    )
    kept = CatalogEncoder(encoder=encoder, template="{title}")
    replace(ids, text_encoder=kept).save(tmp_path / "ids")
    loaded = load_text_encoder(tmp_path / "ids")
    assert loaded is not None
    assert (loaded.source, loaded.template) == (str(model), "{title}")
    assert [path.name for path in (tmp_path / "ids" / "text_encoder").iterdir()] == ["encoder.json"]
    assert load_tokenizer(tmp_path / "ids").is_fitted
    (model / "config.json").write_text('{"another": 1}')
    with pytest.raises(ProvenanceError, match=f"text encoder {model}"):
        load_text_encoder(tmp_path / "ids")
