"""How much memory this process has needed."""

from __future__ import annotations

import sys

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
    if resource is not None:
        unit = 1 if sys.platform == "darwin" else 1024
        found["peak memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    if torch.cuda.is_available():
        found["peak memory on the GPU"] = torch.cuda.max_memory_allocated()
    return {name: f"{size / _GIB:.2f} GiB" for name, size in found.items()}
