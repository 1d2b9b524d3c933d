import numpy as np
import polars as pl
import pytest
import torch

from semid.build import build_semantic_ids
from semid.catalog import Catalog
from semid.embed import Embeddings, LsaEncoder, embed_catalog
from semid.provenance import ProvenanceError
from semid.tokenizers import RandomTokenizer, RQKMeans


def embeddings_of(catalog: Catalog, seed: int = 0) -> Embeddings:
    vectors = np.random.default_rng(seed).normal(size=(len(catalog), 4))
    return Embeddings.of(vectors, catalog)


def test_items_get_distinct_ids_with_their_lineage(tiny_catalog: Catalog) -> None:
    embeddings = embed_catalog(tiny_catalog, LsaEncoder(dim=4))
    tokenizer = RQKMeans(codebook_sizes=(3, 2))
    ids = build_semantic_ids(tokenizer, embeddings, tiny_catalog)
    assert tokenizer.is_fitted
    assert ids.item_ids == tiny_catalog.item_ids
    assert ids.codes[:, :2].equal(tokenizer.encode(torch.from_numpy(embeddings.vectors)))
    assert len(set(map(tuple, ids.codes.tolist()))) == len(tiny_catalog)
    assert ids.scheme == "rqkmeans"
    assert ids.provenance.items == tiny_catalog.order_hash
    assert ids.provenance.inputs == {
        "embeddings": embeddings.provenance.content,
        "tokenizer": tokenizer.provenance.content,
    }
    assert ids.provenance.config["settings"]["codebook_sizes"] == (3, 2)
    assert ids.provenance.config["collisions"]["strategy"] == "extra_level"


def test_the_same_inputs_give_the_same_ids(tiny_catalog: Catalog) -> None:
    embeddings = embeddings_of(tiny_catalog)
    first, second = (
        build_semantic_ids(RQKMeans(codebook_sizes=(3, 2)), embeddings, tiny_catalog)
        for _ in range(2)
    )
    assert first.provenance == second.provenance


def test_a_fitted_tokenizer_is_used_as_it_is(tiny_catalog: Catalog) -> None:
    tokenizer = RQKMeans(codebook_sizes=(3, 2))
    tokenizer.fit(torch.from_numpy(embeddings_of(tiny_catalog, seed=1).vectors))
    content = tokenizer.provenance.content
    build_semantic_ids(tokenizer, embeddings_of(tiny_catalog), tiny_catalog)
    assert tokenizer.provenance.content == content


def test_twins_are_kept_on_request(tiny_catalog: Catalog) -> None:
    tokenizer = RandomTokenizer(codebook_sizes=(2,))
    ids = build_semantic_ids(
        tokenizer, embeddings_of(tiny_catalog), tiny_catalog, collisions="keep"
    )
    assert ids.sizes == (2,)


def test_embeddings_of_another_catalogue_are_refused(tiny_catalog: Catalog) -> None:
    other = Catalog(item_ids=[1, 2], fields=pl.DataFrame())
    with pytest.raises(ProvenanceError, match="item order of the embeddings"):
        build_semantic_ids(RQKMeans(), embeddings_of(other), tiny_catalog)
