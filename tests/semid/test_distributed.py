"""Two processes learn the same bits as one; run as a script, this file is one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from group_threads import group_threads
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch import distributed as dist

from semid.distributed import (
    all_reduce,
    broadcast_from_main,
    main_process_first,
    num_processes,
    once,
    require_equal,
)
from semid.tokenizers import LETTER, RQVAE, RVQ, RQKMeans, SemanticIdTokenizer

ROOT = Path(__file__).parents[2]
NETWORK: dict[str, Any] = {
    "codebook_sizes": (12, 6),
    "hidden_dims": (16,),
    "latent_dim": 4,
    "epochs": 12,
    "batch_size": 33,
    "restart_every": 2,
    "learning_rate": 3e-3,
}


def schemes() -> dict[str, SemanticIdTokenizer]:
    """What learns by gradient or averages, by k-means, and by other numbers on each process."""
    return {
        "rqkmeans": RQKMeans(codebook_sizes=(12, 6)),
        "straight_through": RQVAE(**NETWORK),
        "rotation": RQVAE(**NETWORK, estimator="rotation", codebook_update="ema"),
        "gumbel": RQVAE(**NETWORK, estimator="gumbel", start="balanced"),
        "rvq": RVQ(codebook_sizes=(12, 6), epochs=12, batch_size=33, start="kmeans++"),
        "letter": LETTER(**NETWORK, cf_weight=1.0, diversity_weight=0.1, num_clusters=3),
        "outside": OnlyOnFirst(),
    }


class OnlyOnFirst(SemanticIdTokenizer):
    """A scheme that knows nothing of processes, and learns another thing on each."""

    codebook_sizes = (2,)

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        mine = torch.rand(3, generator=torch.Generator().manual_seed(7 * rank()))
        return {"mine": mine, "rank": torch.tensor(rank()), "flags": torch.tensor([rank() == 0])}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return torch.zeros(len(embeddings), 1, dtype=torch.int64)


def rank() -> int:
    return dist.get_rank() if num_processes() > 1 else 0


def vectors() -> Tensor:
    gen = torch.Generator().manual_seed(0)
    topics = 2 * torch.randn(12, 8, generator=gen)
    return topics[torch.arange(100) % 12] + torch.randn(100, 8, generator=gen)


def collaborative() -> Tensor:
    cf = torch.randn(100, 6, generator=torch.Generator().manual_seed(1))
    cf[::9] = 0.0
    return cf


def work(out: Path) -> None:
    """What one process, and each of several, does in this test."""
    for name, tokenizer in schemes().items():
        cf = collaborative() if tokenizer.uses_cf else None
        tokenizer.fit(vectors(), cf_embeddings=cf)
        save_file(tokenizer.learned, out / f"{name}-{rank()}.safetensors")


def meet(out: Path) -> None:
    """The parts, and inputs that differ."""
    notes: dict[str, Any] = {"made": broadcast_from_main(lambda: rank() + 5)}
    try:
        broadcast_from_main(lambda: 1 // rank())
    except (ValueError, ZeroDivisionError) as error:
        notes["failed"] = [type(error).__name__, str(error)]
    notes["calls"] = calls = []
    kept = out / "kept"

    def read() -> str | None:
        calls.append("read")
        return kept.read_text() if kept.exists() else None

    def make() -> int:
        calls.append("make")
        return int(all_reduce(torch.tensor(rank() + 5)))

    def write(value: int) -> None:
        calls.append("write")
        kept.write_text(str(value))

    notes["once"] = [once(read, make, write), once(read, make, write)]
    require_equal("ab", "letters")
    with main_process_first():
        notes["found"] = (out / "note").exists()
        (out / "note").write_text("here")
    try:
        RVQ(codebook_sizes=(2,)).fit(vectors() + rank())
    except ValueError as error:
        notes["error"] = str(error)
    (out / f"notes-{rank()}.json").write_text(json.dumps(notes))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    work(Path(sys.argv[1]))
    meet(Path(sys.argv[1]))
    dist.destroy_process_group()
    sys.exit(f"still run: {group_threads()}" if group_threads() else 0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what one process learned in ``1`` and what two learned in ``2``."""
    folder = tmp_path_factory.mktemp("ranks")
    for name in "12":
        (folder / name).mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", __file__, str(folder / "2")]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    settings = {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    together = subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True, timeout=300
    )
    assert together.returncode == 0, together.stderr[-4000:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the others have
    work(folder / "1")
    torch.set_num_threads(threads)
    return folder


@pytest.mark.parametrize("name", schemes())
def test_two_processes_learn_the_same_bits_as_one(runs: Path, name: str) -> None:
    alone, first, second = (
        load_file(runs / f"{path}.safetensors")
        for path in (f"1/{name}-0", f"2/{name}-0", f"2/{name}-1")
    )
    assert alone.keys() == first.keys() == second.keys()
    for key, value in alone.items():
        assert first[key].equal(value), key
        assert second[key].equal(value), key


def test_what_processes_exchange_is_what_it_says(runs: Path) -> None:
    first, second = (json.loads((runs / "2" / f"notes-{r}.json").read_text()) for r in (0, 1))
    assert first["made"] == second["made"] == 5
    assert first["failed"][0] == "ZeroDivisionError"
    reason = first["failed"][1]
    assert second["failed"] == ["ValueError", f"the main process could not go on: {reason}"]
    assert (first["found"], second["found"]) == (False, True)
    assert first["once"] == second["once"] == ["11", "11"]
    assert first["calls"] == ["read", "make", "write", "read", "read"]
    assert second["calls"] == ["read", "make", "read", "read"]
    for notes in (first, second):
        assert "expected the same inputs and settings on all 2 processes" in notes["error"]


def test_what_is_there_is_read_and_not_made_again(tmp_path: Path) -> None:
    path = tmp_path / "kept"

    def read() -> str | None:
        return path.read_text() if path.exists() else None

    assert once(read, lambda: "first", path.write_text) == "first"
    assert once(read, lambda: "second", path.write_text) == "first"
    assert once(lambda: "", lambda: "empty is not missing", path.write_text) == ""


def test_one_process_exchanges_nothing() -> None:
    require_equal("ab", "letters")
    with main_process_first():
        assert broadcast_from_main(lambda: "here") == "here"
    assert num_processes() == 1
