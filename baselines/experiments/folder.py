"""The folder of a comparison: whose it is, what it was begun with, and reading it again."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from baselines.contracts.backbone import Backbone
from baselines.data.config import source_kind
from baselines.data.dataset import Dataset
from baselines.data.loading import load_dataset
from baselines.experiments.arms import Arm, backbones_of, parse_arms
from baselines.experiments.claim import may_write
from baselines.experiments.config import CompareConfig
from baselines.experiments.rows import spec_of
from baselines.experiments.schemes import Scheme, schemes_of
from baselines.models.config import BACKBONES
from baselines.training.checkpoint import without_memory_settings
from semid.build import fit_text_encoder
from semid.ids import SemanticIds
from semid.provenance import read_json, write_json
from semid.settings import as_begun, as_json

CONFIG, DATA = "config.json", "data.json"
EMBEDDINGS, TEACHERS, TEACHER_VECTORS = "embeddings", "teachers", "teacher_vectors"
_READ_IN, _GIVEN = "working_directory", "given"  # what data.json says beside `describe`


def settings_claimed(config: CompareConfig) -> dict[str, Any]:
    """What commands that work in one folder at the same time have to agree on."""
    settings: dict[str, Any] = without_memory_settings(config)
    return {name: value for name, value in settings.items() if name not in ("out", "mass_cache")}


def begun_with(config: CompareConfig) -> CompareConfig:
    """With what its folder was made with before a setting came that the command does not name."""
    found = read_json(Path(config.out) / CONFIG, take_unsealed=True)
    return config if found is None else as_begun(config, found)


def require_same_data(out: Path, config: CompareConfig, dataset: Dataset) -> None:
    """Refuse a folder that was begun on other data."""
    found = read_json(out / DATA, take_unsealed=True)
    if found is not None and not describes(found, dataset):
        raise ValueError(
            f"{out} was begun on other data than {config.data} holds now. "
            "Name another folder with --out, or remove this one."
        )


def begin(
    out: Path,
    config: CompareConfig,
    dataset: Dataset,
    ids: Mapping[Scheme, SemanticIds],
    *,
    given: bool,
) -> None:
    """Make ``out`` the folder of this comparison, now that settings and data fit each other.

    Args:
        out: The folder.
        config: The settings.
        dataset: The data.
        ids: The semantic ids of each scheme.
        given: Whether the data were given as they are, and not read as the settings say.
    """
    data = {**describe(dataset), _READ_IN: os.getcwd(), _GIVEN: given}
    for name, values in ((CONFIG, as_json(config)), (DATA, data)):
        if may_write(out) and read_json(out / name, take_unsealed=True) != values:
            write_json(out / name, values)
    for scheme, made in ids.items():
        if not scheme.folder.exists():
            encoder = fit_text_encoder(made, scheme.config, dataset.catalog)  # to code new items
            replace(made, text_encoder=encoder).save(scheme.folder)


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
    """Whether what `describe` recorded fits these data, whatever their name and place are now.

    Counts newer than the record say nothing new: the hashes tell whether the data are the same.
    """
    found = describe(dataset)
    for name in ("statistics", "dropped"):
        known = recorded.get(name, {})
        found[name] = {kind: count for kind, count in found[name].items() if kind in known}
    unlike = ("name", "noted")
    return all(recorded.get(name) == value for name, value in found.items() if name not in unlike)


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
            Paths that are relative, and not found from here, begin where the comparison ran.
        arms: The baseline first.
        given: Its data, where they are at hand already.
    """

    folder: Path
    config: CompareConfig
    arms: list[Arm]
    given: Dataset | None = None

    @classmethod
    def read(
        cls,
        folder: str | os.PathLike[str],
        dataset: Dataset | None = None,
        *,
        backbones: Collection[str] = (),
    ) -> ComparisonFolder:
        """Read the folder of a comparison; no model and no data yet.

        Args:
            folder: Of the comparison.
            dataset: Its data; None to read them, when they are asked for, where its settings say.
            backbones: Class paths of the backbones from outside that its arms name: no code is run
                because a folder names it.

        Raises:
            ValueError: If it is none, it is not finished, or has other backbones from outside.
        """
        folder = Path(folder)
        settings = folder / CONFIG
        if not settings.exists() or not (folder / DATA).exists():
            raise ValueError(
                f"expected the folder of a comparison, got {folder}, which holds none. Name one "
                "that semid compare has written."
            )
        record = read_json(folder / DATA, take_unsealed=True) or {}
        config = _found_from(_config(settings), Path(record.get(_READ_IN, "")))
        for name in backbones_of(config) - {*BACKBONES, *backbones}:
            raise ValueError(
                f"expected backbones in {folder} that are built in or that the caller names, got "
                f"{name!r}, whose code is not run because a file says so. Name it: semid pick "
                f"--backbone {name}, or ComparisonFolder.read(..., backbones=[{name!r}])."
            )
        found = cls(folder=folder, config=config, arms=parse_arms(config), given=dataset)
        if not found._is_finished():
            raise ValueError(
                f"the comparison in {folder} is not finished. Run the same semid compare again: "
                "it goes on where it was stopped."
            )
        return found

    @property
    def data(self) -> dict[str, Any]:
        """What is told of its data, as JSON values: name, sizes and hashes, and no place."""
        record = self._record
        return {name: value for name, value in record.items() if name not in (_READ_IN, _GIVEN)}

    @property
    def _record(self) -> dict[str, Any]:
        return read_json(self.folder / DATA, take_unsealed=True) or {}

    def _is_finished(self) -> bool:
        """Whether the table has every arm and seed: one that was added to may have an older."""
        table = read_json(self.folder / "comparison.json", take_unsealed=True) or {}
        rows = {row["arm"]: row["seeds"] for row in table.get("rows", ())}
        return all(rows.get(arm.label) == list(self.config.seeds) for arm in self.arms)

    @cached_property
    def dataset(self) -> Dataset:
        """Its data, read when first asked for.

        Raises:
            ValueError: If they are gone or have changed.
        """
        whose = f"the comparison in {self.folder}"
        dataset = self.given or self._read_data(whose)
        if not describes(self._record, dataset):
            raise ValueError(
                f"{whose} was made on other data than {self.config.data} holds now, and this needs "
                "them. Its models can be used without."
            )
        return dataset

    def _read_data(self, whose: str) -> Dataset:
        data = self.config.data
        try:
            if self._record.get(_GIVEN) or source_kind(data) == "reader":
                raise ValueError(
                    f"{whose} was made on data that code has made ({data}), which is not run "
                    "because a file names it. Give them: ComparisonFolder.read(folder, dataset); "
                    "or write them to a folder, and run semid compare once more with that --data."
                )
            return dataset_of(self.config)
        except FileNotFoundError as error:
            raise ValueError(
                f"{whose} was made on data that are gone ({error}). This needs them: put them back."
            ) from error

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


def _found_from(config: CompareConfig, ran_in: Path) -> CompareConfig:
    """With folders that are not found from here where they were from ``ran_in``."""

    def found(path: Any) -> Any:
        if not path or Path(path).exists() or not (ran_in / path).exists():
            return path
        return str(ran_in / path)

    lm = replace(config.backbones.lm, model=found(config.backbones.lm.model))
    return replace(
        config,
        data=found(config.data),
        teachers=found(config.teachers),
        backbones=replace(config.backbones, lm=lm),
    )
