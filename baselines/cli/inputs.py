"""Load the model and the data that a command names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.cli.config import DataOptions
from baselines.cli.model_config import LoadOptions

if TYPE_CHECKING:
    from baselines.data.dataset import Dataset
    from baselines.models.recommender import Recommender


def read_data(options: DataOptions) -> Dataset:
    """Load the data of a command."""
    from baselines.data.loading import load_dataset

    return load_dataset(
        options.data,
        split=options.split,
        ties=options.ties,
        repeats=options.repeats,
        time_format=options.time_format,
    )


def read_model(source: str, options: LoadOptions) -> Recommender:
    """Load the model of a command; external code is run only if the command names it."""
    from baselines.models.recommender import Recommender

    return Recommender.from_pretrained(
        source, backbone=options.backbone, teacher=options.teacher, base=options.base
    )
