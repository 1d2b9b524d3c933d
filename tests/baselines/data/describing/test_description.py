from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.data.dataset import Dataset, split_interactions
from baselines.data.describing.description import (
    describe,
    popularity_figures,
    repeat_figures,
    time_figures,
)
from baselines.data.describing.published import published_like
from baselines.data.describing.texts import text_figures
from baselines.data.interactions import Interactions
from baselines.data.loading import load_dataset
from semid.catalog import Catalog

CATALOG = Catalog(item_ids=list(range(8)), fields=pl.DataFrame({"title": list("abcdefgh")}))
LOGS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(0, 5)), min_size=1, max_size=40
)


def interactions_of(log: list[tuple[int, int, int]]) -> Interactions:
    """Events of user, item and time."""
    names = ["user_id", "item_id", "timestamp"]
    return Interactions.from_table(pl.DataFrame(log, schema=names, orient="row"), CATALOG)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=150).filter(any))
def test_the_long_tail_is_the_definition(counts: list[int]) -> None:
    found = popularity_figures(np.array(counts))
    differences = sum(abs(a - b) for a in counts for b in counts)
    assert found["gini"] == pytest.approx(differences / (2 * len(counts) * sum(counts)), abs=1e-12)
    descending = sorted(counts, reverse=True)
    for share, name in ((0.01, "share_of_top_1%"), (0.2, "share_of_top_20%")):
        top = descending[: math.ceil(share * len(counts))]
        assert found[name] == pytest.approx(sum(top) / sum(counts))
    positive = [count for count in counts if count]
    assert found["mean"] == pytest.approx(sum(positive) / len(positive))
    assert (found["least"], found["most"]) == (min(positive), max(positive))
    assert found["quantile_50%"] == np.median(positive)


@given(LOGS)
def test_repeats_and_equal_times_are_those_of_plain_python(log: list[tuple[int, int, int]]) -> None:
    histories = [sorted((e for e in log if e[0] == u), key=lambda e: e[2]) for u in range(4)]
    pairs = [pair for events in histories for pair in pairwise(events)]
    again = len(log) - len({event[:2] for event in log})
    world = interactions_of(log)
    assert repeat_figures(world) == {
        "in_a_history": again,
        "share_in_a_history": again / len(log),
        "in_a_row": sum(first[1] == second[1] for first, second in pairs),
        "exact": len(log) - len(set(log)),
    }
    same = sum(first[2] == second[2] for first, second in pairs)
    assert time_figures(world) == {
        "first": min(event[2] for event in log),
        "last": max(event[2] for event in log),
        "pairs_at_the_same_time": same,
        "share_of_pairs_at_the_same_time": same / max(len(pairs), 1),
    }


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6, 10**9])
def test_times_since_1970_are_told_as_dates(per_second: int) -> None:
    found = time_figures(interactions_of([(0, 1, 0), (0, 2, 1496275200 * per_second)]))
    assert found["first"] == "1970-01-01T00:00:00+00:00"
    assert found["last"] == "2017-06-01T00:00:00+00:00"


def test_a_small_log_is_described_in_full() -> None:
    log = [(0, item, item) for item in range(4)] + [(1, item, 9) for item in (0, 1, 0, 6)]
    world = interactions_of([*log, (2, 5, 0)])
    dataset = Dataset(
        name="small",
        catalog=CATALOG,
        splits=split_interactions(world, "leave_one_out"),
        interactions=world,
    )
    found = describe(dataset)
    assert list(found) == [
        *("sizes", "histories", "popularity", "repeats", "times", "splits", "leakage", "texts"),
        "left_out",
    ]
    assert found["sizes"] == {
        "users": 3,
        "items": 8,
        "items_with_interactions": 6,
        "interactions": 9,
        "density": 9 / 24,
    }
    assert found["histories"]["mean"] == 3
    assert (found["histories"]["least"], found["histories"]["most"]) == (1, 4)
    assert found["splits"]["test"] == {
        "sequences": 2,
        "users": 2,
        "shortest_history": 3,
        "longest_history": 3,
        "targets": 2,
        "target_items": 2,
        "items_seen": 5,
        "repeated_targets": 0,
        "targets_unseen_in_training": 2,
        "items_unseen_in_training": 2,
    }
    assert found["splits"]["valid"]["repeated_targets"] == 1
    assert found["left_out"] == {
        "users_too_short_for_evaluation": 1,
        "users_too_short_for_training": 1,
    }
    assert json.loads(json.dumps(found)) == found


