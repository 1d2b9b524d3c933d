import math
from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semid.catalog import Catalog
from semid.embed import Embeddings
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError
from semid.quality import id_quality


def ids_of(codes: torch.Tensor) -> SemanticIds:
    return SemanticIds.of(list(range(len(codes))), codes, (9,) * codes.shape[1], scheme="test")


def vectors_of(vectors: np.ndarray) -> Embeddings:
    catalog = Catalog(item_ids=list(range(len(vectors))), fields=pl.DataFrame())
    return Embeddings.of(vectors, catalog)


def slow_agreement(paths: list[tuple[int, ...]], vectors: np.ndarray) -> dict:
    """The definition, pair by pair."""

    def common(a: int, b: int) -> int:
        length = 0
        while length < len(paths[a]) and paths[a][length] == paths[b][length]:
            length += 1
        return length

    def cosine(a: int, b: int) -> float:
        norms = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
        return float(vectors[a] @ vectors[b] / norms) if norms else 0.0

    everyone = range(len(paths))
    asked = [item for item in everyone if vectors[item].any()]
    near_depths, far_depths, wins = [], [], []
    for item in asked:
        others = [other for other in everyone if other != item]
        near = sorted(others, key=lambda other: -cosine(item, other))[:10]
        near_depths += [common(item, other) for other in near]
        far = [common(item, other) for other in others]
        far_depths += far
        for other in near:
            mine = common(item, other)
            wins += [1.0 if mine > depth else 0.5 if mine == depth else 0.0 for depth in far]
    levels = range(1, len(paths[0]) + 1)
    return {
        "k": min(10, len(paths) - 1),
        "items": len(asked),
        "share": pytest.approx([np.mean([d >= level for d in near_depths]) for level in levels]),
        "random": pytest.approx([np.mean([d >= level for d in far_depths]) for level in levels]),
        "auc": pytest.approx(np.mean(wins)),
    }


@pytest.mark.parametrize(
    ("items", "dim", "block"), [(2, 3, 9), (7, 2, 3), (50, 4, 16), (64, 8, 64)]
)
def test_agreement_of_neighbours_is_the_definition(
    items: int, dim: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semid.inspecting.neighbours._BLOCK", block)
    rng = np.random.default_rng(items)
    vectors = rng.normal(size=(items, dim))
    if items == 50:
        vectors[3] = 0
    cf = rng.normal(size=(items, dim + 1))
    codes = torch.from_numpy(np.floor(np.clip(vectors[:, :2] + 1, 0, 1.99) * 2).astype(int))
    card = id_quality(ids_of(codes), embeddings=vectors_of(vectors), cf_embeddings=vectors_of(cf))
    paths = [tuple(path) for path in codes.tolist()]
    assert card["neighbours"]["embeddings"] == slow_agreement(paths, vectors)
    assert card["neighbours"]["cf_embeddings"] == slow_agreement(paths, cf)


@given(seed=st.integers(0, 99), levels=st.integers(1, 3))
def test_numbering_the_items_of_equal_codes_changes_no_auc(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    codes = torch.from_numpy(rng.integers(3, size=(30, levels)))
    ids, vectors = ids_of(codes), vectors_of(rng.normal(size=(30, 4)))
    before, after = (
        id_quality(some, embeddings=vectors)["neighbours"]["embeddings"]
        for some in (ids, ids.resolve("extra_level"))
    )
    assert after["auc"] == pytest.approx(before["auc"])
    assert after["share"][:levels] == before["share"]
    assert after["share"][levels:] == [0.0] * (len(after["share"]) - levels)


def test_codes_of_the_space_agree_and_codes_of_nothing_do_not() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(9), 30)
    vectors = vectors_of(np.eye(9)[group] + 0.05 * rng.normal(size=(270, 9)))
    for codes, low, high in (
        (group, 0.94, 1.0),
        (rng.permutation(group), 0.47, 0.53),
        (np.zeros(270, dtype=int), 0.5, 0.5),
        (np.arange(270) % 9, 0.45, 0.55),
    ):
        ids = ids_of(torch.from_numpy(codes)[:, None])
        assert low <= id_quality(ids, embeddings=vectors)["neighbours"]["embeddings"]["auc"] <= high


def test_vectors_of_other_items_are_refused() -> None:
    ids = ids_of(torch.zeros(4, 1, dtype=torch.int64))
    with pytest.raises(ProvenanceError, match="item order of the cf_embeddings"):
        id_quality(ids, cf_embeddings=vectors_of(np.ones((5, 2))))


def test_nobody_has_neighbours_alone() -> None:
    ids = ids_of(torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="at least two items with a vector"):
        id_quality(ids, embeddings=vectors_of(np.ones((1, 2))))


def slow_gini(amounts: list[int]) -> float:
    differences = sum(abs(a - b) for a in amounts for b in amounts)
    return differences / (2 * len(amounts) * sum(amounts))


def test_card_is_the_definition() -> None:
    codes = torch.randint(5, (40, 3), generator=torch.Generator().manual_seed(0))
    ids = SemanticIds.of(list(range(40)), codes, (5, 5, 8), scheme="test")
    card = id_quality(ids)
    paths = [tuple(path) for path in codes.tolist()]
    assert card["items"] == 40
    assert card["distinct"] == len(set(paths))
    for level, size in enumerate((5, 5, 8)):
        counts = Counter(path[level] for path in paths)
        prefixes = {path[: level + 1] for path in paths}
        children = Counter(prefix[:level] for prefix in prefixes)
        entropy = -sum(n / 40 * math.log(n / 40) for n in counts.values())
        assert card["levels"][level] == {
            "size": size,
            "used": len(counts),
            "utilisation": len(counts) / size,
            "perplexity": pytest.approx(math.exp(entropy)),
            "prefixes": len(prefixes),
            "mean_children": pytest.approx(np.mean(list(children.values()))),
            "max_children": max(children.values()),
            "gini": pytest.approx(slow_gini([counts[code] for code in range(size)])),
            "forced": np.mean([children[path[:level]] == 1 for path in paths]),
        }


def test_collapse_is_seen() -> None:
    ids = SemanticIds.of(["a", "b"], torch.zeros(2, 1, dtype=torch.int64), (256,), scheme="test")
    card = id_quality(ids)
    assert card["largest_group"] == card["colliding_items"] == 2
    assert card["levels"][0]["perplexity"] == 1.0
    assert card["levels"][0]["used"] == 1
