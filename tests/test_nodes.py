"""Training on two machines: two ``torchrun``s that meet over the loopback; docs/nodes.md."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_shop import write_shop, write_shop_model

PROGRAMS = Path(sys.executable).parent
SMALL = ["--ids.codebook_sizes", "[4,4]", "--evaluation.beam", "10", "--training.epochs", "2"]
SMALL += ["--evaluation.validation_beam", "5", "--evaluation.validation_targets", "10"]
TIGER = ["--arm", "tiger:ntp", "--backbones.tiger.dim", "8", "--backbones.tiger.num_layers", "1"]
TIGER += ["--backbones.tiger.dropout", "0", "--training.precision", "fp32"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def train(shop: Path, out: Path, arm: list[str], machines: int) -> None:
    """``semid train`` by one process on each of some machines."""
    port, environment = free_port(), {**os.environ, "OMP_NUM_THREADS": "1"}
    semid = [str(PROGRAMS / "semid"), "train", "--data", str(shop), "--out", str(out)]
    commands = [
        [
            *(str(PROGRAMS / "torchrun"), "--nnodes", str(machines), "--node-rank", str(rank)),
            *("--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)),
            *("--no-python", *semid, *arm, *SMALL),
        ]
        for rank in range(machines)
    ]
    running = [
        subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in running:
        _, said = process.communicate(timeout=500)
        assert process.returncode == 0, said[-2000:]


def require_equal_models(one: Path, other: Path) -> None:
    weights, others = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(others[name], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_machines_learn_the_weights_of_one(tmp_path: Path) -> None:
    shop = write_shop(tmp_path / "shop")
    train(shop, tmp_path / "one", TIGER, machines=1)
    train(shop, tmp_path / "two", TIGER, machines=2)
    require_equal_models(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_machines_share_the_layers_of_a_language_model(tmp_path: Path) -> None:
    shop = write_shop(tmp_path / "shop")
    model = write_shop_model(shop, tmp_path / "lm")
    arm = ["--arm", "lm:ntp", "--backbones.lm.model", str(model), "--training.precision", "fp32"]
    arm += ["--backbones.lm.template", "{history}>", "--backbones.lm.max_history", "3"]
    arm += ["--backbones.lm.lora.dropout", "0"]
    train(shop, tmp_path / "one", arm, machines=1)
    train(shop, tmp_path / "two", [*arm, "--backbones.lm.shard", "true"], machines=2)
    require_equal_models(tmp_path / "one", tmp_path / "two")
