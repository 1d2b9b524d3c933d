import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from semid.build import build_semantic_ids
from semid.catalog import Catalog
from semid.embed import Embeddings
from semid.extension import extend_semantic_ids, load_tokenizer
from semid.ids import SemanticIds
from semid.interop import read_codes_file
from semid.provenance import ProvenanceError
from semid.tokenizers import RandomTokenizer, RQKMeans
from semid.trie import CodeTrie
from semid.trie_changes import add_items

SIZES = (4, 5)
TENSORS = ("first_child", "token_of_node", "item_order", "first_item", "last_item", "level_start")


def catalog_of(*item_ids: int) -> Catalog:
    return Catalog(item_ids=list(item_ids), fields=pl.DataFrame())


def embeddings_of(catalog: Catalog) -> Embeddings:
    """Few distinct vectors, each an item's own whatever the catalogue."""
    table = np.random.default_rng(0).normal(size=(7, 5))
    return Embeddings.of(table[[int(item) % 7 for item in catalog.item_ids]], catalog)


OLD = catalog_of(*range(10))
BOTH = catalog_of(20, 3, 21, 0, 22, 23)


def old_ids(collisions: str = "extra_level") -> SemanticIds:
    return build_semantic_ids(
        RQKMeans(codebook_sizes=SIZES), embeddings_of(OLD), OLD, collisions=collisions
    )


def extended(ids: SemanticIds, catalog: Catalog, collisions: str) -> SemanticIds:
    assert ids.tokenizer is not None
    return extend_semantic_ids(
        ids, ids.tokenizer, embeddings_of(catalog), catalog, collisions=collisions
    )


@pytest.mark.parametrize(
    ("made", "collisions"),
    [
        ("extra_level", "next_nearest"),
        ("next_nearest", "next_nearest"),
        ("next_nearest", "sinkhorn+next_nearest"),
        ("keep", "keep"),
        ("keep", "next_nearest"),
    ],
)
def test_new_items_get_ids_and_old_ones_keep_theirs(made: str, collisions: str) -> None:
    ids = old_ids(made)
    result = extended(ids, BOTH, collisions)
    assert result.item_ids == [*range(10), 20, 21, 22, 23]
    assert result.codes[:10].equal(ids.codes)
    assert result.sizes == ids.sizes
    new = [tuple(path) for path in result.codes[10:].tolist()]
    if collisions != "keep":
        assert len(set(new)) == 4
        assert not set(new) & set(map(tuple, ids.codes.tolist()))
    record = result.provenance.config["extended"][-1]
    assert (record["strategy"], record["items"]) == (collisions, 4)
    assert result.provenance.inputs["semantic_ids"] == ids.provenance.content
    trie = CodeTrie.from_paths(ids.codes, max(ids.sizes))
    grown = add_items(trie, result.codes[len(ids) :])
    whole = CodeTrie.from_paths(result.codes, max(result.sizes))
    for name in TENSORS:
        assert getattr(grown, name).equal(getattr(whole, name)), name


def test_new_items_that_collide_with_none_get_what_the_tokenizer_says() -> None:
    ids = build_semantic_ids(
        RQKMeans(codebook_sizes=(7, 7)), embeddings_of(OLD), OLD, collisions="keep"
    )
    assert ids.tokenizer is not None
    far = Catalog(item_ids=[50], fields=pl.DataFrame())
    vectors = Embeddings.of(np.full((1, 5), 9.0), far)
    result = extend_semantic_ids(ids, ids.tokenizer, vectors, far, collisions="next_nearest")
    expected = ids.tokenizer.encode(torch.from_numpy(vectors.vectors))
    record = result.provenance.config["extended"][0]
    assert record["moved"] == record["colliding_items"]
    if not record["moved"]:
        assert result.codes[10:].equal(expected)
    again = extended(result, catalog_of(51, 52), "next_nearest")
    assert again.codes[:11].equal(result.codes)
    assert [entry["items"] for entry in again.provenance.config["extended"]] == [1, 2]


