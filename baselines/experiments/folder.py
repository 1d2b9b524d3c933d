"""A finished comparison, read again: its settings, its data and the models it trained."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from jsonargparse import ArgumentError, ArgumentParser

from baselines.contracts.backbone import Backbone
from baselines.data.config import source_kind
from baselines.data.dataset import Dataset
from baselines.experiments.arms import Arm, parse_arms
from baselines.experiments.config import CompareConfig
from baselines.experiments.run import dataset_of, describes
from baselines.experiments.schemes import schemes_of
from baselines.runtime.distributed import processes
from semid.ids import SemanticIds
from semid.provenance import read_json
from semid.settings import as_begun


@dataclass(frozen=True, kw_only=True, eq=False)
class Finished:
    """What ``semid compare`` has left.

    Attributes:
        folder: Of the comparison.
        config: Its settings; what is newer than the folder is as it was then, or has its default.
        dataset: Its data.
        arms: The baseline first.
    """

    folder: Path
    config: CompareConfig
    dataset: Dataset
    arms: list[Arm]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> Finished:
        """Read the folder of a comparison; no model yet.

        Raises:
            ValueError: If it is none, it is not finished, or its data have changed.
        """
        folder = Path(folder)
        settings = folder / "config.json"
        if not settings.exists() or not (folder / "data.json").exists():
            raise ValueError(
                f"expected the folder of a comparison, got {folder}, which holds none. Name one "
                "that semid compare has written."
            )
        if not (folder / "comparison.json").exists():
            raise ValueError(
                f"the comparison in {folder} is not finished. Run the same semid compare again: "
                "it goes on where it was stopped."
            )
        config = _config(settings)
        if source_kind(config.data) == "reader":
            raise ValueError(
                f"the comparison in {folder} reads its data by {config.data}, whose code is not "
                "run because a file says so. Write the data to a folder and compare on that."
            )
        dataset = dataset_of(config)
        if not describes(read_json(folder / "data.json", take_unsealed=True) or {}, dataset):
            raise ValueError(
                f"the comparison in {folder} was made on other data than {config.data} holds now."
            )
        return cls(folder=folder, config=config, dataset=dataset, arms=parse_arms(config))

    def trained(self, arm: Arm, seed: int) -> Path:
        """Folder of an arm's training."""
        return self.folder / f"{arm.folder}-{seed}"

    def fresh(self, arm: Arm, seed: int) -> Backbone:
        """The backbone of an arm as it was before its training, on this process's device."""
        config = self.config
        (scheme,) = schemes_of([arm], config.ids, config.schemes, self.folder)
        ids = SemanticIds.load(scheme.folder)
        backbone = arm.kind.build(
            config.backbones, ids.codes, ids.sizes, seed, catalog=self.dataset.catalog
        )
        return backbone.to(processes().device)


def _config(path: Path) -> CompareConfig:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CompareConfig)
    settings = read_json(path, take_unsealed=True) or {}
    try:
        found = parser.instantiate(parser.parse_object(settings))
    except ArgumentError as error:
        raise ValueError(f"{path} holds settings that cannot be read: {error}") from error
    return as_begun(CompareConfig(**vars(found)), settings)
