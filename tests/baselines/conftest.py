"""What is the same for every command, and for all who ask for a small shop, is made once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from tiny_shop import write_shop, write_shop_model

from baselines.cli import parsing
from baselines.runtime import precision


@pytest.fixture(scope="session", autouse=True)
def one_parser_a_command() -> Iterator[None]:
    """To make the parser of a command takes longer than many a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsing, "parser_of", cache(parsing.parser_of))
        yield


@pytest.fixture(scope="session", autouse=True)
def float32_unless_named() -> Iterator[None]:
    """Precision ``auto`` is float32 on every processor, so that tests have the same results on all.

    Not in processes that a test starts: what they train names its precision.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "is_bfloat16_faster", lambda device: False)
        yield


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a shop of 30 users and 32 items; only to be read."""
    return write_shop(tmp_path_factory.mktemp("data") / "shop")


@pytest.fixture(scope="session")
def model(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny language model for it; only to be read."""
    return write_shop_model(shop, tmp_path_factory.mktemp("models") / "model")
