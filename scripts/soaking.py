"""Minutes of mixed requests to one server, whose model is replaced meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from serving_load import Served, answer, request

CLIENTS = 16
AT_THE_STOP = 32  # requests in flight when the server is told to stop
_REFUSED = range(400, 500)
_EVERY = 1.0  # seconds between two looks at the memory


class Soak:
    """The load on a server, and what became of its requests.

    Attributes:
        statuses: Answers by kind of request and status.
        lost: Requests that were sent whole, and not answered.
        memory: Resident megabytes by second.

    Args:
        server: The server, started with ``--watch``.
        folder: Its model's folder, which is replaced by copies of ``source``.
        source: A folder that stays as it is.
        item_ids: IDs of its items.
        k: Length of the lists.
        seed: Seed of the requests.
    """

    def __init__(
        self,
        server: Served,
        folder: Path,
        source: Path,
        item_ids: list[Any],
        *,
        k: int,
        seed: int,
    ) -> None:
        self.server, self.folder, self.source = server, folder, source
        self.item_ids, self.k, self.rng = item_ids, k, random.Random(seed)
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.lost = 0
        self.memory: list[tuple[float, float]] = []

    async def run(self, seconds: float) -> dict[str, Any]:
        """Load the server, replace its model three times, and stop it; the figures."""
        await self._during(min(60.0, seconds / 5), [])
        warm, self.memory = self.memory, []
        self.statuses.clear()
        swaps = [(seconds / 4, self._damage), *((part * seconds / 4, self._put) for part in (2, 3))]
        await self._during(seconds, swaps)
        start = median(megabytes for _, megabytes in warm[len(warm) // 2 :])
        end = median(megabytes for _, megabytes in self.memory[-max(1, len(self.memory) // 10) :])
        return {
            "requests": sum(self.statuses.values()),
            "statuses": {
                f"{kind}: {status}": n for (kind, status), n in sorted(self.statuses.items())
            },
            "unexpected": self._unexpected(),
            "lost": self.lost,
            "models_taken": self._reloads("taken"),
            "models_refused": self._reloads("refused"),
            "megabytes_at_start": start,
            "megabytes_at_end": end,
            "megabytes_at_most": max(megabytes for _, megabytes in self.memory),
            "memory_ratio": end / start,
            **await self._stop(),
        }

    def _unexpected(self) -> dict[str, int]:
        """Faults, refused valid requests, and invalid ones that were answered."""
        return {
            f"{kind}: {status}": count
            for (kind, status), count in self.statuses.items()
            if not (status == 200 if kind == "valid" else status in _REFUSED)
        }

    async def _during(self, seconds: float, swaps: list[tuple[float, Callable[[], None]]]) -> None:
        begin = time.monotonic()
        end = begin + seconds
        clients = [asyncio.create_task(self._client(end)) for _ in range(CLIENTS)]
        while (now := time.monotonic()) < end:
            self.memory.append((now - begin, self.server.megabytes))
            if swaps and now - begin >= swaps[0][0]:
                await asyncio.to_thread(swaps.pop(0)[1])
            await asyncio.sleep(_EVERY)
        await asyncio.gather(*clients)

    async def _client(self, end: float) -> None:
        while time.monotonic() < end:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
            try:
                for _ in range(self.rng.randint(1, 30)):  # over one connection
                    if not await self._one(reader, writer):
                        break
            except (asyncio.IncompleteReadError, ConnectionError):
                self.lost += 1
            await _close(writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection can be used again."""
        kind = self.rng.choices(("valid", "invalid", "aborted"), (80, 12, 8))[0]
        sent = self._invalid() if kind == "invalid" else self._valid()
        if kind == "aborted":  # within the head or the body, or before the answer is read
            writer.write(sent[: self.rng.choice((10, len(sent) - 5, len(sent)))])
            await writer.drain()
            return False
        writer.write(sent)
        status = await answer(reader)
        self.statuses[kind, status] += 1
        return status != 413  # which closes it

    def _valid(self) -> bytes:
        history = self.rng.choices(self.item_ids, k=self.rng.randint(1, 30))
        body: dict[str, Any] = {"history": history, "k": self.k, "user": f"{self.rng.random()}"}
        match self.rng.randrange(10):
            case 0:
                body.pop("k")
                return request(json.dumps({**body, "item": history[0]}).encode(), "/v1/explain")
            case 1:
                body["within"] = self.rng.choices(self.item_ids, k=50)
            case 2:
                body["exclude_seen"] = False
        return request(json.dumps(body).encode())

    def _invalid(self) -> bytes:
        match self.rng.randrange(6):
            case 0:
                return request(b'{"history": [1, 2')
            case 1:
                return request(b'{"history": "all"}')
            case 2:
                return request(json.dumps({"history": self.item_ids[:1], "k": 10**6}).encode())
            case 3:
                return request(b'{"history": []}')
            case 4:
                return request(b"{}", kind="text/plain")
            case _:
                return request(b"{}", "/v1/nothing")

    def _damage(self) -> None:
        """Leave a half-copied folder until it is refused, and then a whole one."""
        weights = self.folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
        end = time.monotonic() + 60
        while not self._reloads("refused") and time.monotonic() < end:
            time.sleep(_EVERY)
        self._put()

    def _put(self) -> None:
        """Replace the folder by a copy, as a deployment does."""
        new, old = (self.folder.with_name(name) for name in ("new", "old"))
        shutil.copytree(self.source, new)
        self.folder.rename(old)
        new.rename(self.folder)
        shutil.rmtree(old)

    def _reloads(self, result: str) -> int:
        """Number of changed folders with a result, as the server counts them."""
        lines = self.server.get("/metrics").decode().splitlines()
        found = [line for line in lines if line.startswith("semid_reloads_total{")]
        return sum(int(float(line.split()[-1])) for line in found if f'"{result}"' in line)

    async def _stop(self) -> dict[str, Any]:
        """Stop the server with requests in flight."""
        pairs = [
            await asyncio.open_connection("127.0.0.1", self.server.port) for _ in range(AT_THE_STOP)
        ]
        for _, writer in pairs:
            writer.write(self._valid())
        await asyncio.gather(*(writer.drain() for _, writer in pairs))
        await asyncio.sleep(0.1)  # so that all of them have arrived
        self.server.process.send_signal(signal.SIGTERM)
        found = await asyncio.gather(
            *(answer(reader) for reader, _ in pairs), return_exceptions=True
        )
        for _, writer in pairs:
            await _close(writer)
        code = await asyncio.to_thread(self.server.process.wait, 60)
        return {
            "in_flight_at_stop": len(pairs),
            "answered_after_stop": sum(status == 200 for status in found),
            "exit_code": code,
        }


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
