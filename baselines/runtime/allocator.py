"""Process settings that make training on a CPU faster; they change no result."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let the C allocator keep freed memory for the next step instead of returning it.

    By default, glibc maps new memory for every large tensor and the kernel clears its pages, which
    takes longer than many of the operations on it. Call it from programs, not from libraries; it
    does nothing if the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
