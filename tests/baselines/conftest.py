"""What is the same for every command is made once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from baselines import cli


@pytest.fixture(scope="session", autouse=True)
def one_parser() -> Iterator[None]:
    """All commands are read by one parser: to make it takes longer than many a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "_parser", cache(cli._parser))
        yield
