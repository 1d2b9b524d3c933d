"""A shop, and a comparison on it that all tests of runs share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tiny_comparison import TINY

from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of 40 users and 32 items; only to be read."""
    folder = tmp_path_factory.mktemp("data") / "shop"
    write_plain_layout(synthetic_dataset(num_users=40, num_items=32, num_categories=2), folder)
    return folder


@pytest.fixture(scope="session")
def done(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    """The settings of a finished comparison; a test that changes its folder puts it back."""
    out = tmp_path_factory.mktemp("runs") / "done"
    config = dataclasses.replace(TINY, data=str(shop), out=str(out))
    run_comparison(config)
    return config
