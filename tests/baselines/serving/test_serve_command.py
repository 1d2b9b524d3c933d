"""The command: what it says, how it ends, and how it refuses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny_server import IDS

from baselines.cli import main, options, serve
from baselines.serving.config import ServeConfig

ROOT = Path(__file__).parents[3]
BODY = {"history": IDS[3:6]}


@contextmanager
def command(*words: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command in a process of its own, and the address that it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "baselines.cli", "serve", *words, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("serving "), process.communicate()
        yield process, line.split()[-1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_stopped_it_answers_those_in_flight_and_ends_with_success(
    causal: Path, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "log.jsonl"
    waits = ("--max_wait_ms", "1500", "--log", str(log))
    with command(str(causal), *waits, SEMID_TOKEN="secret") as (process, url):
        bearer = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{url}/v1/models").status_code == 401
        answers: list[httpx.Response] = []

        def ask() -> None:
            asked = httpx.post(f"{url}/v1/recommend", json=BODY, headers=bearer, timeout=30)
            answers.append(asked)

        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        time.sleep(0.7)
        process.send_signal(number)
        for client in clients:
            client.join()
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "", "")
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len(log.read_text().splitlines()) == 4
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health/live")


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["serve", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "models"),
        (("none", "--port", "0"), "semid: expected a trained model in"),
        (("none", "--portt", "0"), "unrecognized option --portt. Did you mean --port?"),
        (("none", "--port", "x"), "port must be a whole number, got x"),
        (("a", "b", "--shares", "0.5"), "shares must be a number of at least 0 for each of 2"),
        (("none", "--token_file", "nowhere"), "nowhere"),
        (("none", "--host", "256.1.1.1", "--port", "0"), "expected an address to listen on"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert said in refusal(capsys, *words)


def test_a_port_in_use_is_refused(causal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        said = refusal(capsys, str(causal), "--port", port)
    assert f"got 127.0.0.1 and port {port}" in said


def test_a_log_that_cannot_be_written_is_refused(
    causal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert str(tmp_path) in refusal(capsys, str(causal), "--port", "0", "--log", str(tmp_path))


def test_without_the_packages_one_line_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = serve.find_spec

    def missing(name: str) -> Any:
        return None if name == "prometheus_client" else found(name)

    monkeypatch.setattr(serve, "find_spec", missing)
    assert refusal(capsys, "none") == (
        "semid: expected the packages of semid serve, prometheus-client missing: "
        "pip install 'semid[serve]'\n"
    )


@pytest.mark.parametrize(
    ("words", "spelled"),
    [
        (["a", "b=c", "--port", "1"], ["--models", '["a", "b=c"]', "--port", "1"]),
        (["a,b"], ["--models", '["a,b"]']),
        (["--models", "a"], ["--models", "a"]),
        ([], []),
    ],
)
def test_folders_come_first_without_a_name(words: list[str], spelled: list[str]) -> None:
    assert options.with_first(words, "models", ServeConfig) == spelled
