"""The folder of a comparison: its settings and data, and reading it again."""

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
from baselines.data.leakage import leakage
from baselines.data.loading import load_dataset
from baselines.experiments.arms import Arm, backbones_of, parse_arms
from baselines.experiments.claim import may_write
from baselines.experiments.config import CompareConfig
from baselines.experiments.rows import spec_of
from baselines.experiments.schemes import Scheme, schemes_of
from baselines.models.config import BACKBONES
from baselines.models.files import CARD
from baselines.training.checkpoint import without_memory_settings
from semid.build import fit_text_encoder
from semid.ids import SemanticIds
from semid.provenance import read_json, write_json
from semid.registry import refuse_unnamed_code
from semid.settings import as_begun, as_json

CONFIG, DATA = "config.json", "data.json"
EMBEDDINGS, TEACHERS, TEACHER_VECTORS = "embeddings", "teachers", "teacher_vectors"
_OWN = ("out", "mass_cache", "log_to", "wide")  # of each command, where several share a folder
_READ_IN, _GIVEN = "working_directory", "given"  # keys of data.json besides those of `describe`


def settings_claimed(config: CompareConfig) -> dict[str, Any]:
    """The settings that commands must share to use one folder at the same time."""
    settings: dict[str, Any] = without_memory_settings(config)
    return {name: value for name, value in settings.items() if name not in _OWN}


def begun_with(config: CompareConfig) -> CompareConfig:
    """The settings, with the folder's earlier behaviour for newer ones that the command omits."""
    found = read_json(Path(config.out) / CONFIG, take_unsealed=True)
    return config if found is None else as_begun(config, found)


def require_same_data(out: Path, config: CompareConfig, dataset: Dataset) -> None:
    """Refuse a folder that was started on other data."""
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
    """Make ``out`` the folder of this comparison, whose settings and data have been checked.

    Args:
        out: The folder.
        config: The settings.
        dataset: The data.
        ids: The semantic IDs of each scheme.
        given: Whether the dataset was passed in, rather than read according to the settings.
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
    """A comparison's record of its data, as JSON values; equal for equal data."""
    return {
        "name": dataset.name,
        "protocol": dataset.splits.protocol,
        "statistics": dataset.statistics,
        "dropped": dataset.dropped,
        "noted": dataset.noted,
        "leakage": leakage(dataset),
        "item_order": dataset.catalog.order_hash,
        "train": dataset.splits.train_hash,
        "valid": dataset.splits.valid.content_hash(),
        "test": dataset.splits.test.content_hash(),
    }


def describes(recorded: Mapping[str, Any], dataset: Dataset) -> bool:
    """Whether a record of `describe` matches these data, whatever their name and location.

    Counts added after the record was written are ignored: the hashes identify the data.
    """
    found = describe(dataset)
    for name in ("statistics", "dropped"):
        known = recorded.get(name, {})
        found[name] = {kind: count for kind, count in found[name].items() if kind in known}
    unlike = ("name", "noted", "leakage")
    return all(recorded.get(name) == value for name, value in found.items() if name not in unlike)


def seeds_of_rows(folder: Path) -> dict[str, list[int | None]]:
    """The seeds of each row of a comparison's table, by label; none without a table."""
    table = read_json(folder / "comparison.json", take_unsealed=True) or {}
    return {row["arm"]: row["seeds"] for row in table.get("rows", ())}


def dataset_of(config: CompareConfig) -> Dataset:
    """The data of a comparison, read according to its settings."""
    return load_dataset(
        config.data,
        split=config.split,
        ties=config.ties,
        repeats=config.repeats,
        time_format=config.time_format,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ComparisonFolder:
    """A folder written by ``semid compare``.

    Attributes:
        folder: The folder.
        config: Its settings; those added after it was written have their earlier behaviour or
            their default. Relative paths that do not exist from here are resolved from where the
            comparison ran.
        arms: Its arms, the baseline first.
        given: Its data, if already loaded.
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
        """Read the folder of a comparison, without loading models or data.

        Args:
            folder: The folder.
            dataset: Its data; None to read them on demand according to its settings.
            backbones: Class paths of the external backbones in its arms: a folder never decides
                which code is run.

        Raises:
            ValueError: If it is not a comparison's, is not finished, or has other external
                backbones.
        """
        folder = Path(folder)
        settings = folder / CONFIG
        if (folder / CARD).exists():
            raise ValueError(
                f"expected the folder of a comparison, got {folder}, which is a model already. Use "
                f"it as it is: semid recommend --model {folder}."
            )
        if not settings.exists() or not (folder / DATA).exists():
            raise ValueError(
                f"expected the folder of a comparison, got {folder}, which holds none. Name one "
                "that semid compare has written."
            )
        record = read_json(folder / DATA, take_unsealed=True) or {}
        config = _found_from(_config(settings), Path(record.get(_READ_IN, "")))
        for name in backbones_of(config) - {*BACKBONES, *backbones}:
            by_caller = f"--backbone {name}, or ComparisonFolder.read(..., backbones=[{name!r}])"
            cure = f"Name it: {by_caller}."
            refuse_unnamed_code("backbone", name, where=str(folder), cure=cure)
        found = cls(folder=folder, config=config, arms=parse_arms(config), given=dataset)
        if not found._is_finished():
            raise ValueError(
                f"the run in {folder} is not finished. Run the same command again: it goes on "
                "where it was stopped."
            )
        return found

    @property
    def data(self) -> dict[str, Any]:
        """Public description of its data, as JSON values: name, sizes and hashes, but no paths."""
        record = self._record
        return {name: value for name, value in record.items() if name not in (_READ_IN, _GIVEN)}

    @property
    def _record(self) -> dict[str, Any]:
        return read_json(self.folder / DATA, take_unsealed=True) or {}

    def _is_finished(self) -> bool:
        """Whether the table has every arm and seed; a folder that grew may have an older table."""
        rows = seeds_of_rows(self.folder)
        return all(rows.get(arm.label) == list(self.config.seeds) for arm in self.arms)

    @cached_property
    def dataset(self) -> Dataset:
        """Its data, read on first use.

        Raises:
            ValueError: If they are missing or have changed.
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
        """The untrained backbone of an arm, on this process's device."""
        config = self.config
        schemes = schemes_of([arm], config.ids, config.schemes, self.folder)
        first, *second = (SemanticIds.load(scheme.folder) for scheme in schemes)
        catalog = self.dataset.catalog
        return spec_of(config, arm, seed).build(first, catalog, second=next(iter(second), None))


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
    """The settings, with folders that do not exist from here resolved from ``ran_in``."""

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
