"""The peak of this process's memory is a true one: it grows by what is held, and stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

from baselines.runtime.memory import peak_memory

HOLD = """
from baselines.runtime.memory import peak_memory
def gib():
    return float(peak_memory()["peak memory"].removesuffix(" GiB"))
before = gib()
held = bytearray(b"x") * 2**29
during = gib()
del held
print(before, during, gib())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="not told there")
def test_it_grows_by_what_is_held_and_stays() -> None:
    done = subprocess.run([sys.executable, "-c", HOLD], capture_output=True, text=True, check=True)
    before, during, after = map(float, done.stdout.split())
    assert 0.05 < before < 5
    assert during - before == pytest.approx(0.5, abs=0.1)
    assert after == during


def test_a_gpu_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 3 * 2**28)
    assert peak_memory()["peak memory on the GPU"] == "0.75 GiB"
