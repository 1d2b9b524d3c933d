"""Bad input is refused with the right status and one line, and nothing else suffers from it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from typing import Any

import httpx
import pytest
from tiny_server import IDS, Running, Serve, detail

from baselines.models.recommender import Recommender
from baselines.serving.served import ServedModel

HISTORY = IDS[3:6]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"history": [1, 2', 400, "expected a body in JSON"),
        (b"\xff\xfe", 400, ""),
        (b"", 422, "the body: Field required"),
        (b"[]", 422, "the body: Input should be a valid dictionary"),
        (b'{"history": 5}', 422, "history: Input should be a valid list, got 5"),
        (b'{"history": [true]}', 422, "history.0"),
        (b'{"history": [1.5]}', 422, "history.0"),
        (b'{"history": [null]}', 422, "history.0"),
        (b'{"history": [4], "k": "3"}', 422, "k: Input should be a valid integer, got '3'"),
        (b'{"history": [4], "k": 0}', 422, "k: Input should be greater than or equal to 1"),
        (b'{"history": [4], "k": 101}', 422, "k must be a whole number from 1 to 100, got 101"),
        (b'{"history": [4], "more": 1}', 422, "more: Extra inputs are not permitted, got 1"),
        (b'{"history": [4], "unknown": "x"}', 422, "unknown: Input should be 'skip' or 'refuse'"),
        (b'{"history": [4], "prior": -1}', 422, "prior: Input should be greater than or equal"),
        (b'{"history": [4], "prior": NaN}', 422, "prior"),
        (b'{"history": [4], "prior": "1"}', 422, "prior: Input should be a valid number"),
        (b'{"history": [4], "partner_weight": 1.5}', 422, "partner_weight: Input should be less"),
        (
            b'{"history": [4], "partner_weight": 0.5}',
            422,
            "partner_weight needs a model with a second model in its beam, got a Causal",
        ),
        (
            b'{"history": [4], "item_weight": 0.5}',
            422,
            "item_weight needs a model with an item head or second IDs in its beam, got a Causal",
        ),
        (b'{"history": [NaN]}', 422, "history.0"),
        (b'{"history": [99999999999999999999]}', 422, "history.0"),
        (b'{"history": ["\\ud800"]}', 422, "history.0"),
        (
            b'{"history": [4], "boosts": [{"item_id": 4, "boost": NaN}]}',
            422,
            "boosts.0.boost: Input should be a finite number, got nan",
        ),
        (
            b'{"history": [4], "boosts": [{"item_id": 4, "boost": 1e300}]}',
            422,
            "expected a number that is finite in float32 as boost of 4, got 1e+300",
        ),
        (
            b'{"history": [4], "boosts": [{"item_id":4,"boost":1},{"item_id":4,"boost":2}]}',
            422,
            "expected one boost for each item, got more for some",
        ),
        (b'{"history": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, ""),
    ],
)
def test_a_body_that_is_no_request(serve: Serve, body: bytes, status: int, said: str) -> None:
    server = serve()
    headers = {"content-type": "application/json"}
    answer = server.client.post("/v1/recommend", content=body, headers=headers)
    assert answer.status_code == status
    assert detail(answer).startswith(said)
    assert server.post("recommend", {"history": HISTORY}).status_code == 200


@pytest.mark.parametrize(
    "options",
    [
        {"history": [10**6]},
        {"history": []},
        {"history": [*HISTORY, 10**6], "unknown": "refuse"},
        {"history": [*HISTORY, "x"]},
        {"history": HISTORY, "within": [10**6]},
        {"history": HISTORY, "within": []},
    ],
)
def test_the_line_is_that_of_the_model(
    serve: Serve, alone: Recommender, options: dict[str, Any]
) -> None:
    answer = serve().post("recommend", options)
    with pytest.raises(ValueError, match=r"expected|whole numbers") as error:
        alone.recommend([options.pop("history")], **options)
    assert (answer.status_code, detail(answer)) == (422, str(error.value))


def test_filters_that_leave_nothing_give_an_empty_list(serve: Serve) -> None:
    answer = serve().post("recommend", {"history": HISTORY, "within": HISTORY})
    assert (answer.status_code, answer.json()["items"]) == (200, [])


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("explain", {"history": HISTORY, "item": 10**6}, "expected an item that the model knows"),
        ("explain", {"history": [10**6], "item": IDS[0]}, "expected an item that the model knows"),
        ("similar", {"item": 10**6}, "expected an item that the model knows, got 1000000"),
        ("similar", {"item": IDS[0], "k": 101}, "k must be a whole number from 1 to 100"),
        ("items/remove", {"items": [10**6]}, "expected items that the model knows, got 1000000"),
        ("items/remove", {"items": IDS}, "expected items that are left to recommend"),
        ("items/add", {"items": [{"title": "x"}]}, "items.0.item_id: Field required"),
        (
            "items/add",
            {"items": [{"item_id": IDS[0], "title": "x"}]},
            "expected items that are new",
        ),
        ("items/add", {"items": [{"item_id": "x", "title": "x"}]}, ""),
        ("items/add", {"items": [{"item_id": 1.5, "title": {"a": []}}]}, ""),
        ("items/add", {"items": [{"item_id": 7, "title": 1}, {"item_id": "a", "title": "b"}]}, ""),
        ("items/add", {"items": [{}]}, ""),
    ],
)
def test_other_requests_that_cannot_be_answered(
    serve: Serve, path: str, body: dict[str, Any], said: str
) -> None:
    answer = serve().post(path, body)
    assert answer.status_code == 422
    assert detail(answer).startswith(said)


def test_a_body_that_is_not_called_json(serve: Serve) -> None:
    answer = serve().client.post("/v1/recommend", content=b'{"history": [4]}')
    assert answer.status_code == 415
    assert detail(answer) == "expected Content-Type: application/json, got another or none"


def test_paths_and_methods_that_there_are_not(serve: Serve) -> None:
    server = serve()
    assert server.client.get("/v1/nothing").status_code == 404
    answer = server.client.get("/v1/recommend")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert detail(answer) == "Method Not Allowed"


def test_a_body_that_is_too_large_is_not_read(serve: Serve) -> None:
    server = serve(max_body=1000)
    for content in (b"x" * 1001, iter([b"x" * 600] * 2)):  # of a length that is known, or not
        answer = server.client.post("/v1/recommend", content=content)
        assert answer.status_code == 413
        assert detail(answer) == "expected at most 1000 bytes, got more"
    short = {"history": HISTORY}
    assert server.post("recommend", short).status_code == 200


def test_a_history_that_is_too_long(serve: Serve) -> None:
    answer = serve(max_history=3).post("recommend", {"history": IDS[:4]})
    assert answer.status_code == 422
    assert detail(answer) == ("expected a history of at most 3 items, got 4: send the last ones")


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer", "secret", "Bearer secret2"])
def test_a_wrong_token_is_refused_before_the_body_is_read(serve: Serve, given: str | None) -> None:
    server = serve(token="secret")
    headers = {} if given is None else {"Authorization": given}
    for path in ("/v1/models", "/metrics"):
        answer = server.client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert detail(answer).startswith("expected the server's token")
    assert server.client.get("/health/ready").status_code == 200
    right = server.post("recommend", {"history": HISTORY}, Authorization="Bearer secret")
    assert right.status_code == 200


def held(server: Running, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let ranking take some time."""
    rank = ServedModel.recommend

    def slowly(self: ServedModel, *args: Any) -> Any:
        time.sleep(seconds)
        return rank(self, *args)

    monkeypatch.setattr(ServedModel, "recommend", slowly)


