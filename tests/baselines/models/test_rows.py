"""Recommendations as a function of rows, alone and in workers of Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import torch
from tiny_models import fit_model, histories, shop

from baselines.cli import main
from baselines.data.histories import UserHistories
from baselines.models import bulk
from baselines.models.bulk import BulkRecommender, Workers
from baselines.models.recommender import Recommender
from baselines.models.rows import RecommendRows, Request
from semid.config import RayConfig
from semid.provenance import ProvenanceError

IDS = shop().catalog.item_ids
ROWS = histories()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("rows")
    fit_model(place)
    return place / "model"


@pytest.fixture(scope="module")
def recommender(folder: Path) -> Recommender:
    return Recommender.from_pretrained(folder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as a worker has, so that sums are rounded alike."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def alone(
    recommender: Recommender, one_thread: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bytes:
    """What one process writes, in chunks of six users."""
    monkeypatch.setattr(bulk, "CHUNK", 6)
    out = tmp_path / "alone.parquet"
    BulkRecommender(recommender, users(), Request(k=4)).write(out)
    return out.read_bytes()


def users() -> UserHistories:
    return UserHistories.of_lists(ROWS, shop().catalog.ids)


def in_turn(
    make: Callable[[], Any], chunks: Iterable[tuple[int, pa.Table]], _: RayConfig
) -> Iterator[tuple[int, pa.Table]]:
    """What Ray does, by one worker in this process, the last chunk first."""
    function = make()
    yield from ((number, function(rows)) for number, rows in reversed(list(chunks)))


def test_rows_become_the_lists_of_the_recommender(recommender: Recommender) -> None:
    found = RecommendRows(recommender, Request(k=3))(ROWS.to_arrow()).to_pylist()
    expected = recommender.recommend(ROWS["history"].to_list(), k=3)
    assert [(row["user_id"], row["rank"], row["item_id"], row["title"]) for row in found] == [
        (f"user {n:02}", rank, item.item_id, item.title)
        for n, items in enumerate(expected)
        for rank, item in enumerate(items, start=1)
    ]
    scores = [item.score for items in expected for item in items]
    assert [row["score"] for row in found] == pytest.approx(scores, abs=1e-5)


def test_rows_that_are_no_histories_are_refused(recommender: Recommender) -> None:
    lists = RecommendRows(recommender, Request(k=3))
    with pytest.raises(ValueError, match="expected columns user_id and history, got user_id: hist"):
        lists(pa.table({"user_id": [1]}))
    with pytest.raises(ValueError, match="one history of each user, got several"):
        lists(pa.table({"user_id": [1, 1], "history": [IDS[:1], IDS[:1]]}))
    with pytest.raises(ValueError, match="got none in the history of user 7"):
        lists(pa.table({"user_id": [7], "history": [[999]]}))


def test_users_without_items_keep_their_place() -> None:
    table = pl.DataFrame({"user_id": ["a", "b", "c"], "history": [[1, 2], [], [3]]})
    found = UserHistories.of_lists(table, shop().catalog.ids)
    assert found.lists(0, 3)["history"].to_list() == [[1, 2], None, [3]]
    again = UserHistories.of_lists(found.lists(1, 3), shop().catalog.ids)
    assert again.users.to_list() == ["b", "c"]
    assert again.offsets.tolist() == [0, 0, 1]


def test_workers_write_the_file_of_one_process(
    recommender: Recommender,
    folder: Path,
    alone: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "map_chunks", in_turn)
    workers = Workers(ray=RayConfig(), load=partial(Recommender.from_pretrained, folder))
    out = tmp_path / "shared.parquet"
    assert BulkRecommender(recommender, users(), Request(k=4)).write(out, workers) == 0
    assert out.read_bytes() == alone


def test_what_failing_workers_have_done_is_kept(
    recommender: Recommender,
    folder: Path,
    alone: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(*given: Any) -> Iterator[tuple[int, pa.Table]]:
        chunks = in_turn(*given)
        yield next(chunks)
        yield next(chunks)
        raise ValueError("the workers of Ray were lost")

    monkeypatch.setattr(bulk, "map_chunks", lost)
    workers = Workers(ray=RayConfig(), load=partial(Recommender.from_pretrained, folder))
    out, job = tmp_path / "lists.parquet", BulkRecommender(recommender, users(), Request(k=4))
    with pytest.raises(ValueError, match="were lost"):
        job.write(out, workers)
    assert not out.exists()
    assert len(list((tmp_path / "lists.parquet.parts").glob("*.parquet"))) == 2
    job.write(out)  # alone, from there on
    assert out.read_bytes() == alone


def test_a_worker_with_another_model_is_refused(
    recommender: Recommender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "map_chunks", in_turn)
    fit_model(tmp_path / "other", beam=7)
    load = partial(Recommender.from_pretrained, tmp_path / "other" / "model")
    job = BulkRecommender(recommender, users(), Request(k=4))
    with pytest.raises(ProvenanceError, match="model of this worker"):
        job.write(tmp_path / "lists.parquet", Workers(ray=RayConfig(), load=load))
    assert not (tmp_path / "lists.parquet").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::ray", "ignore::ResourceWarning")
def test_the_command_shares_users_among_workers_of_ray(
    folder: Path, alone: bytes, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    ROWS.write_parquet(tmp_path / "users.parquet")
    asked = ["recommend", "--model", str(folder), "--histories", str(tmp_path / "users.parquet")]
    out = tmp_path / "shared.parquet"
    assert main([*asked, "--k", "4", "--out", str(out), "--ray", "local"]) == 0
    assert out.read_bytes() == alone
    assert [path.name for path in tmp_path.glob("shared*")] == ["shared.parquet"]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["recommend", "--model", "m", "--history", "1", "--ray", "local"], "ray writes a file"),
        (["build", "--data", "synthetic", "--out", "ids", "--ray", "auto"], "--ids.fit_items"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    asked: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(asked) == 2
    assert message in capsys.readouterr().err
