"""Numbers that break stop a training, and the first batch that broke them is kept."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds import random_sequences

from baselines.data.batches import Windows
from baselines.training.monitor import NonFiniteMonitor

WINDOWS = Windows.per_target(random_sequences(12, 9), 3)
BATCHES = [WINDOWS.batch(np.array([number, number + 1])) for number in range(6)]


@pytest.mark.parametrize(
    ("loss", "norm", "said"),
    [
        (math.nan, 1.0, "loss of test became nan"),
        (-math.inf, math.nan, "loss of test became -inf"),
        (1.0, math.inf, "gradient of test became inf"),
    ],
)
@pytest.mark.parametrize("every", [1, 4, 50])
def test_the_first_broken_batch_is_found_whenever_one_looks(
    tmp_path: Path, loss: float, norm: float, said: str, every: int
) -> None:
    monitor = NonFiniteMonitor(tmp_path, "test", every=every)
    seen = []

    def train() -> None:
        for number, batch in enumerate(BATCHES):
            seen.append(number)
            broken = number >= 2  # once the weights are broken, all after it is
            numbers = (loss, norm) if broken else (0.5, 0.1)
            monitor.record(batch, 3, *map(torch.tensor, numbers))
        monitor.check()

    with pytest.raises(ValueError, match=f"{said} in epoch 3; the batch is in .*broken_batch"):
        train()
    assert len(seen) == {1: 3, 4: 4, 50: 6}[every]
    kept, batch = load_file(tmp_path / "broken_batch.safetensors"), BATCHES[2]
    assert torch.equal(kept["items"], batch.windows.items)
    assert torch.equal(kept["target_id"], batch.target_id)
    assert kept.keys() == {"items", "mask", "users", "target_row", "target_pos", "target_id"}


def test_it_says_nothing_of_numbers(tmp_path: Path) -> None:
    monitor = NonFiniteMonitor(tmp_path, "test", every=2)
    for batch in BATCHES[:5]:
        monitor.record(batch, 1, torch.tensor(3.0), torch.tensor(1e30))
    monitor.check()
    monitor.check()
    assert not list(tmp_path.iterdir())
