"""How much memory this process has needed."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

_GIB = 2**30


def peak_memory() -> dict[str, str]:
    """The most memory held at a time since the process began, by where: ``1.25 GiB``.

    Returns:
        ``peak memory``, resident, as the system counts it (not on Windows); and ``peak memory on
        the GPU``, in tensors, if there is one.
    """
    found = {}
    if (resident := _most_resident()) is not None:
        found["peak memory"] = resident
    if torch.cuda.is_available():
        found["peak memory on the GPU"] = torch.cuda.max_memory_allocated()
    return {name: f"{size / _GIB:.2f} GiB" for name, size in found.items()}


def _most_resident() -> int | None:
    """Bytes; on Linux from ``VmHWM``, since ``ru_maxrss`` begins with the parent's memory."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