async def asked(server: Running, number: int) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        return await asyncio.gather(
            *(client.post("/v1/recommend", json={"history": HISTORY}) for _ in range(number))
        )


def test_a_full_queue_refuses_at_once_and_answers_those_it_took(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(queue=4, max_batch=2, max_wait_ms=0.0, deadline=30.0)
    held(server, monkeypatch, 0.3)
    answers = asyncio.run(asked(server, 20))
    refused = [answer for answer in answers if answer.status_code == 429]
    taken = [answer for answer in answers if answer.status_code == 200]
    assert len(refused) + len(taken) == 20
    assert 4 <= len(taken) <= 8
    assert refused[0].headers["retry-after"] == "1"
    assert detail(refused[0]).startswith("expected at most 4 waiting requests, got one more")
    assert max(answer.elapsed.total_seconds() for answer in refused) < 1.0
    assert all(len(answer.json()["items"]) == 10 for answer in taken)


def test_a_request_that_waits_too_long_is_given_up_and_never_ranked(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(deadline=0.2, max_batch=1)
    held(server, monkeypatch, 0.6)
    answers = asyncio.run(asked(server, 5))
    assert [answer.status_code for answer in answers] == [504] * 5
    assert detail(answers[0]) == "expected an answer within 0.2 s, got none: ask again later"
    time.sleep(0.7)
    assert server.metric("semid_batch_size_count") == 1  # that of the first
    monkeypatch.undo()
    assert server.post("recommend", {"history": HISTORY}).status_code == 200


class Panic(BaseException):
    """As native extensions raise it."""


@pytest.mark.parametrize("fault", [RuntimeError, Panic])
def test_a_fault_of_ours_is_told_without_its_text(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, fault: type[BaseException]
) -> None:
    server = serve()

    def broken(*_: Any) -> Any:
        raise fault("a secret of ours")

    monkeypatch.setattr(ServedModel, "recommend", broken)
    answer = server.post("recommend", {"history": HISTORY})
    assert answer.status_code == 500
    assert detail(answer).startswith("this is a fault of the server")
    monkeypatch.undo()
    assert server.post("recommend", {"history": HISTORY}).status_code == 200


def talk(server: Running, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts of a request, and receive until the server closes the connection."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=10) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        found = b""
        while more := client.recv(65_536):
            found += more
    return found


def test_slow_clients_lose_their_connection_and_hold_up_nobody(serve: Serve) -> None:
    server = serve(body_timeout=0.5)
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
    begin = time.monotonic()
    answer = talk(server, head + b"\r\n", b'{"history"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"expected a whole request within 0.5 s, got a part" in answer
    assert talk(server, head) == b""
    assert talk(server) == b""
    assert time.monotonic() - begin < 8
    assert server.post("recommend", {"history": HISTORY}).status_code == 200


def test_a_client_that_hangs_up_is_no_fault(serve: Serve) -> None:
    server = serve()
    url = httpx.URL(server.url)
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    for part in (b"", b"POST", head, head + b'{"history"', b"\x00\xff\r\n\r\n"):
        with socket.create_connection((url.host, url.port), timeout=10) as client:
            client.sendall(part)
    assert server.post("recommend", {"history": HISTORY}).status_code == 200
    assert server.metric('semid_requests_total{arm="",route="none",status="500"}') == 0


def test_a_client_that_hangs_up_while_its_list_is_made_is_no_fault(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(max_batch=1)
    held(server, monkeypatch, 0.2)
    url, body = httpx.URL(server.url), json.dumps({"history": HISTORY}).encode()
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    for _ in range(3):
        with socket.create_connection((url.host, url.port), timeout=10) as client:
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.05)
    assert server.post("recommend", {"history": HISTORY}).status_code == 200
    statuses = 'semid_requests_total{arm="one",route="/v1/recommend",status='
    assert server.metric(f'{statuses}"500"}}') == 0
    assert server.metric(f'{statuses}"200"}}') == 4


def test_a_client_that_never_reads_holds_up_nobody_and_not_the_end(serve: Serve) -> None:
    server = serve(stop_timeout=1.0)
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=2) as client:
        with contextlib.suppress(TimeoutError):  # once the server reads no more either
            for _ in range(2000):
                client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(3):
            assert server.post("recommend", {"history": HISTORY}).status_code == 200
        server.server.should_exit = True
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_a_worker_with_a_fault_goes_on(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(max_batch=4, max_wait_ms=100.0)
    monkeypatch.setattr(ServedModel, "recommend", lambda self, *_: [])  # fewer than were asked
    answers = asyncio.run(asked(server, 6))
    assert [answer.status_code for answer in answers] == [500] * 6
    monkeypatch.undo()
    assert server.client.get("/health/ready").status_code == 200
    assert server.post("recommend", {"history": HISTORY}).status_code == 200


def test_a_worker_that_stops_leaves_nobody_waiting(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(deadline=1.0, max_batch=1)
    held(server, monkeypatch, 0.4)
    threading.Timer(0.2, server.service.ranking._loop.cancel).start()  # type: ignore[union-attr]
    answers = asyncio.run(asked(server, 5))
    statuses = {answer.status_code for answer in answers}
    assert {504} <= statuses <= {503, 504}  # 503 if it came after the stop
    assert max(answer.elapsed.total_seconds() for answer in answers) < 3
    assert server.client.get("/health/ready").status_code == 503
    assert server.client.get("/health/live").status_code == 200
    begin = time.monotonic()
    assert server.post("recommend", {"history": HISTORY}).status_code == 503
    assert time.monotonic() - begin < 0.5
