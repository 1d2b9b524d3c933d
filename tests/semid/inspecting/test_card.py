"""The ID card as a whole: its control, its thresholds, and the known answers of published IDs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from semid.build import build_semantic_ids
from semid.catalog import Catalog
from semid.embed import Embeddings
from semid.ids import SemanticIds
from semid.inspecting import Evidence, id_card
from semid.inspecting.advice import RULE_OF_THUMB, THRESHOLDS
from semid.inspecting.card import figures
from semid.interop import read_codes_file
from semid.tokenizers import RQKMeans

KNOWN = {  # items, distinct, first codes in use
    "beauty": (12_101, 12_088, 197),
    "yelp": (20_033, 19_201, 256),
    "instruments": (9_922, 9_897, 150),
}


def by_hand(codes: list[list[int]], sizes: tuple[int, ...]) -> SemanticIds:
    return SemanticIds.of(list(range(len(codes))), torch.tensor(codes), sizes, scheme="by hand")


@pytest.mark.parametrize("name", KNOWN)
def test_published_codes_have_the_figures_that_are_known(name: str, shared_data: Path) -> None:
    folder = shared_data / name
    catalog = Catalog.read(folder / "items.parquet")
    ids = read_codes_file(folder / "semantic_ids.letter.json", catalog)
    found = figures(ids.codes, ids.sizes, Evidence())
    assert (found["items"], found["distinct"], found["levels"][0]["used"]) == KNOWN[name]
    if name == "beauty":
        forced = [level["forced"] for level in found["levels"]]
        assert forced == pytest.approx([0, 0.001, 0.48, 0.95], abs=0.005)


def test_a_card_has_the_same_figures_of_its_control() -> None:
    ids = by_hand([[0, 0], [0, 1], [1, 0], [1, 1], [2, 0], [2, 0]], (3, 2))
    evidence = Evidence(
        labels=(torch.arange(6), torch.tensor([0, 0, 1, 1, 2, 2])),
        events=torch.tensor([3, 0, 1, 1, 0, 2]),
    )
    card = id_card(ids, evidence, name="mine")
    assert card["categories"] == {"items": 6, "purity": [1.0, 1.0]}
    assert card["popularity"]["events"] == 7
    assert card["cold"] == {"items": 2, "support": [1.0, 0.5]}
    assert (card["before"], card["reconstruction"]) == (None, None)
    for name in ("levels", "search_cost", "categories", "popularity", "cold"):
        assert type(card["control"][name]) is type(card[name])
    assert card["control"]["cold"]["items"] == 2
    assert id_card(ids, evidence, name="mine") == card


def test_a_card_tells_collisions_before_and_after_and_the_level_that_numbers() -> None:
    ids = by_hand([[0], [0], [0], [1]], (2,)).resolve("extra_level")
    card = id_card(ids, Evidence(), name="numbered")
    assert card["before"] == {
        "items": 4,
        "distinct": 2,
        "colliding_items": 3,
        "largest_group": 3,
    }
    assert (card["colliding_items"], card["distinct"], card["extra_level"]) == (0, 4, True)
    checked = {check["figure"]: check["value"] for check in card["checks"]}
    assert checked["share of codes in use, worst level"] == 1.0, "of the scheme's own level"
    assert checked["share of items that collide"] == 0
    assert checked["largest group before collisions are resolved"] == 3


def test_only_the_vectors_that_were_encoded_are_reconstructed() -> None:
    rng = np.random.default_rng(0)
    catalog = Catalog(item_ids=list(range(40)), fields=pl.DataFrame())
    vectors, others = (Embeddings.of(rng.normal(size=(40, 4)), catalog) for _ in range(2))
    ids = build_semantic_ids(RQKMeans(codebook_sizes=(4, 4)), vectors, catalog)
    card = id_card(ids, Evidence(), name="own", embeddings=vectors)
    assert 0 < card["reconstruction"] < 1
    assert id_card(ids, Evidence(), name="others", embeddings=others)["reconstruction"] is None


def test_collapse_misses_thresholds_with_one_sentence_of_advice_each() -> None:
    card = id_card(by_hand([[0, 0]] * 50, (16, 16)), Evidence(), name="collapsed")
    missed = {check["figure"] for check in card["checks"] if not check["passes"]}
    assert {
        "share of items that collide",
        "share of codes in use, worst level",
        "share of forced steps, mean of levels",
    } <= missed
    for threshold in THRESHOLDS:
        assert threshold.advice.endswith(".")
        assert threshold.advice.count(". ") == 0
    bases = [threshold.basis for threshold in THRESHOLDS if threshold.basis != RULE_OF_THUMB]
    assert all("arXiv" in basis for basis in bases), "whatever has no source is a rule of thumb"


def test_good_ids_meet_all_thresholds() -> None:
    pairs = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    ids = by_hand(pairs.tolist(), (8, 8))
    card = id_card(ids, Evidence(labels=(torch.arange(64), pairs[:, 0])), name="even")
    assert [check["figure"] for check in card["checks"] if not check["passes"]] == []
