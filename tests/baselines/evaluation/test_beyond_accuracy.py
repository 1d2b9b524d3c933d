"""Metrics beyond accuracy beside their definitions, and beside packages that others wrote.

The packages are not needed to develop semid: where RecBole or recmetrics are not installed, their
tests are skipped, and the definitions remain.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.preprocessing import normalize

from baselines.evaluation.beyond_accuracy import Cold, Coverage, Diversity, Gini, Novelty
from semid.arrays import IntArray

NUM_ITEMS = 30


def lists(seed: int, *, users: int = 40, cutoff: int = 10, full: bool = False) -> IntArray:
    """Lists that favour low rows; unless full, some end early."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(1, NUM_ITEMS + 1)
    items = np.stack(
        [
            rng.choice(NUM_ITEMS, size=cutoff, replace=False, p=share / share.sum())
            for _ in range(users)
        ]
    )
    if not full:
        items[np.arange(cutoff) >= rng.integers(cutoff + 1, size=users)[:, None]] = -1
    return items


def popularity(seed: int) -> IntArray:
    return np.random.default_rng(seed).integers(0, 6, size=NUM_ITEMS)


def vectors(seed: int) -> Any:
    values = np.random.default_rng(seed).random((NUM_ITEMS, 7))
    values[values < 0.5] = 0
    values[3] = 0  # an item without a word
    return csr_array(normalize(values))


def outside(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


@pytest.mark.parametrize("seed", range(3))
def test_coverage_and_cold_are_shares(seed: int) -> None:
    items, events = lists(seed), popularity(seed)
    listed = [item for row in items.tolist() for item in row if item >= 0]
    assert Coverage().of_lists(items, events) == len(set(listed)) / NUM_ITEMS
    assert Cold().of_lists(items, events) == pytest.approx(
        sum(events[item] == 0 for item in listed) / len(listed)
    )


@pytest.mark.parametrize("seed", range(3))
def test_gini_is_the_mean_difference_of_counts_over_twice_their_mean(seed: int) -> None:
    """The definition of Gini (1912), as in Adomavicius & Kwon (2012), section 3.2."""
    items = lists(seed)
    counts = Counter(item for row in items.tolist() for item in row if item >= 0)
    of_item = [counts[item] for item in range(NUM_ITEMS)]
    apart = sum(abs(a - b) for a in of_item for b in of_item) / NUM_ITEMS**2
    expected = apart / (2 * sum(of_item) / NUM_ITEMS)
    assert Gini().of_lists(items, popularity(seed)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_novelty_is_the_mean_self_information(seed: int) -> None:
    """Zhou et al. (2010), with the share of events, one added to each item, as probability."""
    items, events = lists(seed), popularity(seed)
    whole = sum(events.tolist()) + NUM_ITEMS
    bits = [
        -math.log2((int(events[item]) + 1) / whole)
        for row in items.tolist()
        for item in row
        if item >= 0
    ]
    expected = sum(bits) / len(bits)
    assert Novelty().of_lists(items, events) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_diversity_is_the_mean_distance_of_pairs(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ziegler et al. (2005), section 3.2.2, as a distance instead of a similarity."""
    monkeypatch.setattr("baselines.evaluation.beyond_accuracy._LISTS_AT_ONCE", 7)
    items, texts = lists(seed), vectors(seed)
    dense, of_lists = texts.toarray(), []
    for row in items.tolist():
        pairs = list(itertools.combinations([item for item in row if item >= 0], 2))
        if pairs:
            of_lists.append(sum(1 - dense[a] @ dense[b] for a, b in pairs) / len(pairs))
    expected = sum(of_lists) / len(of_lists)
    assert Diversity().of_vectors(items, texts) == pytest.approx(expected)


def test_extremes() -> None:
    nothing, events = np.full((2, 3), -1), popularity(0)
    for metric in (Coverage(), Gini(), Novelty(), Cold()):
        assert metric.of_lists(nothing, events) == 0
    assert Diversity().of_vectors(np.array([[4, -1], [-1, -1]]), vectors(0)) == 0
    everything = np.arange(NUM_ITEMS).reshape(3, -1)
    assert Gini().of_lists(everything, events) == pytest.approx(0)
    assert Coverage().of_lists(everything, events) == 1
    same = np.zeros((9, 1), dtype=np.int64)
    assert Gini().of_lists(same, events) == pytest.approx(1 - 1 / NUM_ITEMS)


@pytest.mark.parametrize("seed", range(3))
def test_coverage_and_gini_are_those_of_recbole(seed: int) -> None:
    metrics = outside("recbole.evaluator.metrics")
    items, settings = lists(seed, full=True), {"topk": [3, 10], "metric_decimal_place": 12}
    given = {"rec.items": torch.from_numpy(items), "data.num_items": NUM_ITEMS}
    for cutoff in (3, 10):
        for ours, theirs, key in (
            (Coverage(), metrics.ItemCoverage, "itemcoverage"),
            (Gini(), metrics.GiniIndex, "giniindex"),
        ):
            expected = theirs(settings).calculate_metric(given)[f"{key}@{cutoff}"]
            found = ours.of_lists(items[:, :cutoff], popularity(seed))
            assert found == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("seed", range(3))
def test_novelty_and_diversity_are_those_of_recmetrics(seed: int) -> None:
    theirs, pandas = outside("recmetrics"), outside("pandas")
    items, events, texts = lists(seed, full=True), popularity(seed), vectors(seed)
    counts = dict(enumerate((events + 1).tolist()))
    expected, _ = theirs.novelty(items.tolist(), counts, sum(counts.values()), items.shape[1])
    assert Novelty().of_lists(items, events) == pytest.approx(expected)
    alike = theirs.intra_list_similarity(items.tolist(), pandas.DataFrame(texts.toarray()))
    assert Diversity().of_vectors(items, texts) == pytest.approx(1 - alike)
