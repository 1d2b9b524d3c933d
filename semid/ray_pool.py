"""Functions of rows, run by a pool of workers under Ray Data.

A function of rows takes a table and returns one. What it needs, such as a model, is loaded once
per worker. Ray Data may cut and join blocks of rows, so a chunk of rows travels as a single value:
each worker computes whole chunks, and the result is that of the same chunks in one process.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import util
from typing import Any, TypeAlias

import pyarrow as pa

from semid.config import RayConfig

__all__ = ["RowFunction", "map_chunks", "require_ray"]

RowFunction: TypeAlias = Callable[[pa.Table], pa.Table]

logger = logging.getLogger(__name__)

_NUMBER, _ROWS, _PROBLEM = "number", "rows", "problem"


def require_ray() -> None:
    """Raise unless Ray Data can be used here.

    Raises:
        ValueError: If it is not installed, or this is one of several processes of ``torchrun``.
    """
    if util.find_spec("ray") is None:
        raise ValueError("expected the package ray, which is missing: pip install 'semid[ray]'")
    if (started := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ValueError(
            f"expected one process, which gives its work to the workers of Ray, got {started} of "
            "torchrun (WORLD_SIZE). Start semid alone, or leave --ray out."
        )


def map_chunks(
    make: Callable[[], RowFunction], chunks: Iterable[tuple[int, pa.Table]], config: RayConfig
) -> Iterator[tuple[int, pa.Table]]:
    """Apply a function of rows to chunks, as their workers finish them.

    A worker that dies is replaced, and its chunk is computed again.

    Args:
        make: Loads the function; called once in each worker, where it must be importable.
        chunks: Tables with a number; all are handed to Ray before the first result.
        config: The workers; its address must not be None.

    Yields:
        The number of a chunk, and the function's result for it; in any order.

    Raises:
        ValueError: If Ray or the cluster cannot be used, or its workers are lost for good; and for
            a ``ValueError`` or ``OSError`` of the function.
    """
    require_ray()
    _quieten()
    import ray.data
    from ray.exceptions import RayError

    with _connected(config):
        handed = [ray.put(_packed(number, rows)) for number, rows in chunks]
        data = ray.data.from_arrow_refs(handed).map_batches(
            _Worker,
            fn_constructor_args=(make,),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=config.workers),
            num_cpus=config.cpus,
            num_gpus=config.gpus,
        )
        try:
            for found in data.iter_batches(batch_size=1, batch_format="pyarrow"):
                yield found[_NUMBER][0].as_py(), _rows_of(found)
        except RayError as error:
            lost = str(error).strip().splitlines()[0]
            raise ValueError(
                f"the workers of Ray were lost: {lost}. Run the same command again."
            ) from error


@dataclass
class _Worker:
    """Applies a function that it loads at its first chunk; bad input is a result, too."""

    make: Callable[[], RowFunction]

    @cached_property
    def function(self) -> RowFunction:
        return self.make()

    def __call__(self, chunk: pa.Table) -> pa.Table:
        number = chunk[_NUMBER][0].as_py()
        try:
            return _packed(number, self.function(_rows_of(chunk)))
        except (ValueError, OSError) as error:
            return _packed(number, None, str(error) or type(error).__name__)


def _packed(number: int, rows: pa.Table | None, problem: str | None = None) -> pa.Table:
    """A chunk, or what was wrong with it, as a table of one row."""
    written = None
    if rows is not None:
        buffer = pa.BufferOutputStream()
        with pa.ipc.new_stream(buffer, rows.schema) as stream:
            stream.write_table(rows)
        written = buffer.getvalue().to_pybytes()
    return pa.table(
        {
            _NUMBER: pa.array([number], pa.int64()),
            _ROWS: pa.array([written], pa.large_binary()),
            _PROBLEM: pa.array([problem], pa.string()),
        }
    )


def _rows_of(chunk: pa.Table) -> pa.Table:
    """The rows of a packed chunk.

    Raises:
        ValueError: If it has none, but a problem.
    """
    if (problem := chunk[_PROBLEM][0].as_py()) is not None:
        raise ValueError(problem)
    with pa.ipc.open_stream(chunk[_ROWS][0].as_buffer()) as stream:
        return stream.read_all()


@contextmanager
def _connected(config: RayConfig) -> Iterator[None]:
    """Connect to the cluster, or start Ray on this machine; a connection that exists is used."""
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if config.address == "local":
        options |= {"num_cpus": config.workers * config.cpus + 1, "include_dashboard": False}
    try:
        _require_answer(str(config.address))
        ray.init(address=config.address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"expected a cluster of Ray at {config.address}, got: {error}. Start one with ray "
            "start, or use --ray local."
        ) from error
    try:
        _note_room(config, ray.cluster_resources())
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Raise ``OSError`` if nothing listens at ``HOST:PORT``, for which Ray would wait minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _quieten() -> None:
    """Let Ray report to its log files, not to the console, and to nobody else."""
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("RAY_BACKEND_LOG_LEVEL", "fatal"),
        ("RAY_DATA_LOG_LEVEL", "CRITICAL"),
    ):
        os.environ.setdefault(name, value)


def _note_room(config: RayConfig, there: Mapping[str, float]) -> None:
    """Warn if no worker fits into the cluster: the job would wait for ever if it cannot grow."""
    if there.get("CPU", 0) < config.cpus or there.get("GPU", 0) < config.gpus:
        logger.warning(
            "no worker of %d CPUs and %g GPUs fits into the cluster (%g CPUs, %g GPUs): waiting "
            "for it to grow",
            config.cpus,
            config.gpus,
            there.get("CPU", 0),
            there.get("GPU", 0),
        )
