"""IDs whose encoder and scheme are fitted on some items, and which are made batch by batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from semid import batched
from semid.batched import encode_batch, sample_of
from semid.build import fit_text_encoder, ids_from_config, require_made_by
from semid.catalog import Catalog
from semid.config import IdsConfig
from semid.extension import costs_of, extend_from_texts, load_extendable
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError, hash_arrays
from semid.tokenizers.rqkmeans import RQKMeans

WORDS = ("red", "blue", "soft", "hard", "cap", "coat", "shoe", "sock", "wool", "silk")
CONFIG = IdsConfig(embeddings="lsa:6", codebook_sizes=(4, 3), fit_items=60)


@pytest.fixture(scope="module")
def shop() -> Catalog:
    rng = np.random.default_rng(0)
    titles = [" ".join(rng.choice(WORDS, 3)) for _ in range(200)]
    return Catalog(item_ids=list(range(200)), fields=pl.DataFrame({"title": titles}))


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "BATCH", 32)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("collisions", ["extra_level", "next_nearest"])
def test_ids_do_not_depend_on_the_batches(shop: Catalog, collisions: str) -> None:
    sizes = (4, 3) if collisions == "extra_level" else (16, 16)
    config = replace(CONFIG, collisions=collisions, codebook_sizes=sizes)
    done: list[int] = []
    ids = ids_from_config(config, shop, on_batch=done.append)
    assert done == [32, 32, 32, 32, 32, 32, 8]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batched, "BATCH", 1000)
        at_once = ids_from_config(config, shop)
    assert torch.equal(ids.codes, at_once.codes)
    assert len(torch.unique(ids.codes, dim=0)) == len(shop)
    assert ids.provenance.config["fitted_items"] == 60


def test_each_item_has_the_code_that_it_has_alone(shop: Catalog) -> None:
    ids = ids_from_config(replace(CONFIG, collisions="keep"), shop)
    assert ids.text_encoder is not None
    assert ids.tokenizer is not None
    for row in (0, 17, 199):
        alone = encode_batch(shop.take(np.array([row])), ids.text_encoder, ids.tokenizer)
        assert torch.equal(alone[0], ids.codes[row])


def test_fitting_on_all_items_gives_the_ids_of_a_plain_build(shop: Catalog) -> None:
    some = ids_from_config(replace(CONFIG, fit_items=10**6), shop)
    plain = ids_from_config(replace(CONFIG, fit_items=None), shop)
    assert torch.equal(some.codes, plain.codes)


def test_the_sample_is_in_row_order_and_always_the_same(shop: Catalog) -> None:
    sample = sample_of(shop, 60)
    assert len(sample) == 60
    assert sample.item_ids == sorted(sample.item_ids)
    assert sample.item_ids == sample_of(shop, 60).item_ids
    assert sample.item_ids != list(range(60))
    assert sample.fields["title"].to_list() == [shop.fields["title"][i] for i in sample.item_ids]


def test_they_are_saved_with_their_encoder_and_take_new_items(
    shop: Catalog, tmp_path: Path
) -> None:
    config = replace(CONFIG, codebook_sizes=(16, 16))
    ids = ids_from_config(config, shop)
    assert fit_text_encoder(ids, config, shop) is ids.text_encoder
    ids.save(tmp_path / "ids")
    require_made_by(SemanticIds.load(tmp_path / "ids"), config, shop, where="ids")
    new = Catalog(item_ids=[1000], fields=pl.DataFrame({"title": ["red wool sock"]}))
    more = extend_from_texts(load_extendable(tmp_path / "ids"), new)
    assert torch.equal(more.codes[:-1], ids.codes)


def test_a_changed_text_outside_the_sample_is_noticed(shop: Catalog) -> None:
    ids = ids_from_config(CONFIG, shop)
    outside = min(set(shop.item_ids) - set(sample_of(shop, 60).item_ids))
    titles = shop.fields["title"].to_list()
    titles[int(outside)] = "another"
    changed = Catalog(item_ids=shop.item_ids, fields=pl.DataFrame({"title": titles}))
    with pytest.raises(ProvenanceError, match="other texts"):
        require_made_by(ids, CONFIG, changed, where="ids")


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("collisions", ["extra_level", "next_nearest"])
def test_existing_vectors_are_encoded_in_batches_too(
    shop: Catalog, tmp_path: Path, collisions: str
) -> None:
    vectors = np.random.default_rng(1).normal(size=(200, 4)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    config = replace(CONFIG, embeddings=str(tmp_path / "vectors.npy"), codebook_sizes=(16, 16))
    config = replace(config, collisions=collisions)
    ids = ids_from_config(config, shop)
    sample = sample_of(shop, 60)
    fitted = RQKMeans(codebook_sizes=(16, 16)).fit(torch.from_numpy(vectors[sample.item_ids]))
    codes = fitted.encode(torch.from_numpy(vectors))
    expected = SemanticIds.of(shop.item_ids, codes, (16, 16), scheme="rqkmeans").resolve(
        collisions, costs=costs_of(fitted, torch.from_numpy(vectors))
    )
    assert torch.equal(ids.codes, expected.codes)
    assert ids.provenance.inputs["embeddings"] == hash_arrays(vectors)
    assert ids.text_encoder is None
    vectors[199] = 0
    np.save(tmp_path / "vectors.npy", vectors)
    with pytest.raises(ProvenanceError, match="other embeddings"):
        require_made_by(ids, config, shop, where="ids")


def test_ids_of_files_or_collaborative_vectors_are_refused() -> None:
    for changes in ({"scheme": "file:codes.json"}, {"cf_embeddings": "cf.npy", "cf_scale": 1.0}):
        with pytest.raises(ValueError, match="made from texts alone"):
            IdsConfig(fit_items=5, **changes)
