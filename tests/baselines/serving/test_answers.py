"""A server answers what its model answers alone, also where requests are ranked together."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny_server import IDS, Serve, same

from baselines.models import recommender
from baselines.models.beam_weights import BeamWeights
from baselines.models.item_vectors import item_vectors_of
from baselines.models.recommender import Recommender
from baselines.models.trained import TrainedModel

HISTORIES = [[IDS[(3 * n + m) % len(IDS)] for m in range(1 + n % 7)] for n in range(64)]


async def at_once(url: str, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as client:
        return await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in bodies))


def test_one_request_has_the_items_order_and_scores_of_the_model(
    serve: Serve, alone: Recommender
) -> None:
    answer = serve().post("recommend", {"history": HISTORIES[5], "k": 7})
    assert answer.status_code == 200
    assert len(answer.json()["items"]) == 7
    assert answer.json()["arm"] == "one"
    assert answer.json()["unknown"] == 0
    same(answer.json(), alone, HISTORIES[5], k=7)


@pytest.mark.parametrize(
    "options",
    [
        {"exclude_seen": False, "k": 12},
        {"within": IDS[:9], "k": 4},
        {"boosts": {IDS[20]: 3.0, IDS[21]: -2.0}},
        {"empty": "popular", "unknown": "skip"},
    ],
)
def test_options_are_those_of_the_model(
    serve: Serve, alone: Recommender, options: dict[str, Any]
) -> None:
    body = {"history": HISTORIES[4], **options}
    if "boosts" in options:
        listed = [{"item_id": item, "boost": boost} for item, boost in options["boosts"].items()]
        body["boosts"] = listed
    same(serve().post("recommend", body).json(), alone, HISTORIES[4], **options)


def test_weights_in_the_beam_are_those_of_the_model_or_of_the_request(
    serve: Serve, causal: Path, taught: Path, alone: Recommender
) -> None:
    server = serve(f"a={taught}", f"b={causal}", max_wait_ms=50.0)
    a, b = server.client.get("/v1/models").json()["models"]
    names = ("prior", "partner", "partner_weight", "item_weight")
    assert [a[name] for name in names] == [0.0, "SASRec ce", pytest.approx(0.6), None]
    assert [b[name] for name in names] == [0.0, None, None, None]
    model, history = Recommender.from_pretrained(taught), HISTORIES[5]
    asked = [{}, {"partner_weight": 0}, {"partner_weight": 0.25, "prior": 1.5}, {"prior": 2.0}]
    bodies = [{"history": history, **asked[n % 4]} for n in range(16)]
    answers = asyncio.run(at_once(server.url, bodies))
    for number, answer in enumerate(answers):
        same(answer.json(), model.with_beam(BeamWeights(**asked[number % 4])), history)
    same(answers[1].json(), alone, history)  # the same weights without the teacher
    assert answers[0].json()["model"] == answers[3].json()["model"] == a["model"]


def test_requests_at_once_are_ranked_together_and_answered_as_alone(
    serve: Serve, alone: Recommender
) -> None:
    server = serve(max_wait_ms=50.0)
    options = [{"k": 5}, {"k": 8, "exclude_seen": False}]
    bodies = [{"history": h, **options[n % 2]} for n, h in enumerate(HISTORIES)]
    answers = asyncio.run(at_once(server.url, bodies))
    assert [answer.status_code for answer in answers] == [200] * 64
    for number, answer in enumerate(answers):
        same(answer.json(), alone, HISTORIES[number], **options[number % 2])
    assert server.metric("semid_batch_size_sum") == 64
    assert server.metric("semid_batch_size_count") <= 16


def test_a_bad_request_does_not_spoil_those_ranked_with_it(
    serve: Serve, alone: Recommender
) -> None:
    server = serve(max_wait_ms=50.0)
    bodies = [{"history": history, "k": 3} for history in HISTORIES[:20]]
    bodies[7] = {"history": [10**9], "k": 3}
    bodies[8] = {"history": [10**9, IDS[3]], "k": 3}
    answers = asyncio.run(at_once(server.url, bodies))
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200] * 7 + [422] + [200] * 12
    assert answers[8].json()["unknown"] == 1
    same(answers[8].json(), alone, [IDS[3]], k=3)
    for number in (0, 6, 9, 19):
        same(answers[number].json(), alone, HISTORIES[number], k=3)


def test_an_empty_history_may_get_popular_items(serve: Serve, alone: Recommender) -> None:
    server = serve()
    answer = server.post("recommend", {"history": [], "empty": "popular", "k": 4}).json()
    same(answer, alone, [], k=4, empty="popular")


def test_explanations_are_those_of_the_model(serve: Serve, alone: Recommender) -> None:
    answer = serve().post("explain", {"history": HISTORIES[3], "item": IDS[9]}).json()
    expected = alone.explain(HISTORIES[3], IDS[9])
    assert answer["score"] == pytest.approx(expected.score, abs=1e-4)
    assert [level["code"] for level in answer["levels"]] == [e.code for e in expected.levels]
    assert [level["typical"] for level in answer["levels"]] == [e.typical for e in expected.levels]
    assert (answer["title"], answer["item_id"]) == (expected.title, IDS[9])


def test_similar_items_are_those_of_the_model(serve: Serve, alone: Recommender) -> None:
    answer = serve().post("similar", {"item": IDS[9], "k": 5}).json()
    assert [item["item_id"] for item in answer["items"]] == [
        item.item_id for item in alone.similar(IDS[9], 5)
    ]


def test_the_first_request_for_similar_items_is_no_slower_than_the_next(
    serve: Serve, alone: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = []

    def slowly(model: TrainedModel) -> Any:
        time.sleep(1.5)
        embedded.append(len(model.items.catalog))
        return item_vectors_of(model)

    monkeypatch.setattr(recommender, "item_vectors_of", slowly)
    server = serve(deadline=1.0)
    assert embedded == [48]  # before it is ready
    body = {"item": IDS[9], "k": 5}
    assert server.post("similar", body).status_code == 200
    row = {"item_id": 7_777, "title": alone.titles[9]}
    assert server.post("items/add", {"items": [row]}).status_code == 200
    assert server.post("similar", body).json()["items"][0]["item_id"] == 7_777
    assert server.post("items/remove", {"items": [IDS[3]]}).status_code == 200
    assert server.post("similar", body).status_code == 200
    assert embedded == [48, 49]  # none are gone


def test_items_come_and_go_without_a_restart(serve: Serve, alone: Recommender) -> None:
    server = serve()
    history = {"history": HISTORIES[3], "k": 48, "exclude_seen": False}
    before = server.client.get("/v1/models").json()["models"][0]
    row = {"item_id": 7_777, "title": alone.titles[9]}
    added = server.post("items/add", {"items": [row]}).json()["models"][0]
    assert (before["items"], added["items"]) == (48, 49)
    assert added["model"] != before["model"]
    found = server.post("recommend", {**history, "k": 49}).json()
    assert {item["item_id"]: item["title"] for item in found["items"]}[7_777] == row["title"]
    assert found["model"] == added["model"]
    removed = server.post("items/remove", {"items": [7_777]}).json()["models"][0]
    assert removed["items"] == 48
    found = server.post("recommend", history).json()
    assert {item["item_id"] for item in found["items"]} == set(IDS)
    again = server.post("reload", {}).json()["models"][0]
    assert again == before


def test_health_tells_whether_requests_are_answered(serve: Serve) -> None:
    server = serve()
    assert server.client.get("/health/live").status_code == 200
    assert server.client.get("/health/ready").status_code == 200
    server.service.ranking._loop.cancel()  # type: ignore[union-attr]  # the worker is gone
    assert server.client.get("/health/ready").status_code == 503
    assert server.post("recommend", {"history": HISTORIES[0]}).status_code == 503
    assert server.client.get("/health/live").status_code == 200


def test_the_description_names_every_route_and_nothing_from_outside(serve: Serve) -> None:
    described = serve().client.get("/openapi.json").json()
    assert {
        *("/v1/recommend", "/v1/explain", "/v1/similar", "/v1/items/add", "/v1/items/remove"),
        *("/v1/models", "/v1/reload", "/health/live", "/health/ready"),
    } <= set(described["paths"])
    assert "429" in described["paths"]["/v1/recommend"]["post"]["responses"]


def test_a_served_folder_is_left_as_it_was(serve: Serve, replaceable: Path) -> None:
    before = {path: path.read_bytes() for path in replaceable.rglob("*") if path.is_file()}
    server = serve(f"one={replaceable}")
    server.post("items/remove", {"items": [IDS[3]]})
    server.post("recommend", {"history": HISTORIES[3]})
    assert before == {path: path.read_bytes() for path in replaceable.rglob("*") if path.is_file()}
