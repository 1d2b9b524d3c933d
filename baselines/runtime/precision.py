"""Decide whether bfloat16 is faster than float32 on this machine, by query and measurement."""

from __future__ import annotations

import time
from functools import cache

import torch

_SHAPE = 800, 64, 12_101
"""Shape of the measured product: a batch of SASRec's loss over the catalogue of Amazon Beauty."""

_ROUNDS = 3
_WORTH_IT = 0.8
"""Required share of float32's time; below 1, since casts around a product cost extra."""


@cache
def is_bfloat16_faster(device: torch.device) -> bool:
    """Whether a device supports bfloat16 in hardware, and multiplies matrices faster in it.

    CUDA devices are queried. CPUs are queried and, if they claim support, timed, since oneDNN's
    answer includes AVX-512 processors that emulate bfloat16. Other devices count as unsupported.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _cpu_has_bfloat16() and _is_measured_faster()


def _cpu_has_bfloat16() -> bool:
    """Query PyTorch and oneDNN, which honour ``ATEN_CPU_CAPABILITY`` and ``ONEDNN_MAX_CPU_ISA``.

    Each variable hides instruction sets from one of them.
    """
    if torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2"):
        return False
    ask_onednn = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # may be missing
    return ask_onednn is not None and bool(ask_onednn())


@torch.no_grad()
def _is_measured_faster() -> bool:
    batch, dim, items = _SHAPE
    factors = [
        (torch.ones(batch, dim, dtype=dtype), torch.ones(dim, items, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    best = [float("inf")] * 2
    for _ in range(_ROUNDS):  # alternate, since the machine may be busy
        for which, (left, right) in enumerate(factors):
            started = time.perf_counter()
            left @ right
            best[which] = min(best[which], time.perf_counter() - started)
    return best[1] < _WORTH_IT * best[0]
