"""Whether bfloat16 is faster than float32 on this machine: asked of it, and measured."""

from __future__ import annotations

import time
from functools import cache

import torch

_SHAPE = 800, 64, 12_101
"""Of the product that is measured: a batch of SASRec's loss over the catalogue of Amazon Beauty."""

_ROUNDS = 3
_WORTH_IT = 0.8
"""Share of float32's time: what is around a product, such as casts, costs more in bfloat16."""


@cache
def is_bfloat16_faster(device: torch.device) -> bool:
    """Whether a device has bfloat16 in hardware, and multiplies matrices faster in it.

    CUDA devices are asked. A CPU is asked too, and where it says yes, measured: oneDNN's answer
    includes processors with AVX-512 that emulate bfloat16. Others count as having none.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and _cpu_has_bfloat16() and _is_measured_faster()


def _cpu_has_bfloat16() -> bool:
    """Ask PyTorch and oneDNN, as ``ATEN_CPU_CAPABILITY`` and ``ONEDNN_MAX_CPU_ISA`` let them see.

    Each of the two variables hides instruction sets from one of them.
    """
    if torch.backends.cpu.get_cpu_capability() in ("NO AVX", "AVX2"):
        return False
    ask_onednn = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)  # PyTorch may lack it
    return ask_onednn is not None and bool(ask_onednn())


@torch.no_grad()
def _is_measured_faster() -> bool:
    batch, dim, items = _SHAPE
    factors = [
        (torch.ones(batch, dim, dtype=dtype), torch.ones(dim, items, dtype=dtype))
        for dtype in (torch.float32, torch.bfloat16)
    ]
    best = [float("inf")] * 2
    for _ in range(_ROUNDS):  # in turns, as others may be at work on the machine
        for which, (left, right) in enumerate(factors):
            started = time.perf_counter()
            left @ right
            best[which] = min(best[which], time.perf_counter() - started)
    return best[1] < _WORTH_IT * best[0]