def test_texts_are_counted_by_column() -> None:
    fields = pl.DataFrame(
        {
            "title": ["a <b>c</b>", "Соль", "塩 salt", "Соль", " ", None],
            "tags": [["x", "&amp;"], ["x", "&amp;"], [], None, ["y"], ["a < b & c"]],
            "numbers": [[1], [], None, [1], [2], [3]],
            "price": [1.0, None, 2.0, 3.0, 4.0, 5.0],
        }
    )
    assert text_figures(fields) == {
        "title": {
            "coverage": 4 / 6,
            "duplicates": 2,
            "mean_chars": (10 + 4 + 6 + 4) / 4,
            "html": 1 / 4,
            "scripts": {"Latin": 2 / 4, "Cyrillic": 2 / 4, "Han": 1 / 4},
        },
        "tags": {
            "coverage": 4 / 6,
            "duplicates": 2,
            "mean_chars": (8 + 8 + 1 + 9) / 4,
            "html": 2 / 4,
            "scripts": {"Latin": 1.0},
        },
        "numbers": {"coverage": 4 / 6},
        "price": {"coverage": 5 / 6},
    }


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        ("Amazon-Beauty", (1, 2, 3), "Amazon 2014 Beauty, 5-core"),
        ("ours", (943, 1682, 99), "MovieLens 100K"),
        ("movielens-1m", (6040, 3706, 1_000_209), "MovieLens 1M"),
        ("ours", (943, 2, 3), None),
    ],
)
def test_published_sizes_are_found_by_name_or_by_sizes(
    name: str, sizes: tuple[int, int, int], expected: str | None
) -> None:
    assert [known.name for known in published_like(name, sizes)] == ([expected] if expected else [])


def texts_like(recorded: dict[str, Any], texts: dict[str, dict[str, Any]]) -> None:
    for name, value in recorded.items():
        field, is_coverage, _ = name.partition("_coverage")
        if is_coverage:
            assert round(texts[field]["coverage"], 4) == value
    if "title_coverage" in recorded:
        assert texts["title"]["duplicates"] == recorded["items_sharing_a_title"]
        assert texts["title"]["mean_chars"] == pytest.approx(recorded["mean_title_chars"], abs=0.06)


@pytest.mark.parametrize("name", ["beauty", "yelp", "instruments"])
def test_recorded_statistics_of_logs_are_reproduced(shared_data: Path, name: str) -> None:
    recorded = json.loads((shared_data / "statistics.json").read_text())[name]
    found = describe(load_dataset(shared_data / name))
    sizes, histories, splits = found["sizes"], found["histories"], found["splits"]
    assert sizes["users"] == recorded["users"]
    assert sizes["items"] == sizes["items_with_interactions"] == recorded["items"]
    assert sizes["interactions"] == recorded["interactions"]
    assert f"{sizes['density']:.6f}" == recorded["density"]
    assert round(histories["mean"], 2) == recorded["mean_length"]
    assert histories["quantile_50%"] == recorded["median_length"]
    assert histories["least"] == recorded["min_length"]
    assert histories["most"] == recorded["max_length"]
    assert found["popularity"]["least"] == recorded["min_item_count"]
    assert found["repeats"]["in_a_history"] == recorded["repeated_in_a_sequence"]
    assert splits["test"]["items_unseen_in_training"] == recorded["test_items_never_in_training"]
    texts_like(recorded, found.get("texts", {}))
    (published,) = found["published"].values()
    assert published["equal"]
    if "published" in recorded:
        of_paper = [published[k] for k in ("users", "items_with_interactions", "interactions")]
        assert of_paper == recorded["published"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("office_tca4rec", {"train": "train_10000", "valid": "valid_5000", "test": "test_5000"}),
        ("books_msl", {"test": "test"}),
    ],
)
def test_recorded_statistics_of_windows_are_reproduced(
    shared_data: Path, name: str, parts: dict[str, str]
) -> None:
    recorded = json.loads((shared_data / "statistics.json").read_text())[name]
    found = describe(load_dataset(shared_data / name))
    assert found["sizes"]["items"] == recorded["items"]
    texts_like(recorded, found["texts"])
    for part, file in parts.items():
        row, expected = found["splits"][part], recorded[file]
        assert row["sequences"] == row["targets"] == expected["rows"]
        assert row["users"] == expected["users"]
        assert [row["shortest_history"], row["longest_history"]] == expected["history_lengths"]
        assert row["target_items"] == expected["target_items"]
        assert row["items_seen"] == expected["items_seen"]
        assert row["repeated_targets"] == expected["target_also_in_history"]
