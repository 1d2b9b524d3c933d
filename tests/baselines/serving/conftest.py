"""Tiny models, and servers of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tiny_models import fit_model, with_teacher
from tiny_server import Running, Serve, running

from baselines.models.recommender import Recommender
from baselines.serving.config import ServeConfig


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model; only to be read."""
    folder = tmp_path_factory.mktemp("causal")
    fit_model(folder)
    return folder / "model"


@pytest.fixture(scope="session")
def tiger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of another model of the same items; only to be read."""
    folder = tmp_path_factory.mktemp("tiger")
    fit_model(folder, "tiger")
    return folder / "model"


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with a teacher in its beam, at a weight of .6; only to be read."""
    folder = tmp_path_factory.mktemp("taught")
    with_teacher(fit_model(folder), folder).save(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="session")
def alone(causal: Path) -> Recommender:
    """The first model without a server."""
    return Recommender.from_pretrained(causal)


@pytest.fixture
def serve(causal: Path) -> Iterator[Serve]:
    """Starts a server of the first model, or of others; it ends with the test."""
    with ExitStack() as servers:

        def start(*models: str, token: str | None = None, **settings: Any) -> Running:
            config = ServeConfig(models=models or (f"one={causal}",), port=0, **settings)
            return servers.enter_context(running(config, token))

        yield start


@pytest.fixture
def replaceable(causal: Path, tmp_path: Path) -> Path:
    """A copy of the first model, which a test may change."""
    return Path(shutil.copytree(causal, tmp_path / "model"))
