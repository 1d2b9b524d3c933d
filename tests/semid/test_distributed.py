"""Two processes fit one tokenizer as one does; run as a script, this file is one of them."""

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
    add_up,
    first_before_others,
    num_ranks,
    require_equal,
    share_of,
    spread,
)
from semid.tokenizers import LETTER, RQVAE, RVQ, SemanticIdTokenizer

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
    """Batches of 33 of 100 items: uneven shares, and a last batch of one, where one has none."""
    return {
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
    return dist.get_rank() if num_ranks() > 1 else 0


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
        if hasattr(tokenizer, "history_"):
            (out / f"{name}-{rank()}.json").write_text(json.dumps(tokenizer.history_))


def meet(out: Path) -> None:
    """The parts, and inputs that differ."""
    notes: dict[str, Any] = {"share": [share_of(5).start, share_of(5).stop]}
    parts = [torch.tensor([1.0, 2.0]) * (rank() + 1), torch.ones(2, 2)]
    add_up(parts)
    notes["sums"] = [part.tolist() for part in parts]
    mixed = [torch.tensor([rank()]), torch.tensor(rank() + 0.5), torch.tensor([[rank() == 0]])]
    spread(mixed)
    notes["spread"] = [value.tolist() for value in mixed]
    require_equal("ab", "letters")
    with first_before_others():
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
    work(folder / "1")
    return folder


@pytest.mark.parametrize("name", schemes())
def test_both_processes_learn_the_same_bits(runs: Path, name: str) -> None:
    first, second = (load_file(runs / "2" / f"{name}-{rank}.safetensors") for rank in (0, 1))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert second[key].equal(value), key


@pytest.mark.parametrize("name", [name for name in schemes() if name != "outside"])
def test_two_processes_learn_as_well_as_one(runs: Path, name: str) -> None:
    alone, first, second = (
        json.loads((runs / path).read_text())
        for path in (f"1/{name}-0.json", f"2/{name}-0.json", f"2/{name}-1.json")
    )
    assert first == second
    assert first[0]["loss"] == pytest.approx(alone[0]["loss"], rel=0.01)
    assert first[-1]["reconstruction"] == pytest.approx(alone[-1]["reconstruction"], rel=0.04)
    assert len(alone) == len(first)


def test_what_processes_exchange_is_what_it_says(runs: Path) -> None:
    first, second = (json.loads((runs / "2" / f"notes-{r}.json").read_text()) for r in (0, 1))
    assert (first["share"], second["share"]) == ([0, 2], [2, 5])
    assert first["sums"] == second["sums"] == [[3.0, 6.0], [[2.0, 2.0], [2.0, 2.0]]]
    assert first["spread"] == second["spread"] == [[0], 0.5, [[True]]]
    assert (first["found"], second["found"]) == (False, True)
    for notes in (first, second):
        assert "expected the same inputs and settings on all 2 processes" in notes["error"]


def test_one_process_exchanges_nothing() -> None:
    tensors = [torch.ones(2)]
    add_up(tensors)
    spread(tensors)
    require_equal("ab", "letters")
    with first_before_others():
        assert tensors[0].tolist() == [1.0, 1.0]
    assert share_of(7) == slice(0, 7)
    assert num_ranks() == 1
