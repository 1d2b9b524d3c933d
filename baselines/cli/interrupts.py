"""Ctrl-C while modules are being imported ends the process at once.

Some libraries swallow exceptions raised while they import another, and continue half-initialised.
Nothing is written before a command runs, and a later import is as safe to kill as any other moment.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def ended_while_loading(last_words: Callable[[], int]) -> Iterator[None]:
    """Within the body, Ctrl-C ends the process if a module is being loaded.

    Otherwise it raises ``KeyboardInterrupt`` as usual. If the embedding program has its own
    handler, or this is not the main thread, nothing is changed.

    Args:
        last_words: Reports that the process was stopped, and returns its exit code.
    """
    before = signal.getsignal(signal.SIGINT)
    ours = before is signal.default_int_handler
    if not ours or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> Any:
        if _is_loading(frame):
            code = last_words()
            sys.stderr.flush()
            os._exit(code)
        return signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_loading(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
