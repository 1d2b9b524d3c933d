"""A server in a process of its own, and clients that load it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Served:
    """A server that answers on the loopback."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> bytes:
        """The body of a page."""
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url) as answer:
            return bytes(answer.read())

    @property
    def item_ids(self) -> list[Any]:
        """Some IDs of its items, at most 10,000."""
        found = json.loads(self.get("/v1/items?text=&limit=10000"))
        return [item["item_id"] for item in found["items"]]

    @property
    def megabytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024


@contextmanager
def served(folder: Path, threads: int, *options: str) -> Iterator[Served]:
    """A server of a folder, once it answers; stopped at the end if it still runs."""
    words = [sys.executable, "-m", "baselines.cli", "serve", str(folder), "--port", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield Served(process, int(process.stdout.readline().rsplit(":", 1)[1]))
        finally:
            process.terminate()


def request(body: bytes, path: str = "/v1/recommend", kind: str = "application/json") -> bytes:
    """A request as it is sent."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, once all of it has come."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.split(b"content-length: ")[1].split(b"\r\n")[0]
    await reader.readexactly(int(length))
    return int(head.split()[1])


async def _ask(port: int, bodies: list[bytes], seconds: list[float]) -> None:
    """Send requests over one connection, each after the answer to the last."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for body in bodies:
        start = time.perf_counter()
        writer.write(request(body))
        status = await answer(reader)
        assert status == 200, status
        seconds.append(time.perf_counter() - start)
    writer.close()
    await writer.wait_closed()


async def load(port: int, clients: int, bodies: list[bytes]) -> tuple[float, list[float]]:
    """Requests a second of some clients, and the seconds of each request."""
    seconds: list[float] = []
    start = time.perf_counter()
    parts = [bodies[number::clients] for number in range(clients)]
    await asyncio.gather(*(_ask(port, part, seconds) for part in parts))
    return len(bodies) / (time.perf_counter() - start), seconds
