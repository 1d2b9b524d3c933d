"""Which texts a small language model reads, and which it never does."""

from __future__ import annotations

import dataclasses

import polars as pl
import pytest
from worlds import sequence_set

from baselines.data.dataset import Dataset
from baselines.data.splits import Splits
from baselines.data.synthetic import synthetic_dataset
from baselines.pretraining.config import TextsConfig
from baselines.pretraining.texts import make_texts
from semid.catalog import Catalog

TITLES = ["red lipstick", "pink lipstick", "", "brush", "brush", "nude lipstick", "comb"]


def world() -> Dataset:
    """Seven items, one without a title and two that share one; the comb is in validation only."""
    train = sequence_set([([0, 1, 2, 3], 1), ([4, 5], 1), ([2, 0], 1)])
    held_out = sequence_set([([0, 6], 1)])
    return Dataset(
        name="seven",
        catalog=Catalog(
            item_ids=list(range(7)),
            fields=pl.DataFrame({"title": TITLES, "brand": ["Ada", "", "Bo", "Bo", "Bo", "", ""]}),
        ),
        splits=Splits(train=train, valid=held_out, test=held_out, protocol="hand", dropped={}),
        interactions=None,
    )


@pytest.mark.parametrize(
    ("share", "held_out"), [(0.2, {"comb"}), (0.7, {"comb", "red lipstick", "brush"})]
)
def test_titles_stand_once_and_those_held_out_nowhere_else(
    share: float, held_out: set[str]
) -> None:
    texts = make_texts(
        world(), TextsConfig(held_out=share, lists=0.9, further=("{title}, {brand}",)), seed=0
    )
    assert sorted([*texts.titles, *texts.held_out]) == sorted(set(TITLES) - {""})
    assert set(texts.held_out) == held_out
    assert texts.items_without_title == 1
    read = [*texts.titles, *texts.further, *(title for titles in texts.lists for title in titles)]
    assert not [text for text in read for title in texts.held_out if title in text]
    assert len(texts.further) == len(texts.titles)


def test_lists_are_training_sequences_in_their_order() -> None:
    texts = make_texts(world(), TextsConfig(held_out=0.2, lists=0.9), seed=0)
    expected = [["red lipstick", "pink lipstick", "brush"], ["brush", "nude lipstick"]]
    assert sorted(texts.lists) == sorted(expected), "a list has two titles at least"


def test_lists_keep_the_last_titles_and_their_share() -> None:
    dataset = synthetic_dataset(num_users=300, num_items=100)
    texts = make_texts(dataset, TextsConfig(lists=0.25, list_titles=3, held_out=0.1), seed=0)
    alone = len(texts.titles)
    assert len(texts.lists) == round(alone / 3)
    assert max(map(len, texts.lists)) == 3
    train = dataset.splits.train
    titles = dataset.catalog.texts("{title}")
    ends = {
        tuple(kept[-3:])
        for begin, end in zip(train.offsets[:-1], train.offsets[1:], strict=True)
        if (
            kept := [
                titles[item] for item in train.items[begin:end] if titles[item] in texts.titles
            ]
        )
    }
    assert all(tuple(titles) in ends for titles in texts.lists)
    assert make_texts(dataset, TextsConfig(lists=0.0, held_out=0.1), seed=0).lists == []


def test_what_is_held_out_of_a_split_changes_no_text() -> None:
    """Only the catalogue and the training sequences are read."""
    dataset = world()
    config = TextsConfig(held_out=0.2, lists=0.9)
    other = sequence_set([([5, 1, 6, 0, 3], 2)])
    splits = dataclasses.replace(dataset.splits, valid=other, test=other)
    changed = dataclasses.replace(dataset, splits=splits)
    same = [make_texts(data, config, seed=3).content_hash for data in (dataset, changed)]
    assert same[0] == same[1]


def test_a_title_is_held_out_for_its_letters_alone() -> None:
    small = synthetic_dataset(num_users=60, num_items=64)
    whole = small.catalog.texts("{title}")
    config = TextsConfig(held_out=0.2)
    held_out = set(make_texts(small, config, seed=0).held_out)
    catalog = Catalog(
        item_ids=small.catalog.item_ids,
        fields=small.catalog.fields.with_columns(title=pl.Series(whole[::-1])),
    )
    turned = dataclasses.replace(small, catalog=catalog)
    assert set(make_texts(turned, config, seed=1).held_out) == held_out
    assert 2 <= len(held_out) <= 30


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lists": 1.0}, "lists must be a number of at least 0 and below 1"),
        ({"list_titles": 1}, "at least 2, got 1"),
        ({"held_out": 0.0}, "held_out must be a number above 0 and below 1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextsConfig(**settings)  # type: ignore[arg-type]


def test_one_title_is_held_out_where_the_share_holds_out_none() -> None:
    assert make_texts(world(), TextsConfig(held_out=1e-6), seed=0).held_out == ["comb"]


def test_a_share_that_leaves_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="titles to hold out, got 0 and 5 of 7 items"):
        make_texts(world(), TextsConfig(held_out=1 - 1e-6), seed=0)
    with pytest.raises(ValueError, match="must name columns"):
        make_texts(world(), TextsConfig(title="{colour}"), seed=0)