def test_free_numbers_of_the_extra_level_are_taken_until_none_is_left() -> None:
    ids = old_ids()
    assert ids.num_levels == 3
    largest = ids.sizes[-1]
    free = [
        item for item in range(7) if (ids.codes[:, :2] == ids.codes[item, :2]).all(1).sum() == 1
    ]
    new = catalog_of(70 + free[0])
    result = extended(ids, new, "extra_level")
    assert result.codes[-1].tolist() == [*ids.codes[free[0], :2].tolist(), 1]
    many = catalog_of(*(70 + free[0] + 7 * turn for turn in range(largest)))
    with pytest.raises(ValueError, match=r"expected a free number.*next_nearest"):
        extended(ids, many, "extra_level")
    with pytest.raises(ValueError, match=r"expected ids with an extra level.*next_nearest"):
        extended(old_ids("next_nearest"), new, "extra_level")


def test_where_no_item_is_new_the_ids_are_the_same() -> None:
    ids = old_ids()
    assert extended(ids, catalog_of(3, 0), "next_nearest") is ids


def test_the_tokenizer_is_saved_beside_the_ids_and_extends_them_from_files(tmp_path: Path) -> None:
    ids = old_ids()
    ids.save(tmp_path / "ids")
    loaded = SemanticIds.load(tmp_path / "ids")
    tokenizer = load_tokenizer(tmp_path / "ids")
    result = extend_semantic_ids(loaded, tokenizer, embeddings_of(BOTH), BOTH)
    assert result.codes.equal(extended(ids, BOTH, "next_nearest").codes)
    result.save(tmp_path / "more")
    again = SemanticIds.load(tmp_path / "more")
    assert again.provenance == result.provenance
    assert load_tokenizer(tmp_path / "more").provenance.content == tokenizer.provenance.content


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    ids = old_ids()
    other = RQKMeans(codebook_sizes=SIZES, seed=1).fit(torch.from_numpy(embeddings_of(OLD).vectors))
    with pytest.raises(ProvenanceError, match="the tokenizer of the semantic ids"):
        extend_semantic_ids(ids, other, embeddings_of(BOTH), BOTH)
    ids.save(tmp_path / "ids")
    other.save_pretrained(tmp_path / "ids" / "tokenizer")
    with pytest.raises(ProvenanceError, match="Build the ids again"):
        load_tokenizer(tmp_path / "ids")


def test_codes_of_a_file_have_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "codes.json").write_text('{"1": [0, 0]}')
    read_codes_file(tmp_path / "codes.json", catalog_of(1)).save(tmp_path / "ids")
    with pytest.raises(FileNotFoundError, match="read from a file"):
        load_tokenizer(tmp_path / "ids")


def test_embeddings_and_items_must_belong_to_the_catalogue() -> None:
    ids = old_ids()
    assert ids.tokenizer is not None
    with pytest.raises(ProvenanceError, match="item order of the embeddings"):
        extend_semantic_ids(ids, ids.tokenizer, embeddings_of(OLD), BOTH)
    named = Catalog(item_ids=["20"], fields=pl.DataFrame())
    vectors = Embeddings.of(np.zeros((1, 5)), named)
    with pytest.raises(ValueError, match="of one kind"):
        extend_semantic_ids(ids, ids.tokenizer, vectors, named)


def test_vectors_of_another_encoder_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    ids = old_ids()
    assert ids.tokenizer is not None
    with caplog.at_level(logging.WARNING):
        extended(ids, BOTH, "next_nearest")
    assert caplog.text == ""
    whole = catalog_of(*range(11))
    other = Embeddings.of(-embeddings_of(whole).vectors, whole)
    with caplog.at_level(logging.WARNING):
        extend_semantic_ids(ids, ids.tokenizer, other, whole)
    assert "of 10 items that have ids" in caplog.text


def test_a_scheme_without_distances_extends_too() -> None:
    ids = build_semantic_ids(
        RandomTokenizer(codebook_sizes=(4, 8)), embeddings_of(OLD), OLD, collisions="next_nearest"
    )
    result = extended(ids, catalog_of(20, 21), "next_nearest")
    assert len(set(map(tuple, result.codes.tolist()))) == 12
    assert result.provenance.config["extended"][0]["reconstruction_lost"] is None
