"""Recommendations for many users, computed in chunks that are kept until all are done.

Each chunk is a file next to the result, named by its number and a hash of its bytes, so that an
interrupted job resumes and a damaged chunk is detected. Finally the chunks are joined into one
file, written atomically. Several processes, or workers of Ray, share the chunks.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from baselines.data.histories import UserHistories
from baselines.evaluation.config import ranking_settings
from baselines.models.recommender import Recommender
from baselines.models.requests import known_histories, require_histories
from baselines.models.rows import RecommendRows, Request
from baselines.models.trained import TrainedModel
from baselines.runtime.progress import track
from semid.atomic import atomic_write, remove_leftovers
from semid.config import RayConfig
from semid.distributed import distributed_state, is_my_turn, one_run_at_a_time
from semid.provenance import hash_file, hash_json, read_json, require_same, write_json
from semid.ray_pool import map_chunks

CHUNK = 4096  # histories; changing it may change the last digits of scores
_BEGUN = "begun.json"


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Workers of Ray, and how each of them loads the model.

    Attributes:
        ray: The workers.
        load: Loads the model; called once in each worker, where it must be importable and the
            model's folder must be at the same place.
    """

    ray: RayConfig
    load: Callable[[], Recommender]


class BulkRecommender:
    """A model and the users it makes recommendations for.

    Args:
        recommender: The model.
        histories: The users' histories.
        request: The options, the same for every user.

    Raises:
        ValueError: If an item is unknown or a user has no known item, and the request refuses that.
    """

    def __init__(
        self, recommender: Recommender, histories: UserHistories, request: Request
    ) -> None:
        self._recommender, self._histories, self._request = recommender, histories, request
        known = known_histories(recommender.model.items.catalog, histories, request.unknown)
        require_histories(known, request.empty)
        self._known = known
        self._rows = RecommendRows(recommender, request)
        self.unknown = known.unknown
        self.without_items = int((known.lengths == 0).sum())

    def table(self, first: int = 0, last: int | None = None) -> pl.DataFrame:
        """The lists of a range of users.

        Returns:
            Columns ``user_id``, ``rank`` (from 1), ``item_id``, ``score`` and ``title``, with users
            in input order.
        """
        last = len(self._histories) if last is None else last
        return self._rows.lists(self._histories.users[first:last], self._known.part(first, last))

    def short(self, lists: Iterable[pl.DataFrame]) -> int:
        """Number of users with fewer than ``k`` items in these parts of the table."""
        full = sum(int((part["rank"] == self._request.k).sum()) for part in lists)
        return len(self._histories) - full

    def write(self, out: Path, workers: Workers | None = None) -> int:
        """Write the table of all users to a parquet, CSV or JSON-lines file.

        If killed at any time and called again, it resumes and writes the same file byte for byte.
        Until it is done, chunks are kept in a folder named ``out`` plus ``.parts``.

        Args:
            out: The file.
            workers: Workers of Ray that compute the chunks; None for this process.

        Returns:
            Number of users with fewer than ``k`` items because filters left no more; 0 on all but
            the main process.

        Raises:
            ValueError: If no item may be recommended, a boosted item is unknown, or existing chunks
                belong to another model, other users or another request, or are damaged, or workers
                cannot be used or load another model.
        """
        self.table(0, 0)  # raises on bad input before anything is written
        parts, here, short = out.with_name(f"{out.name}.parts"), distributed_state(), 0
        with one_run_at_a_time(parts):
            if here.is_main_process:
                remove_leftovers(parts)
                self._begin(parts)
            here.wait_for_everyone()
            self._fill(parts, workers)
            here.wait_for_everyone()
            if here.is_main_process:
                chunks = _chunks(parts)
                _join(chunks, parts, out)
                short = self.short(map(pl.read_parquet, chunks))
                for path in chunks:
                    path.unlink()
                (parts / _BEGUN).unlink()  # last, since it identifies the chunks
        if here.is_main_process:
            with suppress(OSError):  # another command may be waiting, or it holds other files
                parts.rmdir()
        return short

    def _fill(self, parts: Path, workers: Workers | None) -> None:
        """Write the missing chunks, shared among the processes or among the workers of Ray."""
        spans = {
            number: (first, min(first + CHUNK, len(self._histories)))
            for number, first in enumerate(range(0, len(self._histories), CHUNK))
            if (workers is not None or is_my_turn(number)) and not _chunks(parts, number)
        }
        with track("recommending", sum(last - first for first, last in spans.values())) as progress:
            for number, table in self._computed(spans, workers):
                _keep(parts, number, table)
                progress.advance(spans[number][1] - spans[number][0])

    def _computed(
        self, spans: Mapping[int, tuple[int, int]], workers: Workers | None
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """The lists of numbered ranges of users, in any order."""
        if workers is None:
            yield from ((number, self.table(*span)) for number, span in spans.items())
            return
        chunks = ((n, self._histories.lists(*span).to_arrow()) for n, span in spans.items())
        identity = hash_json(lists_identity(self._recommender.model))
        load = partial(_load_rows, workers.load, self._request, identity)
        for number, rows in map_chunks(load, chunks, workers.ray):
            yield number, cast(pl.DataFrame, pl.from_arrow(rows))

    def _begin(self, parts: Path) -> None:
        request = asdict(self._request)
        long = {name: hash_json(repr(request.pop(name))) for name in ("within", "boosts")}
        asked = {
            "model": lists_identity(self._recommender.model),
            "histories": self._histories.content_hash(),
            "chunk": CHUNK,
            **request,
            **long,
        }
        found = read_json(parts / _BEGUN)
        if found is None or not _chunks(parts):
            write_json(parts / _BEGUN, asked)
        elif changed := sorted(name for name in asked if asked[name] != found.get(name)):
            raise ValueError(
                f"{parts} holds the beginning of other recommendations ({', '.join(changed)} "
                "differ). Repeat that command, or remove the folder to begin anew."
            )


def lists_identity(model: TrainedModel) -> dict[str, Any]:
    """Everything that determines a model's lists, as JSON values."""
    partner = model.partner
    other = None
    if partner is not None:
        other = [
            partner.weight,
            lists_identity(partner.model)
            if isinstance(partner.model, TrainedModel)
            else [partner.model.scores_hash, partner.model.temperature, partner.model.mask_history],
        ]
    return {
        **model.identity,
        "decoding": ranking_settings(model.spec.evaluation),
        "items": model.items.ids.provenance.content,
        "removed": sorted(model.removed),
        "partner": other,
        **({} if model.content is None else {"content": model.content.scores_hash}),
    }


def _load_rows(load: Callable[[], Recommender], request: Request, identity: str) -> RecommendRows:
    """In a worker, the model, which must be that of the process that it works for."""
    recommender = load()
    require_same(
        "model of this worker",
        identity,
        hash_json(lists_identity(recommender.model)),
        what_to_do="Is the folder on this machine a copy of another model?",
    )
    return RecommendRows(recommender, request)


def _keep(parts: Path, number: int, table: pl.DataFrame) -> None:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    data = buffer.getvalue()
    atomic_write(parts / f"{number:06}-{hashlib.sha256(data).hexdigest()[:16]}.parquet", data)


def _chunks(parts: Path, number: int | None = None) -> list[Path]:
    """The existing chunks, in order, or only the chunk with the given number."""
    begun = "*" if number is None else f"{number:06}"
    return sorted(parts.glob(f"{begun}-*.parquet"))


def _join(chunks: list[Path], parts: Path, out: Path) -> None:
    joined = parts / f"joined{out.suffix}"
    with joined.open("wb") as file:
        _WRITERS[out.suffix](map(_checked, chunks), file)
        file.flush()
        os.fsync(file.fileno())
    out.parent.mkdir(parents=True, exist_ok=True)
    joined.replace(out)


def _checked(path: Path) -> pl.DataFrame:
    if hash_file(path)[:16] not in path.name:
        raise ValueError(f"{path} was damaged. Remove it, and run the same command again.")
    return pl.read_parquet(path)


def _write_parquet(tables: Iterator[pl.DataFrame], file: IO[bytes]) -> None:
    writer = None
    for table in tables:
        rows: pa.Table = table.to_arrow()
        writer = writer or pq.ParquetWriter(file, rows.schema)
        writer.write_table(rows)
    if writer is not None:
        writer.close()


def _write_csv(tables: Iterator[pl.DataFrame], file: IO[bytes]) -> None:
    for number, table in enumerate(tables):
        table.write_csv(file, include_header=number == 0)


def _write_json_lines(tables: Iterator[pl.DataFrame], file: IO[bytes]) -> None:
    for table in tables:
        table.write_ndjson(file)


_WRITERS = {".parquet": _write_parquet, ".csv": _write_csv, ".jsonl": _write_json_lines}
