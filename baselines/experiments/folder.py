"""The folder of a comparison: whose it is, what it was begun with, and reading it again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from baselines.contracts.backbone import Backbone
from baselines.data.dataset import Dataset
from baselines.data.loading import load_dataset
from baselines.experiments.arms import Arm, parse_arms
from baselines.experiments.claim import CLAIM, may_write
from baselines.experiments.config import CompareConfig
from baselines.experiments.rows import spec_of
from baselines.experiments.schemes import Scheme, schemes_of
from baselines.training.checkpoint import recipe
from semid.atomic import is_temporary
from semid.ids import SemanticIds
from semid.provenance import read_json, write_json
from semid.settings import as_begun, as_json

EMBEDDINGS, TEACHERS, TEACHER_VECTORS = "embeddings", "teachers", "teacher_vectors"
_CONFIG, _DATA = "config.json", "data.json"
_KEPT = (EMBEDDINGS, TEACHERS, TEACHER_VECTORS)  # for the next try where ids cannot be made


def settings_claimed(config: CompareConfig) -> dict[str, Any]:
    """What commands that work in one folder at the same time have to agree on."""
    settings: dict[str, Any] = recipe(config)
    return {name: value for name, value in settings.items() if name not in ("out", "mass_cache")}


def begun_with(config: CompareConfig) -> CompareConfig:
    """With what its folder was made with before a setting came that the command does not name."""
    found = read_json(Path(config.out) / _CONFIG, take_unsealed=True)
    return config if found is None else as_begun(config, found)


def require_free(out: Path, config: CompareConfig) -> None:
    """Refuse a folder that holds another comparison, or anything but what ids are made from."""
    found = read_json(out / _CONFIG, take_unsealed=True)
    if found is not None:
        found, settings = recipe(found), recipe(config)
        changed = sorted(
            key for key in settings.keys() | found.keys() if settings.get(key) != found.get(key)
        )
        free = ("out", "fusion", "resamples", "mass_cache")
        if changed := [key for key in changed if key not in free]:
            raise ValueError(
                f"{out} holds a comparison with other settings ({', '.join(changed)}). "
                "Name another folder with --out, or remove this one."
            )
    elif out.exists() and not (out / _DATA).exists():
        for file in out.iterdir():
            if file.name not in (*_KEPT, CLAIM) and not is_temporary(file.name):
                raise ValueError(f"{out} holds other files. Name a new folder with --out.")


def require_same_data(out: Path, config: CompareConfig, dataset: Dataset) -> None:
    """Refuse a folder that was begun on other data."""
    found = read_json(out / _DATA, take_unsealed=True)
    if found is not None and not describes(found, dataset):
        raise ValueError(
            f"{out} was begun on other data than {config.data} holds now. "
            "Name another folder with --out, or remove this one."
        )


def begin(
    out: Path, config: CompareConfig, dataset: Dataset, ids: Mapping[Scheme, SemanticIds]
) -> None:
    """Make ``out`` the folder of this comparison, now that settings and data fit each other."""
    for name, values in ((_CONFIG, as_json(config)), (_DATA, describe(dataset))):
        if may_write(out) and read_json(out / name, take_unsealed=True) != values:
            write_json(out / name, values)
    for scheme, made in ids.items():
        if not scheme.folder.exists():
            made.save(scheme.folder)


def describe(dataset: Dataset) -> dict[str, Any]:
    """What a comparison remembers of its data, as JSON values: equal data are equal."""
    return {
        "name": dataset.name,
        "protocol": dataset.splits.protocol,
        "statistics": dataset.statistics,
        "dropped": dataset.dropped,
        "noted": dataset.noted,
        "item_order": dataset.catalog.order_hash,
        "train": dataset.splits.train_hash,
        "valid": dataset.splits.valid.content_hash(),
        "test": dataset.splits.test.content_hash(),
    }


def describes(recorded: Mapping[str, Any], dataset: Dataset) -> bool:
    """Whether what `describe` recorded fits these data; counts that it did not know do not matter.

    Counts newer than the record say nothing new: the hashes tell whether the data are the same.
    """
    found = describe(dataset)
    for name in ("statistics", "dropped"):
        known = recorded.get(name, {})
        found[name] = {kind: count for kind, count in found[name].items() if kind in known}
    return {**recorded, "noted": None} == {**found, "noted": None}


def dataset_of(config: CompareConfig) -> Dataset:
    """The data of a comparison, as its settings read them."""
    return load_dataset(
        config.data,
        split=config.split,
        ties=config.ties,
        repeats=config.repeats,
        time_format=config.time_format,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonFolder:
    """What ``semid compare`` has left.

    Attributes:
        folder: Of the comparison.
        config: Its settings; what is newer than the folder is as it was then, or has its default.
        arms: The baseline first.
    """

    folder: Path
    config: CompareConfig
    arms: list[Arm]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> ComparisonFolder:
        """Read the folder of a comparison; no model and no data yet.

        Raises:
            ValueError: If it is none, or it is not finished.
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
        return cls(folder=folder, config=config, arms=parse_arms(config))

    @cached_property
    def dataset(self) -> Dataset:
        """Its data, read when first asked for.

        Raises:
            ValueError: If they have changed.
        """
        dataset = dataset_of(self.config)
        if not describes(read_json(self.folder / "data.json", take_unsealed=True) or {}, dataset):
            raise ValueError(
                f"the comparison in {self.folder} was made on other data than {self.config.data} "
                "holds now."
            )
        return dataset

    def trained(self, arm: Arm, seed: int) -> Path:
        """Folder of an arm's training."""
        return self.folder / f"{arm.folder}-{seed}"

    def fresh(self, arm: Arm, seed: int) -> Backbone:
        """The backbone of an arm as it was before its training, on this process's device."""
        config = self.config
        (scheme,) = schemes_of([arm], config.ids, config.schemes, self.folder)
        ids = SemanticIds.load(scheme.folder)
        return spec_of(config, arm, seed).build(ids, self.dataset.catalog)


def _config(path: Path) -> CompareConfig:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CompareConfig)
    settings = read_json(path, take_unsealed=True) or {}
    try:
        found = parser.instantiate(parser.parse_object(settings))
    except ArgumentError as error:
        raise ValueError(f"{path} holds settings that cannot be read: {error}") from error
    return as_begun(CompareConfig(**vars(found)), settings)
