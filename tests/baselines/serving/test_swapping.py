"""Models are replaced while they answer, and no request is lost; damaged ones are refused."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_server import IDS, Running, Serve, detail, same

from baselines.models.recommender import Recommender
from semid.provenance import read_json, write_json

HISTORY = IDS[3:6]


def put(source: Path, target: Path) -> None:
    """Replace a folder by a copy of another one, as a deployment does."""
    new = Path(shutil.copytree(source, target.with_name("new")))
    target.rename(target.with_name("old"))
    new.rename(target)
    shutil.rmtree(target.with_name("old"))


def served(server: Running) -> str:
    return str(server.client.get("/v1/models").json()["models"][0]["model"])


def until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.05)


def test_a_new_folder_is_taken_over_under_load_and_no_request_is_lost(
    serve: Serve, replaceable: Path, tiger: Path, alone: Recommender
) -> None:
    server = serve(f"one={replaceable}", watch=0.1)
    other, old = Recommender.from_pretrained(tiger), served(server)
    answers, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(server.post("recommend", {"history": HISTORY, "k": 4}))

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        until(lambda: len(answers) > 20)
        put(tiger, replaceable)
        until(lambda: served(server) != old)
        count = len(answers)
        until(lambda: len(answers) > count + 20)
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert {answer.status_code for answer in answers} == {200}
    by = {answer.json()["model"] for answer in answers}
    assert by == {old, served(server)}
    for answer in answers:
        found = answer.json()
        same(found, alone if found["model"] == old else other, HISTORY, k=4)
    assert server.metric("semid_reloads_total") == 1


def test_asked_to_reload_it_takes_the_folder_as_it_is(
    serve: Serve, replaceable: Path, tiger: Path
) -> None:
    server = serve(f"one={replaceable}", watch=0.0)
    old = served(server)
    assert server.post("reload", {}).json()["models"][0]["model"] == old
    put(tiger, replaceable)
    assert served(server) == old
    new = server.post("reload", {}).json()["models"][0]
    assert (new["model"] != old, new["label"]) == (True, "TIGER")


def halve(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def leave_out_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def leave_out_the_card(folder: Path) -> None:
    (folder / "model.json").unlink()


def change_the_version(folder: Path) -> None:
    card = read_json(folder / "model.json")
    assert card is not None
    write_json(folder / "model.json", {**card, "format": 99})


def take_the_items_of_others(folder: Path) -> None:
    (folder / "items.parquet").write_bytes(b"PAR1 nothing PAR1")


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (halve, ""),
        (leave_out_the_weights, ""),
        (leave_out_the_card, "expected a trained model in"),
        (change_the_version, "expected format 1 of the model in"),
        (take_the_items_of_others, ""),
        (remove, "expected a trained model in"),
    ],
)
def test_a_damaged_folder_is_refused_and_the_old_model_goes_on(
    serve: Serve,
    replaceable: Path,
    causal: Path,
    alone: Recommender,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    server = serve(f"one={replaceable}", watch=0.1)
    old = served(server)
    damage(replaceable)
    answer = server.post("reload", {})
    assert answer.status_code == 409
    assert detail(answer).startswith(f"one goes on with the model it has: {said}")
    time.sleep(0.5)
    assert served(server) == old
    same(server.post("recommend", {"history": HISTORY, "k": 5}).json(), alone, HISTORY, k=5)
    row = {"item_id": 7_777, "title": alone.titles[9]}
    assert server.post("items/add", {"items": [row]}).status_code == 200
    assert server.post("explain", {"history": HISTORY, "item": IDS[0]}).status_code == 200
    shutil.rmtree(replaceable, ignore_errors=True)
    shutil.copytree(causal, replaceable)  # whole again: taken without being asked
    taken = 'semid_reloads_total{arm="one",result="taken"}'
    until(lambda: server.metric(taken) == 1)
    assert served(server) == old


def test_a_folder_that_is_copied_slowly_is_taken_only_when_it_is_whole(
    serve: Serve, replaceable: Path, tiger: Path
) -> None:
    server = serve(f"one={replaceable}", watch=0.1)
    old = served(server)
    for path in sorted(tiger.rglob("*"), reverse=True):  # the card is not the last
        if path.is_file():
            target = replaceable / path.relative_to(tiger)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)  # in place
            time.sleep(0.05)
            assert server.post("recommend", {"history": HISTORY}).status_code == 200
    until(lambda: served(server) != old)
    assert server.client.get("/v1/models").json()["models"][0]["label"] == "TIGER"
