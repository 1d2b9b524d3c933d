"""Functions of rows in workers of Ray: the result of one process, whatever becomes of a worker."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch

from semid import batched
from semid.build import ids_from_config
from semid.catalog import Catalog
from semid.config import IdsConfig, RayConfig
from semid.ray_pool import map_chunks, require_ray

pytestmark = [  # what Ray warns of is its own
    pytest.mark.filterwarnings("ignore:::ray"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
WORDS = ("red", "blue", "soft", "hard", "cap", "coat", "shoe", "sock", "wool", "silk")
CONFIG = IdsConfig(embeddings="lsa:6", codebook_sizes=(4, 3), fit_items=60)
CHUNKS = {number: pa.table({"x": [10 * number, 10 * number + 1]}) for number in range(6)}


@dataclass
class AddOne:
    """Adds one; dies once where the file does not exist yet, and refuses some value."""

    file: Path | None = None
    refused: int = -1

    def __call__(self, rows: pa.Table) -> pa.Table:
        values = rows["x"].to_pylist()
        if self.refused in values:
            raise ValueError(f"expected no {self.refused}")
        if self.file is not None and not self.file.exists():
            self.file.write_text("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return pa.table({"y": [value + 1 for value in values]})


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayConfig]:
    """Two nodes of two cores on this machine."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    nodes.add_node(num_cpus=2)
    yield RayConfig(address=nodes.address)
    nodes.shutdown()


def found(make: Callable[[], Any], config: RayConfig) -> dict[int, list[int]]:
    return {n: rows["y"].to_pylist() for n, rows in map_chunks(make, CHUNKS.items(), config)}


EXPECTED = {number: [10 * number + 1, 10 * number + 2] for number in range(6)}


@pytest.mark.slow
def test_each_chunk_is_computed_although_a_worker_is_killed(
    cluster: RayConfig, tmp_path: Path
) -> None:
    died = tmp_path / "died"
    assert found(partial(AddOne, died), cluster) == EXPECTED
    assert died.read_text() == "died"


@pytest.mark.slow
def test_bad_input_in_a_worker_is_one_line(cluster: RayConfig) -> None:
    with pytest.raises(ValueError, match=r"^expected no 31$"):
        found(partial(AddOne, refused=31), cluster)


@pytest.mark.slow
@pytest.mark.parametrize("embeddings", ["lsa:6", "vectors.npy"])
def test_ids_are_those_of_one_process(
    cluster: RayConfig, embeddings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched, "BATCH", 32)
    rng = np.random.default_rng(0)
    if embeddings == "vectors.npy":
        embeddings = str(tmp_path / embeddings)
        np.save(embeddings, rng.normal(size=(200, 6)).astype(np.float32))
    titles = [" ".join(rng.choice(WORDS, 3)) for _ in range(200)]
    shop = Catalog(item_ids=list(range(200)), fields=pl.DataFrame({"title": titles}))
    config, done = replace(CONFIG, embeddings=embeddings), list[int]()
    ids = ids_from_config(config, shop, ray=cluster, on_batch=done.append)
    alone = ids_from_config(config, shop)
    assert torch.equal(ids.codes, alone.codes)
    assert ids.provenance == alone.provenance
    assert sorted(done) == [8, 32, 32, 32, 32, 32, 32]


@pytest.mark.slow
def test_a_cluster_that_does_not_answer_is_one_line() -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    with pytest.raises(ValueError, match=r"^expected a cluster of Ray at 127.0.0.1:9, got: "):
        found(AddOne, RayConfig(address="127.0.0.1:9"))


def test_ray_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install 'semid\[ray\]'"):
        require_ray()


def test_processes_of_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"expected one process, .* got 2 of torchrun"):
        require_ray()


@pytest.mark.parametrize(
    ("values", "message"),
    [({"workers": 0}, "workers must be"), ({"cpus": 0}, "cpus must be"), ({"gpus": -1.0}, "gpus")],
)
def test_workers_without_anything_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RayConfig(**values)
