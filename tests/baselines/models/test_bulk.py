"""Recommendations into a file: the lists of the recommender, whatever kills the writer."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny_models import fit_model, shop

from baselines.data.histories import UserHistories
from baselines.models import bulk
from baselines.models.bulk import BulkRecommender
from baselines.models.recommender import Recommender
from baselines.models.rows import Request

IDS = shop().catalog.item_ids
HISTORIES = {f"user {n}": [IDS[(n * step) % 48] for step in range(1, 2 + n % 5)] for n in range(20)}
READERS: dict[str, Callable[..., pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".csv": pl.read_csv,
    ".jsonl": pl.read_ndjson,
}


def of(histories: dict[str, list[Any]]) -> UserHistories:
    items = pl.Series("item_id", [item for items in histories.values() for item in items])
    offsets = np.concatenate(([0], np.cumsum([len(items) for items in histories.values()])))
    return UserHistories(users=pl.Series("user_id", list(histories)), items=items, offsets=offsets)


@pytest.fixture(scope="module")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Recommender:
    return Recommender(fit_model(tmp_path_factory.mktemp("bulk")))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "CHUNK", 6)


def rows(lists: Any) -> list[tuple[Any, ...]]:
    """What a file should hold for what ``Recommender.recommend`` gives."""
    return [
        (user, rank, item.item_id, pytest.approx(item.score, abs=1e-5), item.title)
        for user, items in zip(HISTORIES, lists, strict=True)
        for rank, item in enumerate(items, start=1)
    ]


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_holds_the_lists_of_the_recommender(
    recommender: Recommender, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / "below" / f"lists{suffix}"
    assert BulkRecommender(recommender, of(HISTORIES), Request(k=4)).write(out) == 0
    table = READERS[suffix](out)
    assert table.columns == ["user_id", "rank", "item_id", "score", "title"]
    assert table.rows() == rows(recommender.recommend(list(HISTORIES.values()), k=4))
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_filters_and_boosts_are_those_of_the_recommender(
    recommender: Recommender, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {"within": tuple(IDS[:5]), "boosts": {IDS[2]: 3.0}}
    request = Request(k=5, exclude_seen=False, **asked)
    found = BulkRecommender(recommender, of(HISTORIES), request)
    out = tmp_path / "lists.parquet"
    assert found.write(out) == 0
    lists = recommender.recommend(list(HISTORIES.values()), 5, exclude_seen=False, **asked)
    assert pl.read_parquet(out).rows() == rows(lists)
    assert BulkRecommender(recommender, of(HISTORIES), Request(k=6, **asked)).write(out) == 20


def test_what_the_model_does_not_know_is_skipped_or_refused_by_user(
    recommender: Recommender,
) -> None:
    strange = of({"a": [IDS[0]], "b": [999, IDS[1]], "c": [998]})
    with pytest.raises(ValueError, match=r"got 999 in the history of user 'b' \(2 unknown in all"):
        BulkRecommender(recommender, strange, Request(unknown="refuse"))
    with pytest.raises(ValueError, match=r"none in the history of user 'c' \(1 such in all"):
        BulkRecommender(recommender, strange, Request())
    found = BulkRecommender(recommender, strange, Request(k=3, empty="popular"))
    assert (found.unknown, found.without_items) == (2, 1)
    lists = found.table().partition_by("user_id", as_dict=True)
    counts = shop().splits.train.items
    popular = np.argsort(-np.bincount(counts, minlength=48), kind="stable")[:3]
    assert lists["c",]["item_id"].to_list() == [IDS[row] for row in popular]


def test_a_filter_that_forbids_everything_leaves_nothing_behind(
    recommender: Recommender, tmp_path: Path
) -> None:
    found = BulkRecommender(recommender, of(HISTORIES), Request(within=(999,)))
    with pytest.raises(ValueError, match="of which the model knows none"):
        found.write(tmp_path / "lists.csv")
    assert not list(tmp_path.iterdir())


def test_files_of_others_beside_the_chunks_stay(recommender: Recommender, tmp_path: Path) -> None:
    other = tmp_path / "lists.csv.parts" / "notes.txt"
    other.parent.mkdir()
    other.write_text("mine")
    BulkRecommender(recommender, of(HISTORIES), Request(empty="popular")).write(
        tmp_path / "lists.csv"
    )
    assert [path.name for path in other.parent.iterdir()] == ["notes.txt"]
    assert (tmp_path / "lists.csv").exists()


def stop_after(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, real = [], bulk._keep

    def keep(*args: Any) -> None:
        if len(kept) == chunks:
            raise KeyboardInterrupt
        kept.append(real(*args))

    monkeypatch.setattr(bulk, "_keep", keep)


def test_kept_chunks_are_not_computed_again_and_belong_to_one_request(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = dict(list(HISTORIES.items())[1:])
    out, whole = tmp_path / "lists.csv", tmp_path / "whole.csv"
    BulkRecommender(recommender, of(HISTORIES), Request(k=4)).write(whole)
    with monkeypatch.context() as stopping:
        stop_after(2, stopping)
        with pytest.raises(KeyboardInterrupt):
            BulkRecommender(recommender, of(HISTORIES), Request(k=4)).write(out)
    assert not out.exists()
    with pytest.raises(ValueError, match=r"other recommendations \(k differ\)"):
        BulkRecommender(recommender, of(HISTORIES), Request(k=5)).write(out)
    with pytest.raises(ValueError, match=r"other recommendations \(histories differ\)"):
        BulkRecommender(recommender, of(others), Request(k=4)).write(out)
    with monkeypatch.context() as stopping:
        stop_after(2, stopping)  # two of four are there
        BulkRecommender(recommender, of(HISTORIES), Request(k=4)).write(out)
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "lists.csv.parts").exists()


def test_a_damaged_chunk_is_refused(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "lists.csv"
    with monkeypatch.context() as stopping:
        stop_after(1, stopping)
        with pytest.raises(KeyboardInterrupt):
            BulkRecommender(recommender, of(HISTORIES), Request(k=4)).write(out)
    (chunk,) = (tmp_path / "lists.csv.parts").glob("*.parquet")
    damaged = bytearray(chunk.read_bytes())
    damaged[20] ^= 1
    chunk.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"was damaged\. Remove it"):
        BulkRecommender(recommender, of(HISTORIES), Request(k=4)).write(out)
    chunk.unlink()
    assert BulkRecommender(recommender, of(HISTORIES), Request(k=4)).write(out) == 0


KILLED = """
import sys, time
from baselines.cli import main
from baselines.models import bulk
bulk.CHUNK = 6
keep = bulk._keep
bulk._keep = lambda *args: (keep(*args), time.sleep(0.2))
sys.exit(main(sys.argv[1:]))
"""


def test_the_command_killed_at_random_writes_the_same_file(tmp_path: Path) -> None:
    fit_model(tmp_path)
    pl.DataFrame({"user_id": list(HISTORIES), "history": list(HISTORIES.values())}).write_parquet(
        tmp_path / "users.parquet"
    )
    options = ["--model", str(tmp_path / "model"), "--histories", str(tmp_path / "users.parquet")]

    def run(out: str) -> subprocess.Popen[bytes]:
        command = ["recommend", *options, "--k", "4", "--out", str(tmp_path / out)]
        return subprocess.Popen([sys.executable, "-c", KILLED, *command], stdout=subprocess.DEVNULL)

    assert run("whole.csv").wait() == 0
    kills, parts = random.Random(0), tmp_path / "lists.csv.parts"
    for _ in range(3):
        process = run("lists.csv")
        while not parts.exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(kills.uniform(0.02, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run("lists.csv").wait() == 0
    assert (tmp_path / "lists.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert not parts.exists()
