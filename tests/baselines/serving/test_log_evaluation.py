"""``semid evaluate --log``: the next events of a log's users, by hand, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from baselines.cli import main
from baselines.evaluation.metrics import MISS
from baselines.serving.later import LATER, LoggedEvaluation, read_events
from baselines.serving.log_reading import read_log

NOON = 1_700_000_000  # 2023-11-14T22:13:20Z


def line(second: int = 0, user: str | None = "u", items: Any = (1, 2, 3), **more: Any) -> str:
    """A line of the log as ``semid serve`` writes it."""
    when = np.datetime64(NOON + second, "s")
    body = {"history": [9], **({} if user is None else {"user": user})}
    found = {
        "time": f"{when}.000+00:00",
        "request": f"{second}-{user}",
        "arm": "a",
        "model": "m",
        "share": 0.5,
        "body": body,
        "items": [{"item_id": item, "score": -1.0, "title": "t"} for item in items],
        "method": "POST",
        "path": "/v1/recommend",
        "status": 200,
        "latency_ms": 5.0,
        **more,
    }
    return json.dumps(found)


def log_of(folder: Path, *lines: str) -> Path:
    path = folder / "requests.jsonl"
    path.write_text("".join(f"{one}\n" for one in lines))
    return path


def events_of(folder: Path, *events: tuple[str, int, int], name: str = "events.csv") -> Path:
    path = folder / name
    rows = "".join(f"{user},{item},{NOON + second}\n" for user, item, second in events)
    path.write_text(f"user_id,item_id,timestamp\n{rows}")
    return path


def test_each_request_is_judged_by_the_next_event_of_its_user(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        line(0),
        line(10),
        line(20),
        line(30),
        line(0, "v"),
        line(0, "w"),
        line(5, None),
    )
    events = events_of(
        tmp_path, ("u", 7, 0), ("u", 2, 12), ("u", 1, 15), ("u", 8, 25), ("v", 3, 100), ("x", 1, 1)
    )
    found = LoggedEvaluation.of(log, events).requests
    assert found["target"].to_list() == ["2", "2", "8", None, "3", None, None]
    assert found["rank"].to_list() == [1, 1, MISS, None, 2, None, None]
    soon = LoggedEvaluation.of(log, events, within_hours=12 / 3600).requests
    assert soon["target"].to_list() == ["2", "2", "8", None, None, None, None]


def test_measures_of_an_arm_by_hand(tmp_path: Path) -> None:
    log = log_of(
        tmp_path,
        line(0, "u", range(1, 11), latency_ms=10.0),
        line(10, "u", range(11, 21), latency_ms=20.0),
        line(0, "v", range(1, 11), latency_ms=30.0),
        line(0, "w", range(1, 11), latency_ms=40.0),
        line(0, None, range(1, 11), latency_ms=50.0),
        line(0, "w", (), status=504, latency_ms=5000.0),
    )
    events = events_of(tmp_path, ("u", 1, 5), ("u", 14, 20), ("v", 7, 1))  # ranks 0, 3, 6
    (arm,) = LoggedEvaluation.of(log, events, cutoffs=(1, 5, 10)).arms
    assert (arm.requests, arm.refused, arm.users, arm.later_events) == (5, 1, 3, 3)
    values = {name: estimate.value for name, estimate in arm.measures.items()}
    assert values == pytest.approx(
        {
            LATER: 3 / 4,
            "R@1": 1 / 3,
            "R@5": 2 / 3,
            "R@10": 3 / 3,
            "N@1": 1 / 3,
            "N@5": (1 + 1 / math.log2(5)) / 3,
            "N@10": (1 + 1 / math.log2(5) + 1 / math.log2(8)) / 3,
            "MRR": (1 + 1 / 4 + 1 / 7) / 3,
        }
    )
    assert arm.latency_ms == pytest.approx({"p50": 30.0, "p95": 48.0, "p99": 49.6})
    for estimate in arm.measures.values():
        assert estimate.low <= estimate.value <= estimate.high
    # user u alone has requests at hit and miss of the first place: 1/2; v alone: 0
    assert (arm.measures["R@1"].low, arm.measures["R@1"].high) == (0.0, 0.5)


def test_arms_and_models_are_told_apart_and_arms_compared(tmp_path: Path) -> None:
    users = [f"u{n}" for n in range(60)]
    arms = {user: "ab"[n % 2] for n, user in enumerate(users)}
    models = {user: f"{arms[user]}{n // 30}" for n, user in enumerate(users)}
    log = log_of(
        tmp_path,
        *(line(0, user, arm=arms[user], model=models[user]) for user in users),
        *(line(0, "both", arm=arm, model=f"{arm}0") for arm in "ab"),
    )
    wanted = {"a": 5, "b": 1}  # b lists it first, a never
    events = events_of(tmp_path, *((user, wanted[arms[user]], 60) for user in users))
    found = LoggedEvaluation.of(log, events)
    assert [(arm.arm, arm.model, arm.requests) for arm in found.arms] == [
        ("a", "a0", 16),
        ("a", "a1", 15),
        ("b", "b0", 16),
        ("b", "b1", 15),
    ]
    assert found.users_of_several_arms == ["both"]
    by_measure = {each.measure: each for each in found.differences}
    assert {(each.arm, each.reference) for each in found.differences} == {("b", "a")}
    assert by_measure[LATER].difference == (0.0, 0.0, 0.0)
    assert (by_measure[LATER].p, by_measure[LATER].holm) == (1.0, 1.0)
    for name in ("R@5", "MRR"):
        assert by_measure[name].difference == (1.0, 1.0, 1.0)
        assert by_measure[name].p == pytest.approx(2 / 1001)


def test_units_dates_and_folders_of_events_are_read(tmp_path: Path) -> None:
    seconds = [NOON, NOON + 1]
    tables = {
        "s": seconds,
        "ms": [1000 * second for second in seconds],
        "ns": [10**9 * second for second in seconds],
        "float": [float(second) for second in seconds],
        "dates": ["2023-11-14T22:13:20Z", "2023-11-14T23:13:21+01:00"],
    }
    for name, times in tables.items():
        folder = tmp_path / name
        folder.mkdir()
        table = pl.DataFrame({"user_id": [7, 7], "item_id": ["x", "y"], "timestamp": times})
        table.write_parquet(folder / "interactions.parquet")
        found = read_events(folder)
        assert found["time"].to_list() == [10**6 * second for second in seconds]
        assert found.select("user_id", "item_id").rows() == [("7", "x"), ("7", "y")]


def test_a_log_of_the_server_is_read(
    serve: Any, causal: Path, tiger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "requests.jsonl"
    server = serve(f"a={causal}", f"b={tiger}", log=str(log), shares=(0.5, 0.5))
    answers = {
        user: server.post("recommend", {"history": [4, 5], "user": user}).json()
        for user in ("ann", "bob", "cy", "di")
    }
    server.post("similar", {"item": 4})
    server.post("recommend", {"history": [10**9], "user": "ann"})
    server.client.get("/v1/models")
    wanted = {user: answer["items"][2]["item_id"] for user, answer in answers.items()}
    events = tmp_path / "events.csv"
    rows = "".join(f"{user},{item},2100-01-01\n" for user, item in wanted.items())
    events.write_text(f"user_id,item_id,timestamp\n{rows}")
    out = tmp_path / "out"
    words = ["evaluate", "--log", str(log), "--data", str(events), "--out", str(out)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "requests without a user: 0" in shown
    assert "latency p95, ms" in shown
    found = json.loads((out / "metrics.json").read_text())
    assert found["protocol"]["within_hours"] is None
    assert sum(arm["requests"] for arm in found["arms"]) == 4
    assert sum(arm["refused"] for arm in found["arms"]) == 1
    for arm in found["arms"]:
        assert arm["model"] in {answer["model"] for answer in answers.values()}
        assert arm["measures"]["MRR"]["value"] == pytest.approx(1 / 3)
    ranks = pl.read_parquet(out / "ranks.parquet")
    assert ranks["better"].to_list() == [2] * 4
    assert ranks["item_id"].to_list() == [str(item) for item in wanted.values()]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("{", "expected an object in JSON, got '{' (Expecting property name"),
        ("[1]", "expected an object in JSON, got '[1]'"),
        ("[" * 100_000, "expected an object in JSON, got '[[["),
        ('{"path": "/v1/recommend"}', "expected status, a whole number from 100 to 599, got None"),
        (line(status="200"), "expected status, a whole number from 100 to 599, got '200'"),
        (line(path=None), "expected path, a text, got None"),
        (line(time="yesterday"), "expected time, a date with time and zone in ISO format, got"),
        (line(time="2023-11-14T12:00:00"), "expected time, a date with time and zone"),
        (line(body=None), "expected body, an object, got None"),
        (line(body={"user": 7}), "expected user, a text, got 7"),
        (line(body={"user": "\ud800"}), "expected user, a text, got"),
        (line(model=3), "expected model, a text, got 3"),
        (line(latency_ms=-1), "expected latency_ms, a number of at least 0, got -1"),
        (line(latency_ms=math.nan), "expected latency_ms, a number of at least 0, got nan"),
        (line(items=[1.5]), "expected items with item_id, a text or whole number, got"),
        (line(status=200, items=[]).replace('"items": []', '"items": 3'), "expected items, a list"),
    ],
)
def test_a_bad_line_is_named_with_its_file_and_number(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bad: str, said: str
) -> None:
    log, events = log_of(tmp_path, line(), "", bad), events_of(tmp_path, ("u", 1, 5))
    assert main(["evaluate", "--log", str(log), "--data", str(events)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"semid: {log}, line 3: {said}")


def test_text_that_is_no_unicode_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, events = log_of(tmp_path, line()), events_of(tmp_path, ("u", 1, 5))
    log.write_bytes(log.read_bytes() + b"\xff\n")
    assert main(["evaluate", "--log", str(log), "--data", str(events)]) == 2
    assert f"{log}, line 2: expected UTF-8, got" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected either --model FOLDER or --log FILE"),
        (["--log", "LOG", "--model", "m"], "expected either --model FOLDER or --log FILE"),
        (["--model", "m", "--within_hours", "3"], "within_hours is of a log"),
        (["--log", "LOG", "--within_hours", "0"], "within_hours must be above 0, got 0"),
        (["--log", "LOG", "--split", "given"], "split is of a model"),
        (["--log", "LOG", "--metrics", "coverage"], "expected a metric of the target's rank"),
        (["--log", "LOG", "--cutoffs", "0"], "cutoffs must be at least 1, got [0]"),
        (["--log", "nowhere"], "nowhere"),
        (["--log", "EMPTY"], "expected a request to /v1/recommend that a model answered, got none"),
        (["--log", "NOBODY"], "expected requests that name their user, got none of 1: send user"),
        (["--log", "LOG", "--data", "synthetic"], "expected a file or folder of the log's later"),
        (["--log", "LOG", "--data", "UNTIMED"], "has no column timestamp"),
        (["--log", "LOG", "--data", "UNREAD"], "times must be numbers or dates"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    places = {
        "LOG": log_of(tmp_path, line()),
        "EMPTY": tmp_path / "empty.jsonl",
        "NOBODY": tmp_path / "nobody.jsonl",
        "UNTIMED": tmp_path / "untimed.csv",
        "UNREAD": tmp_path / "unread.csv",
    }
    places["EMPTY"].write_text(line(path="/v1/similar") + "\n")
    places["NOBODY"].write_text(line(user=None) + "\n")
    places["UNTIMED"].write_text("user_id,item_id,position\nu,1,1\n")
    places["UNREAD"].write_text("user_id,item_id,timestamp\nu,1,soon\n")
    if "--data" not in words:
        words = [*words, "--data", str(events_of(tmp_path, ("u", 1, 5)))]
    words = [str(places.get(word, word)) for word in words]
    assert main(["evaluate", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_a_log_without_any_later_event_has_no_metrics(tmp_path: Path) -> None:
    found = LoggedEvaluation.of(log_of(tmp_path, line()), events_of(tmp_path, ("v", 1, 5)))
    (arm,) = found.arms
    assert {name: estimate.value for name, estimate in arm.measures.items()} == {LATER: 0.0}
    assert found.differences == []


def test_a_long_log_is_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("baselines.serving.log_reading._BLOCK", 2)
    found = read_log(log_of(tmp_path, line(0, None), line(1), line(2), line(3, None), line(4)))
    assert found["time"].to_list() == [10**6 * (NOON + second) for second in range(5)]
    assert found["user_id"].to_list() == [None, "u", "u", None, "u"]
