from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from baselines.data.dataset import Dataset, split_interactions
from baselines.data.loading import load_catalog, load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset

ITEMS = "item_id,title\na,Red\nb,Blue\nc,Green\nd,Grey\n"
EVENTS = "user_id,item_id,timestamp\n" + "".join(
    f"{user},{item},{time}\n" for user in "xy" for time, item in enumerate("dcba")
)
WINDOWS = "history,item_id\na b,c\n"


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / f"{name}.csv").write_text(text)
    return path


def test_interactions_are_split_by_leave_one_out(tmp_path: Path) -> None:
    data = load_dataset(folder_of(tmp_path / "mine", items=ITEMS, interactions=EVENTS))
    assert data.name == "mine"
    assert data.splits.protocol == "leave_one_out"
    assert data.statistics == {
        "users": 2,
        "items": 4,
        "interactions": 8,
        "train_targets": 2,
        "valid_targets": 2,
        "test_targets": 2,
        "test_targets_unseen_in_train": 2,
    }
    assert not any(data.dropped.values())


def test_windows_are_taken_as_given(tmp_path: Path) -> None:
    files = {"train_10": WINDOWS, "valid": WINDOWS, "valid_old": "", "test": WINDOWS}
    folder = folder_of(tmp_path, items=ITEMS, **files)
    data = load_dataset(folder)
    assert data.interactions is None
    assert data.splits.protocol == "windows"
    assert data.statistics["train_targets"] == 1
    assert data.statistics["test_targets_unseen_in_train"] == 0
    with pytest.raises(ValueError, match="windows and no interactions to write"):
        write_plain_layout(data, tmp_path / "copy")


def test_the_split_can_be_chosen_where_there_is_both(tmp_path: Path) -> None:
    files = {"train": WINDOWS, "valid": WINDOWS, "test": WINDOWS, "interactions": EVENTS}
    folder = folder_of(tmp_path, items=ITEMS, **files)
    assert load_dataset(folder).splits.protocol == "leave_one_out"
    assert load_dataset(folder, split="windows").splits.protocol == "windows"
    assert load_dataset(folder, split="global_time").splits.protocol.startswith("global_time")


def test_ties_follow_the_named_rule(tmp_path: Path) -> None:
    events = EVENTS.replace("0\n", "9\n").replace("1\n", "9\n").replace("2\n", "9\n")
    folder = folder_of(tmp_path, items=ITEMS, interactions=events.replace("3\n", "9\n"))
    assert load_dataset(folder).splits.test.items[:4].tolist() == [3, 2, 1, 0]
    assert load_dataset(folder, ties="item").splits.test.items[:4].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        (
            {},
            "auto",
            r"expected one file items{.parquet,.*}, perhaps compressed, found nothing",
        ),
        ({"items": ITEMS}, "auto", r"expected one file interactions{.*found items.csv"),
        ({"items": ITEMS}, "global_time", r"expected one file interactions{.*found items.csv"),
        (
            {"items": ITEMS, "train": WINDOWS},
            "auto",
            r"one file test{.*found items.csv, train.csv",
        ),
        ({"items": ITEMS, "interactions": EVENTS}, "windows", r"expected one file train{"),
        (
            {"items": ITEMS, "train_1": WINDOWS, "train_2": WINDOWS},
            "auto",
            r"one file train{.*found train_1.csv, train_2.csv",
        ),
        ({"items": ITEMS}, "random", r"split must be one of auto, .*got 'random'"),
    ],
)
def test_a_folder_that_lacks_a_file_gives_one_clear_line(
    files: dict[str, str], split: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(folder_of(tmp_path, **files), split=split)
    assert "\n" not in str(caught.value)


def test_a_log_written_twice_is_counted_and_can_be_read_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    twice = EVENTS + EVENTS.partition("\n")[2]
    once = load_dataset(folder_of(tmp_path / "once", items=ITEMS, interactions=EVENTS))
    folder = folder_of(tmp_path / "twice", items=ITEMS, interactions=twice)
    kept = load_dataset(folder)
    assert kept.statistics["repeated_interactions"] == 8
    assert kept.statistics["repeated_test_targets"] == 2
    with caplog.at_level("INFO"):
        exact = load_dataset(folder, repeats="exact")
    assert exact.dropped["repeated_interactions"] == 8
    assert "twice, left out: 8 repeated interactions" in caplog.text
    assert exact.statistics == once.statistics
    assert exact.splits.train_hash == once.splits.train_hash
    windows = {"train": WINDOWS, "valid": WINDOWS, "test": WINDOWS}
    with pytest.raises(ValueError, match=r"repeats 'exact' drops events .* used as given"):
        load_dataset(folder_of(tmp_path / "w", items=ITEMS, **windows), repeats="exact")


def test_what_is_strange_but_kept_is_noted(tmp_path: Path) -> None:
    files = {"items": ITEMS + "A,Black &amp; White\n", "interactions": EVENTS + "X,a,9\n"}
    noted = load_dataset(folder_of(tmp_path, **files)).noted
    assert noted == {
        "near_equal_item_ids": 2,
        "texts_with_html_entities": 1,
        "near_equal_user_ids": 2,
    }


def test_a_folder_that_does_not_exist_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder nowhere; .* synthetic, movielens"):
        load_dataset("nowhere")


def test_interactions_hold_no_windows() -> None:
    data = synthetic_dataset(num_users=20, num_items=40, num_categories=2)
    assert data.interactions is not None
    with pytest.raises(ValueError, match="leave_one_out or global_time, got 'windows'"):
        split_interactions(data.interactions, "windows")


def assert_same(one: Dataset, other: Dataset) -> None:
    assert one.catalog.item_ids == other.catalog.item_ids
    assert one.catalog.fields.equals(other.catalog.fields)
    assert one.interactions is not None
    assert other.interactions is not None
    assert one.interactions.user_ids == other.interactions.user_ids
    assert np.array_equal(one.interactions.items, other.interactions.items)
    for part in ("train", "valid", "test"):
        hashes = {getattr(data.splits, part).content_hash() for data in (one, other)}
        assert len(hashes) == 1


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    data = synthetic_dataset(num_users=50, num_items=40, num_categories=2)
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "codes.json").write_text("{}")
    write_plain_layout(data, tmp_path / "world")
    assert_same(load_dataset(tmp_path / "world"), data)
    assert (tmp_path / "world" / "codes.json").exists()


