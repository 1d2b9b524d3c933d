"""No id ever moves: lines of generations against a plain record of who was given which codes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from semid.build import build_semantic_ids
from semid.catalog import Catalog
from semid.embed import Embeddings
from semid.extension import extend_semantic_ids, load_extendable
from semid.generations import Step, mean_shift, prefix_shares
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError
from semid.tokenizers import RQKMeans
from semid.trie import CodeTrie
from semid.vocab import CodeVocab

TENSORS = ("first_child", "token_of_node", "item_order", "first_item", "last_item", "level_start")
VECTORS = np.random.default_rng(3).normal(size=(60, 5))


def catalog_of(*item_ids: int) -> Catalog:
    return Catalog(item_ids=list(item_ids), fields=pl.DataFrame())


def embedded(catalog: Catalog, vectors: np.ndarray = VECTORS) -> Embeddings:
    return Embeddings.of(vectors[[int(item) for item in catalog.item_ids]], catalog)


def first_ids(*item_ids: int, collisions: str = "extra_level") -> SemanticIds:
    catalog = catalog_of(*item_ids)
    tokenizer = RQKMeans(codebook_sizes=(4, 6))
    return build_semantic_ids(tokenizer, embedded(catalog), catalog, collisions=collisions)


def extend(ids: SemanticIds, *item_ids: int, drop_missing: bool = True) -> SemanticIds:
    assert ids.tokenizer is not None
    catalog = catalog_of(*item_ids)
    vectors = embedded(catalog)
    return extend_semantic_ids(ids, ids.tokenizer, vectors, catalog, drop_missing=drop_missing)


def assert_same_trie(found: CodeTrie, expected: CodeTrie) -> None:
    for name in TENSORS:
        assert getattr(found, name).equal(getattr(expected, name)), name


def trie_of(ids: SemanticIds) -> CodeTrie:
    return CodeTrie.from_paths(ids.codes, max(ids.sizes))


@pytest.mark.parametrize("seed", range(6))
def test_over_many_generations_no_id_moves_and_none_is_given_to_another_item(
    seed: int, tmp_path: Path
) -> None:
    draw = np.random.default_rng(seed)
    ids = first_ids(*range(8), collisions="next_nearest")
    given = {
        item: tuple(codes) for item, codes in zip(ids.item_ids, ids.codes.tolist(), strict=True)
    }
    trie = trie_of(ids)
    for generation in range(1, 7):
        before = list(ids.item_ids)
        kept = [item for item in before if draw.random() < 0.7] or before[:1]
        others = [item for item in range(22) if item not in before and draw.random() < 0.4]
        if len(kept) == len(before) and not others:
            continue
        shuffled = [int(item) for item in draw.permutation([*kept, *others])]
        grown = extend(ids, *shuffled)
        added = [item for item in shuffled if item not in before]
        assert grown.item_ids == [*kept, *added]
        for item, codes in zip(grown.item_ids, map(tuple, grown.codes.tolist()), strict=True):
            assert given.setdefault(item, codes) == codes  # kept, or its own on its return
        assert len(set(given.values())) == len(given)
        assert grown.generation is not None
        trie = grown.generation.next_trie(trie, grown.codes)
        assert_same_trie(trie, trie_of(grown))
        items, codes = grown.generation.table_before(grown.item_ids, grown.codes)
        assert items == before
        assert codes.equal(ids.codes)
        grown.save(tmp_path / f"{generation}")
        ids = load_extendable(tmp_path / f"{generation}")
        assert ids.generation is not None
        assert ids.generation.steps == grown.generation.steps
        assert ids.generation.lost.item_ids == grown.generation.lost.item_ids
        assert ids.generation.lost.codes.equal(grown.generation.lost.codes)


def test_a_folder_tells_its_line_and_what_it_added(tmp_path: Path) -> None:
    ids = first_ids(*range(10))
    grown = extend(ids, *range(12), drop_missing=False)
    shrunk = extend(grown, *range(3, 12))
    back = extend(shrunk, *range(2, 13))
    back.save(tmp_path / "ids")
    generation = SemanticIds.load(tmp_path / "ids").generation
    assert generation is not None
    assert [step.parent for step in generation.steps] == [
        before.provenance.content for before in (ids, grown, shrunk)
    ]
    counts = [(step.new, step.returned, step.lost) for step in generation.steps]
    assert counts == [(2, 0, 0), (0, 0, 3), (1, 1, 0)]
    assert generation.lost.item_ids == [0, 1, 2]
    assert back.codes_of(2) == ids.codes_of(2)
    delta = pl.read_parquet(tmp_path / "ids" / "delta.parquet")
    assert delta["item_id"].to_list() == [2, 12]
    assert [tuple(codes) for codes in delta["codes"]] == [back.codes_of(2), back.codes_of(12)]
    assert (tmp_path / "ids" / "lost.parquet").exists()


def test_missing_items_stay_unless_they_are_to_be_dropped() -> None:
    ids = first_ids(*range(10))
    assert extend(ids, 1, 2, drop_missing=False) is ids
    assert extend(ids, 1, 2, 10, drop_missing=False).item_ids == [*range(11)]
    dropped = extend(ids, 2, 1)
    assert dropped.item_ids == [1, 2]
    assert dropped.codes.equal(ids.codes[[1, 2]])


def test_ids_extended_before_there_were_generations_begin_a_line() -> None:
    ids = replace(extend(first_ids(*range(10)), *range(12)), generation=None)
    grown = extend(ids, *range(1, 13))
    assert grown.generation is not None
    assert grown.generation.number == 1
    assert grown.generation.last.parent == ids.provenance.content


def test_a_catalogue_of_none_of_the_items_is_not_a_loss_of_all() -> None:
    with pytest.raises(ValueError, match=r"some of the 10 items that have ids, got 2 others"):
        extend(first_ids(*range(10)), 20, 21)


def moved(ids: SemanticIds, codes: Tensor, item_ids: list[int] | None = None) -> SemanticIds:
    made = ids.with_codes(item_ids or ids.item_ids, codes, ids.sizes, inputs={}, config={})
    return replace(made, generation=ids.generation)


def test_an_id_that_moved_is_refused_on_loading(tmp_path: Path) -> None:
    ids = extend(first_ids(*range(10), collisions="keep"), *range(1, 12))
    ids.save(tmp_path / "whole")
    assert SemanticIds.load(tmp_path / "whole").codes.equal(ids.codes)
    codes = ids.codes.clone()
    codes[4, 1] = (codes[4, 1] + 1) % 6
    moved(ids, codes).save(tmp_path / "codes")
    with pytest.raises(ProvenanceError, match=r"the codes that .*codes has.*An id has moved"):
        SemanticIds.load(tmp_path / "codes")
    moved(ids, ids.codes, [2, 1, *range(3, 12)]).save(tmp_path / "items")
    with pytest.raises(ProvenanceError, match=r"the items that .*items has.*An id has moved"):
        SemanticIds.load(tmp_path / "items")
    few = ids.with_codes([10], ids.codes[:1], ids.sizes, inputs={}, config={})
    replace(few, generation=ids.generation).save(tmp_path / "few")
    with pytest.raises(ProvenanceError, match=r"ids of 2 added items and others.*got ids of 1"):
        SemanticIds.load(tmp_path / "few")


@pytest.mark.parametrize("name", ["generation.json", "delta.parquet", "lost.parquet"])
def test_a_changed_or_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    extend(first_ids(*range(10)), *range(1, 12)).save(tmp_path / "ids")
    file = tmp_path / "ids" / name
    file.write_bytes(file.read_bytes().replace(b"1", b"2"))
    with pytest.raises(ProvenanceError, match=rf"{name} was changed"):
        SemanticIds.load(tmp_path / "ids")
    file.unlink()
    with pytest.raises(ProvenanceError, match=rf"{name} was changed.*no file"):
        SemanticIds.load(tmp_path / "ids")


def test_another_order_of_the_items_is_of_no_generation() -> None:
    grown = extend(first_ids(*range(10)), *range(12))
    assert grown.for_catalog(catalog_of(*range(12))).generation is grown.generation
    assert grown.for_catalog(catalog_of(*reversed(range(12)))).generation is None


def test_the_trie_follows_in_the_tokens_of_a_model_and_one_generation_at_a_time() -> None:
    ids = first_ids(*range(20), collisions="next_nearest")
    grown = extend(ids, *range(4, 22))
    vocab = CodeVocab.flat(ids.sizes)
    assert grown.generation is not None
    followed = grown.generation.next_trie(vocab.trie(ids.codes), vocab.tokens(grown.codes))
    assert_same_trie(followed, vocab.trie(grown.codes))
    with pytest.raises(ValueError, match="of the 20 items of the generation before, got one of 18"):
        grown.generation.next_trie(followed, grown.codes)


def test_prefixes_and_drift_of_new_items_are_measured() -> None:
    ids = first_ids(*range(20), collisions="keep")
    grown = extend(ids, *range(10, 24), drop_missing=False)
    assert grown.generation is not None
    step = grown.generation.last
    held = ids.codes[:, 0].tolist()
    new = grown.codes[20:, 0].tolist()
    assert step.unseen_prefixes == [sum(code not in held for code in new) / 4]
    assert step.alone_on_prefix == [sum(held.count(code) == 1 for code in held) / 20]
    assert step.reencoded == 0
    before, after = VECTORS[10:20].astype(np.float32), VECTORS[20:24].astype(np.float32)
    variance = ((before - before.mean(0)) ** 2).sum() / 9
    shift = ((after.mean(0) - before.mean(0)) ** 2).sum() / variance - 1 / 4 - 1 / 10
    assert step.shift == pytest.approx(max(shift, 0), abs=1e-5)
    alone = extend(ids, 20, 21, drop_missing=False).generation
    assert alone is not None
    assert (alone.last.reencoded, alone.last.shift) == (None, None)


def test_new_items_of_another_kind_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 5))
    old, new = catalog_of(*range(100)), catalog_of(*range(200))
    ids = build_semantic_ids(
        RQKMeans(codebook_sizes=(16, 16)), embedded(old, vectors), old, collisions="keep"
    )
    assert ids.tokenizer is not None
    extend_semantic_ids(ids, ids.tokenizer, embedded(new, vectors), new)
    assert not caplog.records
    vectors[100:] += 4
    with caplog.at_level(logging.WARNING):
        extend_semantic_ids(ids, ids.tokenizer, embedded(new, vectors), new)
    (record,) = caplog.records
    assert "the mean vector of 100 new items is off" in record.getMessage()


def test_prefixes_that_no_item_had_are_warned_of() -> None:
    old = torch.stack([torch.arange(100) % 10, torch.arange(100) // 10], dim=1)

    def warnings(first_code: int) -> list[str]:
        new = torch.stack([torch.full((50,), first_code), torch.arange(50) % 20], dim=1)
        unseen, alone = prefix_shares(old, new, 2)
        counts = {"new": 50, "returned": 0, "lost": 0}
        shares = {"unseen_prefixes": unseen, "alone_on_prefix": alone}
        step = Step(parent="", parent_items="", **counts, **shares, reencoded=None, shift=None)
        return step.warnings

    assert warnings(9) == []
    (found,) = warnings(10)
    assert found.startswith(
        "100% of 50 new items lie on prefixes of 1 that no item had before, but only 0% of the "
        "earlier items are alone on theirs"
    )


def test_the_mean_of_new_vectors_is_compared_beyond_chance() -> None:
    draw = torch.Generator().manual_seed(0)
    same = [
        mean_shift(torch.randn(300, 8, generator=draw), torch.randn(100, 8, generator=draw))
        for _ in range(50)
    ]
    assert 0 <= max(shift for shift in same if shift is not None) < 0.04
    far = mean_shift(torch.randn(300, 8, generator=draw), torch.randn(100, 8, generator=draw) + 1)
    assert far == pytest.approx(1, abs=0.2)  # a distance of 8 to a variance of 8
    assert mean_shift(torch.ones(3, 8), torch.zeros(3, 8)) is None
