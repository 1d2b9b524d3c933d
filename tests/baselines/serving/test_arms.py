"""Several models side by side, and the log of what each answered."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from tiny_server import IDS, Serve, detail

from baselines.serving.config import ServeConfig
from baselines.serving.token import read_token

HISTORY = IDS[3:6]


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_header_names_the_model_and_users_keep_theirs(
    serve: Serve, causal: Path, tiger: Path
) -> None:
    server = serve(f"a={causal}", f"b={tiger}", shares=(0.75, 0.25))
    for name in "abba":
        answer = server.post("recommend", {"history": HISTORY}, **{"X-Semid-Arm": name})
        assert answer.json()["arm"] == name
    answer = server.post("recommend", {"history": HISTORY}, **{"X-Semid-Arm": "c"})
    assert answer.status_code == 404
    assert detail(answer) == "expected a model out of a, b, got 'c'"
    arms = server.service.arms
    of_users = [arms.choose(None, f"user {n}").name for n in range(2000)]
    assert Counter(of_users)["a"] / 2000 == pytest.approx(0.75, abs=0.03)
    assert of_users == [arms.choose(None, f"user {n}").name for n in range(2000)]
    at_random = Counter(arms.choose(None, None).name for _ in range(2000))
    assert at_random["a"] / 2000 == pytest.approx(0.75, abs=0.05)
    user = {"history": HISTORY, "user": "user 7"}
    assert server.post("recommend", user).json()["arm"] == of_users[7]


def test_without_shares_the_first_model_answers_unless_another_is_named(
    serve: Serve, causal: Path, tiger: Path
) -> None:
    server = serve(f"a={causal}", f"b={tiger}")
    arms = [server.post("similar", {"item": IDS[n]}).json()["arm"] for n in range(5)]
    assert arms == ["a"] * 5
    assert [arm["share"] for arm in server.client.get("/v1/models").json()["models"]] == [1.0, 0.0]


def test_changes_reach_all_models_or_none(serve: Serve, causal: Path, tiger: Path) -> None:
    server = serve(f"a={causal}", f"b={tiger}")

    def counts() -> list[int]:
        return [arm["items"] for arm in server.client.get("/v1/models").json()["models"]]

    gone = server.post("items/remove", {"items": [IDS[0]]}, **{"X-Semid-Arm": "b"})
    assert [arm["arm"] for arm in gone.json()["models"]] == ["b"]
    assert counts() == [48, 47]
    assert server.post("items/remove", {"items": IDS[1:]}).status_code == 422  # b would have none
    assert counts() == [48, 47]
    server.post("items/remove", {"items": IDS[1:3]})
    assert counts() == [46, 45]


def test_the_log_has_a_line_for_each_request_from_which_answers_can_be_judged(
    serve: Serve, causal: Path, tiger: Path, tmp_path: Path
) -> None:
    path = tmp_path / "logs" / "requests.jsonl"
    server = serve(f"a={causal}", f"b={tiger}", log=str(path), shares=(0.5, 0.5))
    body = {"history": HISTORY, "k": 3, "user": "u"}
    first = server.post("recommend", body)
    named = server.post("explain", {"history": HISTORY, "item": 4}, **{"X-Semid-Arm": "b"})
    refused = server.post("recommend", {"history": [10**6]})
    server.client.post("/v1/recommend", content=b"{")
    server.post("items/remove", {"items": [IDS[0]]})
    server.client.get("/health/ready")
    found = lines(path)
    paths = [(line["path"], line["status"]) for line in found]
    assert paths == [
        ("/v1/recommend", 200),
        ("/v1/explain", 200),
        ("/v1/recommend", 422),
        ("/v1/recommend", 415),
        ("/v1/items/remove", 200),
    ]
    answer = first.json()
    line = found[0]
    assert line["request"] == first.headers["x-request-id"]
    assert (line["arm"], line["model"]) == (answer["arm"], answer["model"])
    assert (line["body"], line["items"]) == (body, answer["items"])
    assert (line["share"], line["batch"]) == (0.5, 1)
    assert 0 <= line["waited_ms"] < line["latency_ms"]  # type: ignore[operator]
    assert str(line["time"]).endswith("+00:00")
    assert (found[1]["arm"], found[1]["share"]) == ("b", None)
    assert found[1]["model"] == named.json()["model"]
    assert found[2]["request"] == refused.headers["x-request-id"]
    assert found[2]["body"] == {"history": [10**6]}
    assert found[4]["body"] == {"items": [IDS[0]]}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk")
def test_a_full_disk_stops_the_log_and_not_the_answers(serve: Serve) -> None:
    server = serve(log="/dev/full")
    assert server.post("recommend", {"history": HISTORY}).status_code == 200
    assert server.metric("semid_unlogged_requests_total") == 1


def test_metrics_name_the_model_and_count_statuses(serve: Serve) -> None:
    server = serve()
    model = server.post("recommend", {"history": HISTORY}).json()["model"]
    server.post("recommend", {"history": []})
    text = server.client.get("/metrics").text
    assert f'semid_model{{arm="one",model="{model}"}} 1.0' in text
    counted = 'semid_requests_total{arm="one",route="/v1/recommend",status='
    assert f'{counted}"200"}} 1.0' in text
    assert f'{counted}"422"}} 1.0' in text
    assert "semid_waiting_requests 0.0" in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": ()}, "models must name at least one folder, got none"),
        ({"models": ("x", "y/x")}, "models must have different names, got x more than once"),
        ({"models": ("=x",)}, "models must be FOLDER or NAME=FOLDER"),
        ({"models": ("a=",)}, "models must be FOLDER or NAME=FOLDER"),
        ({"shares": (0.5,), "models": ("a", "b")}, "shares must be a number of at least 0 for"),
        ({"shares": (0.5, 0.6), "models": ("a", "b")}, "shares must add up to 1, got 1.1"),
        ({"shares": (1.5, -0.5), "models": ("a", "b")}, "shares must be a number of at least 0"),
        ({"port": 70_000}, "port must be a whole number from 0 to 65535, got 70000"),
        ({"queue": 0}, "queue must be a whole number of at least 1, got 0"),
        ({"deadline": 0.0}, "deadline must be above 0, got 0.0"),
        ({"deadline": float("nan")}, "deadline must be"),
        ({"watch": -1.0}, "watch must be at least 0, got -1.0"),
        ({"host": " "}, "host must"),
    ],
)
def test_settings_that_cannot_be_served(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match="must") as error:
        ServeConfig(**{"models": ("one",), **settings})  # type: ignore[arg-type]
    assert str(error.value).startswith(said)


def test_the_token_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEMID_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("SEMID_TOKEN", "from the environment")
    assert read_token(None) == "from the environment"
    file = tmp_path / "token"
    file.write_text("from a file\n")
    assert read_token(str(file)) == "from a file"
    for text in ("", "\n", "é", "two\nlines"):
        file.write_text(text)
        with pytest.raises(ValueError, match="expected a token of visible ASCII characters in"):
            read_token(str(file))
    with pytest.raises(FileNotFoundError):
        read_token(os.fspath(tmp_path / "none"))