def test_positions_are_written_as_positions(tmp_path: Path) -> None:
    events = EVENTS.replace("timestamp", "position")
    data = load_dataset(folder_of(tmp_path / "a", items=ITEMS, interactions=events))
    write_plain_layout(data, tmp_path / "b")
    columns = pl.read_parquet(tmp_path / "b" / "interactions.parquet").columns
    assert columns == ["user_id", "item_id", "position"]
    assert_same(load_dataset(tmp_path / "b"), data)


def test_the_synthetic_world_has_the_sizes_it_is_asked_for() -> None:
    sizes = load_dataset("synthetic:90x40").statistics
    assert (sizes["users"], sizes["items"]) == (90, 40)


def test_the_catalogue_alone_needs_no_interactions(tmp_path: Path) -> None:
    catalog = load_catalog(folder_of(tmp_path / "mine", items=ITEMS))
    assert catalog.item_ids == ["a", "b", "c", "d"]
    assert load_catalog("synthetic:90x40").order_hash == load_catalog("synthetic:70x40").order_hash


def test_the_synthetic_world_has_a_name() -> None:
    data = load_dataset("synthetic", seed=1, split="global_time", ties="item")
    assert data.name == "synthetic"
    assert data.splits.protocol.startswith("global_time")
    assert_same(data, synthetic_dataset(seed=1, split="global_time", ties="item"))


def popularity_ndcg(data: Dataset, cutoff: int) -> float:
    """NDCG of training counts on the test targets, one user at a time; seen items are removed."""
    counts = np.bincount(data.splits.train.items, minlength=len(data.catalog))
    best = np.argsort(-counts, kind="stable").tolist()
    test, total = data.splits.test, 0.0
    for number, event in zip(*test.targets(), strict=True):
        seen = set(test.items[test.offsets[number] : event].tolist())
        shown: list[int] = []
        for item in best:
            if len(shown) == cutoff:
                break
            if item not in seen:
                shown.append(item)
        target = int(test.items[event])
        if target in shown:
            total += 1 / math.log2(shown.index(target) + 2)
    return total / test.num_targets


def test_beauty_is_the_published_data_set(shared_data: Path) -> None:
    data = load_dataset(shared_data / "beauty")
    assert data.statistics == {
        "users": 22_363,
        "items": 12_101,
        "interactions": 198_502,
        "train_targets": 131_413,
        "valid_targets": 22_363,
        "test_targets": 22_363,
        "test_targets_unseen_in_train": 138,
    }
    assert not any(data.dropped.values())
    assert popularity_ndcg(data, 10) == pytest.approx(0.0055, abs=5e-5)
    assert popularity_ndcg(data, 5) == pytest.approx(0.0041, abs=5e-5)


@pytest.mark.parametrize(
    ("name", "users", "items", "interactions"),
    [("yelp", 30_431, 20_033, 316_354), ("instruments", 24_772, 9_922, 206_153)],
)
def test_the_plain_layout_is_read_as_it_is(
    shared_data: Path, name: str, users: int, items: int, interactions: int
) -> None:
    found = load_dataset(shared_data / name).statistics
    assert (found["users"], found["items"], found["interactions"]) == (users, items, interactions)


def test_office_comes_in_windows(shared_data: Path) -> None:
    data = load_dataset(shared_data / "office_tca4rec")
    found = [data.statistics[f"{part}_targets"] for part in ("train", "valid", "test")]
    assert found == [10_000, 5_000, 5_000]
    assert set(data.splits.train.lengths) == {11}
    assert data.statistics["users"] == 4_332


def test_the_last_tenth_of_books_validates(shared_data: Path) -> None:
    data = load_dataset(shared_data / "books_msl")
    found = [data.statistics[f"{part}_targets"] for part in ("train", "valid", "test")]
    assert found == [31_554, 3_506, 4_383]
    assert "last tenth of train" in data.splits.protocol


def test_a_data_set_without_training_windows_is_refused(shared_data: Path) -> None:
    with pytest.raises(ValueError, match="office_minionerec: expected one file train"):
        load_dataset(shared_data / "office_minionerec")


def test_positions_have_no_global_time(shared_data: Path) -> None:
    with pytest.raises(ValueError, match="needs a timestamp for each interaction"):
        load_dataset(shared_data / "beauty", split="global_time")
