"""The bearer token, which is never on a command line, where other users could read it."""

from __future__ import annotations

import os
from pathlib import Path

from baselines.serving.config import TOKEN_VARIABLE


def read_token(path: str | None) -> str | None:
    """The token in a file, or else in the environment; None if there is neither.

    Args:
        path: A file with the token as its only line; None to read the environment.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the token is empty, or is not one line of visible ASCII characters.
    """
    if path is None:
        token, place = os.environ.get(TOKEN_VARIABLE), f"environment variable {TOKEN_VARIABLE}"
    else:
        token, place = Path(path).read_text(encoding="utf-8", errors="replace").strip(), path
    if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
        raise ValueError(f"expected a token of visible ASCII characters in {place}, got another")
    return token
