"""Encoders by the name they have in settings."""

import json
from dataclasses import replace
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
from semid.embed import LsaEncoder, SentenceTransformerEncoder, embed_catalog, embeddings_from
from semid.encoders import encoder_named
from semid.lsa import FittedLsa

WIDE = IdsConfig(
    codebook_sizes=(4, 4, 4), embeddings="lsa:5", template="{title}", collisions="next_nearest"
)


def test_a_name_gives_its_encoder() -> None:
    assert encoder_named("lsa") == LsaEncoder() == encoder_named("lsa:128")
    assert encoder_named("lsa:512") == LsaEncoder(dim=512)
    model = encoder_named("someone/model")
    assert model == SentenceTransformerEncoder(name_or_path="someone/model")
    assert model.source == "someone/model"


@pytest.mark.parametrize("name", ["lsa:", "lsa:0", "lsa:-4", "lsa:many", "lsa:1.5", "lsa:²"])
def test_a_width_of_lsa_that_is_none_is_refused(name: str, tiny_catalog: Catalog) -> None:
    with pytest.raises(ValueError, match=rf"such as lsa:512, got {name}$"):
        embeddings_from(name, tiny_catalog)


def test_the_width_of_lsa_is_that_of_the_vectors(tiny_catalog: Catalog) -> None:
    named = embeddings_from("lsa:5", tiny_catalog)
    made = embed_catalog(tiny_catalog, LsaEncoder(dim=5))
    assert named.vectors.shape == (len(tiny_catalog), 5)
    np.testing.assert_array_equal(named.vectors, made.vectors)
    assert named.provenance == made.provenance
    assert named.provenance.config["dim"] == 5


def test_new_items_are_coded_by_the_lsa_of_the_width_that_coded_the_old_ones(
    tiny_catalog: Catalog, tmp_path: Path
) -> None:
    ids = ids_from_config(WIDE, tiny_catalog)
    replace(ids, text_encoder=fit_text_encoder(ids, WIDE, tiny_catalog)).save(tmp_path / "ids")
    loaded = load_text_encoder(tmp_path / "ids")
    assert loaded is not None
    assert isinstance(loaded.encoder, FittedLsa)
    assert (loaded.source, loaded.encoder.right.shape[0]) == ("lsa:5", 5)
    new = replace(tiny_catalog, item_ids=[900 + row for row in range(len(tiny_catalog))])
    grown = extend_from_texts(load_extendable(tmp_path / "ids"), new)
    assert grown.codes[: len(ids)].equal(ids.codes)
    record = json.loads((tmp_path / "ids/text_encoder/encoder.json").read_text())
    assert record["encoder"]["dim"] == 5
