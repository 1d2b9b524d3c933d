"""Which precision ``auto`` comes to, asked of the processor or device."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from baselines.runtime.precision import is_bfloat16_faster

CPU = torch.device("cpu")
ASK = (
    "import torch; from baselines.runtime.precision import is_bfloat16_faster as faster;"
    "print(faster(torch.device('cpu')))"
)


@pytest.fixture
def ask() -> Any:
    """The question, without what an earlier answer has left."""
    return is_bfloat16_faster.__wrapped__


def test_a_processor_without_bfloat16_has_no_use_for_it() -> None:
    hidden = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, env=os.environ | hidden, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("hidden_from", ["pytorch", "onednn"])
def test_it_is_enough_that_one_of_two_libraries_cannot_use_it(
    hidden_from: str, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if hidden_from == "pytorch":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    else:
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert ask(CPU) is False


def test_a_processor_that_emulates_bfloat16_is_found_out_by_measuring(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    # Two products, of float32 and of bfloat16, in each of three rounds.
    clock = iter([0.0, 1.0, 1.0, 3.0] * 3)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert ask(CPU) is False
    clock = iter([0.0, 1.0, 1.0, 1.5] * 3)
    assert ask(CPU) is True


@pytest.mark.parametrize("has", [True, False])
def test_a_gpu_is_asked_for_bfloat16_without_emulation(
    has: bool, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(*, including_emulation: bool) -> bool:
        assert not including_emulation
        return has

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert ask(torch.device("cuda")) is has
