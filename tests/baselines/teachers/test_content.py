"""Content neighbours: cosines one by one, of vectors and of words."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import histories, random_sequences

import baselines.teachers.content
from baselines.data.dataset import Dataset
from baselines.data.splits import Splits
from baselines.teachers.content import Content, tfidf
from baselines.teachers.counting_config import ContentConfig
from semid.catalog import Catalog

TITLES = [
    "Red lipstick, matte",
    "Red lipstick glossy red",
    "Matte powder",
    "Hair brush",
    "Brush for hair and hair",
    "Unique",
    "",
]
PASTS = [[0, 2], [6], [5, 4, 4, 1, 3]]


def dataset(**fields: list[str]) -> Dataset:
    train = random_sequences(len(TITLES), 5)
    catalog = Catalog(item_ids=list(range(len(TITLES))), fields=pl.DataFrame(fields))
    splits = Splits(train=train, valid=train, test=train, protocol="tiny", dropped={})
    return Dataset(name="tiny", catalog=catalog, splits=splits, interactions=None)


def slow_tfidf(texts: list[str]) -> list[dict[str, float]]:
    """Weight of each term of each text, by loops."""
    counts = []
    for text in texts:
        words = re.findall(r"\w\w+", text.lower())
        counts.append(Counter(words + [" ".join(pair) for pair in pairwise(words)]))
    of_term = Counter(term for count in counts for term in count)
    return [
        {
            term: (1 + math.log(number)) * (1 + math.log((1 + len(texts)) / (1 + of_term[term])))
            for term, number in count.items()
            if of_term[term] >= 2
        }
        for count in counts
    ]


def slow_cosine(one: dict[str, float], other: dict[str, float]) -> float:
    norms = [math.sqrt(sum(weight**2 for weight in each.values())) for each in (one, other)]
    product = sum(weight * other.get(term, 0.0) for term, weight in one.items())
    return product / (norms[0] * norms[1]) if all(norms) else 0.0


def slow_scores(config: ContentConfig, cosines: list[list[float]], past: list[int]) -> list[float]:
    items = range(len(cosines))
    kept = [[0.0] * len(cosines) for _ in items]
    for a in items:
        near = sorted((-round(cosines[a][b], 6), b) for b in items if b != a)[: config.neighbours]
        for negative, b in near:
            if negative < 0:
                kept[a][b] = cosines[a][b] ** config.power
    values = [value for row in kept for value in row if value]
    mean = sum(values) / len(values)
    scores = []
    for b in items:
        ages = enumerate(reversed(past[-config.max_history :]))
        evidence = sum(config.decay**age * kept[a][b] / mean for age, a in ages)
        scores.append(math.log(evidence + config.smoothing))
    return scores


@pytest.mark.parametrize(
    "config", [ContentConfig(), ContentConfig(neighbours=1, power=2.5, decay=1, max_history=2)]
)
def test_scores_of_texts_are_the_definition(config: ContentConfig) -> None:
    made = Content.build(dataset(title=TITLES), 0, config)
    terms = slow_tfidf(TITLES)
    cosines = [[slow_cosine(one, other) for other in terms] for one in terms]
    scores = made.score(histories(*PASTS, padding=1))
    assert scores.dtype == torch.float32
    for row, past in zip(scores.tolist(), PASTS, strict=True):
        assert row == pytest.approx(slow_scores(config, cosines, past), rel=1e-4, abs=1e-5)


@given(seed=st.integers(0, 1000), neighbours=st.integers(1, 8), at_once=st.integers(1, 30))
def test_scores_of_vectors_are_the_definition(seed: int, neighbours: int, at_once: int) -> None:
    vectors = torch.randn(len(TITLES), 3, generator=torch.Generator().manual_seed(seed))
    vectors[2] = 0
    unit = torch.nn.functional.normalize(vectors.double(), dim=1)
    config = ContentConfig(embeddings="lsa", neighbours=neighbours, smoothing=0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines.teachers.content, "_COSINES_AT_ONCE", at_once)
        made = Content.build(dataset(title=TITLES), 0, config, vectors)
    for row, past in zip(made.score(histories(*PASTS)).tolist(), PASTS, strict=True):
        expected = slow_scores(config, (unit @ unit.T).tolist(), past)
        assert row == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_equal_neighbours_go_to_the_lower_row() -> None:
    vectors = torch.ones(len(TITLES), 2)
    config = ContentConfig(embeddings="lsa", neighbours=2)
    made = Content.build(dataset(title=TITLES), 0, config, vectors)
    best = made.score(histories([1], [0])) > math.log(0.2)
    assert [row.nonzero().flatten().tolist() for row in best] == [[0, 2], [1, 2]]


def near(made: Content, item: int) -> list[int]:
    found: list[int] = made.evidence(histories([item]))[0].nonzero().flatten().tolist()
    return found


def test_title_brand_and_categories_are_read_unless_a_template_says_otherwise() -> None:
    other = [f"word{row % 2}" for row in range(len(TITLES))]
    data = dataset(title=[""] * len(TITLES), brand=TITLES, description=other)
    assert near(Content.build(data, 0, ContentConfig()), 3) == [4]
    described = Content.build(data, 0, ContentConfig(template="{description}"))
    assert near(described, 3) == [1, 5]
    assert near(Content.build(dataset(description=TITLES), 0, ContentConfig()), 3) == [4]


@pytest.mark.parametrize(
    ("fields", "config", "line"),
    [
        ({}, ContentConfig(), "the catalogue has no text"),
        ({"title": [""] * 7}, ContentConfig(), "expected texts of items that share words"),
        ({"title": list("abcdefg")}, ContentConfig(), "expected texts of items that share words"),
        ({"title": TITLES}, ContentConfig(embeddings="lsa"), "needs the vectors of lsa, got none"),
        ({"title": TITLES}, ContentConfig(template="{taste}"), "must name columns in braces"),
    ],
)
def test_without_text_it_is_refused_in_one_line(
    fields: dict[str, list[str]], config: ContentConfig, line: str
) -> None:
    with pytest.raises(ValueError, match=line) as refused:
        Content.build(dataset(**fields), 0, config)
    assert "\n" not in str(refused.value)


def test_rows_of_tfidf_have_length_one() -> None:
    norms = np.sqrt(tfidf(TITLES).power(2).sum(axis=1)).flatten()
    assert np.asarray(norms).flatten().tolist() == pytest.approx([1, 1, 1, 1, 1, 0, 0], abs=1e-6)
