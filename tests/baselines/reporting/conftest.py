"""What tests of reports share: a finished comparison with its report, and a browser."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from pages import chromium
from tiny_comparison import TINY

from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.config import FusionConfig
from baselines.experiments.run import run_comparison
from baselines.reporting import writing
from baselines.reporting.source import ReportSource
from baselines.reporting.writing import write_report

ARMS = ("causal:ntp", "causal:soft_ce:0.3", "causal:soft_ce:0.6", "causal:soft_ce:0.9")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, no_pages: tuple[str, ...]) -> Path:
    """The folder of a comparison with its report; a test that changes it takes a copy."""
    folder = tmp_path_factory.mktemp("reports")
    shop = folder / "shop"
    write_plain_layout(synthetic_dataset(num_users=40, num_items=32, num_categories=2), shop)
    config = dataclasses.replace(
        TINY,
        data=str(shop),
        out=str(folder / "done"),
        arms=ARMS,
        fusion=FusionConfig(arms=("causal:ntp",), weights=(0.5,)),
    )
    run_comparison(config)
    with patch.object(writing, "_NEEDED", no_pages):
        write_report(ReportSource.read(folder / "done"))
    return folder / "done"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started
