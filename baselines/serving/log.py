"""The log: one line of JSON per request, from which answers can be judged later."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class RequestLog:
    """A file to which requests are appended.

    Another program may truncate or copy it at any time; each line is written at once.

    Args:
        path: The file; None to write nothing.
        failed: Called for each line that cannot be written.

    Raises:
        OSError: If the file cannot be opened.
    """

    def __init__(self, path: str | None, failed: Callable[[], object]) -> None:
        self._failed, self._is_broken = failed, False
        self._file = None
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # closed by close

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a request. A full disk stops the log, not the answers."""
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(line, default=str).encode() + b"\n")
            self._is_broken = False
        except OSError as error:
            self._failed()
            if not self._is_broken:
                logger.warning("requests are answered but not logged: %s", error)
            self._is_broken = True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
