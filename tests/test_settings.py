"""Settings of every room: what cannot be meant is refused when they are made, by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.cli.commands import COMMANDS
from baselines.cli.config import TeacherTrainConfig
from baselines.experiments.config import CompareConfig, FluencyConfig
from baselines.lm.config import LanguageModelConfig, LoraSettings
from baselines.nn.config import EncoderConfig
from baselines.pretraining.config import NextTokenConfig, SmallModelConfig, TextsConfig
from baselines.teachers.config import (
    BERT4RecConfig,
    BSARecConfig,
    GRU4RecConfig,
    HybridConfig,
    ItemKNNConfig,
    LightGCNConfig,
    SASRecConfig,
)
from baselines.training.config import TrainingConfig
from tca.config import AlphaPolicy, ObjectiveConfig

REQUIRED: dict[str, Any] = {
    **{"data": "d", "out": "o", "teachers": "t", "run": "r", "ids": "i"},
    **{"model": "m", "history": ("7",), "item": "8", "study": "s", "events": "e", "source": "s"},
    **{"folder": "f", "to": "hf"},
    **{"folders": ("a", "b"), "models": ("m",)},
}


def classes(config: type) -> Iterator[type]:
    """A settings class and those within it."""
    yield config
    for kind in get_type_hints(config).values():
        for part in (kind, *get_args(kind)):
            if dataclasses.is_dataclass(part):
                assert isinstance(part, type)
                yield from classes(part)


SAID = {(AlphaPolicy, "by"): "alpha policy"}
OF_COMMANDS = {config for command in COMMANDS.values() for config in classes(command.config)}
ALL = sorted(
    OF_COMMANDS | {ObjectiveConfig, AlphaPolicy},
    key=lambda config: f"{config.__module__}.{config.__name__}",
)
FIELDS = [(config, own.name) for config in ALL for own in dataclasses.fields(config)]


def made(config: type, **values: Any) -> Any:
    """Settings with something for what has no default."""
    needed = {
        own.name: REQUIRED[own.name]
        for own in dataclasses.fields(config)
        if own.default is own.default_factory is dataclasses.MISSING
    }
    if config.__name__ == "InspectConfig":
        needed["ids"] = ("i",)
    if config.__name__ == "RecommendConfig" and "histories" not in values:
        needed["history"] = ("7",)
    if config.__name__ == "EvaluateConfig" and "log" not in values:
        needed["model"] = "m"
    return config(**{**needed, **values})


@pytest.mark.parametrize("config", ALL, ids=lambda config: config.__name__)
def test_settings_have_defaults_that_they_take(config: type) -> None:
    made(config)


@pytest.mark.parametrize(
    ("config", "name"), FIELDS, ids=[f"{config.__name__}.{name}" for config, name in FIELDS]
)
def test_no_field_takes_what_is_not_of_its_type(config: type, name: str) -> None:
    kind, said = get_type_hints(config)[name], SAID.get((config, name), name)
    for value in (object(), b"bytes", math.nan, -math.inf, [object()]):
        with pytest.raises(ValueError, match=said):
            made(config, **{name: value})
    if type(None) not in get_args(kind):
        with pytest.raises(ValueError, match=said):
            made(config, **{name: None})
    if kind in (int, float):
        with pytest.raises(ValueError, match=said):
            made(config, **{name: True})


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (TrainingConfig, {"clip": -1.0}),
        (TrainingConfig, {"clip": 0.0}),
        (TrainingConfig, {"warmup": 1e300}),
        (TrainingConfig, {"warmup": -1.0}),
        (TrainingConfig, {"weight_decay": -1.0}),
        (TrainingConfig, {"betas": (1.0, 1.0)}),
        (TrainingConfig, {"betas": (-0.1, 0.9)}),
        (TrainingConfig, {"betas": (0.9,)}),
        (TrainingConfig, {"lr": 0.0}),
        (TrainingConfig, {"lr": 1e30}),
        (TrainingConfig, {"patience": 0}),
        (NextTokenConfig, {"clip": 0.0}),
        (NextTokenConfig, {"warmup": 2.0}),
        (NextTokenConfig, {"weight_decay": -0.1}),
        (EncoderConfig, {"num_layers": -1}),
        (EncoderConfig, {"num_layers": 0}),
        (EncoderConfig, {"ff_dim": -1}),
        (EncoderConfig, {"dropout": 1.5}),
        (EncoderConfig, {"dropout": 1.0}),
        (EncoderConfig, {"dim": 10**12}),
        (CausalConfig, {"max_history": 0}),
        (CausalConfig, {"path_dropout": 1.0}),
        (TigerConfig, {"num_layers": 0}),
        (TigerConfig, {"head_dim": 0}),
        (TigerConfig, {"user_tokens": -1}),
        (TigerConfig, {"dropout": -0.1}),
        (SASRecConfig, {"max_history": 0}),
        (SASRecConfig, {"num_negatives": 0}),
        (SASRecConfig, {"gbce_t": 1.1}),
        (BSARecConfig, {"filter": "butterworth"}),
        (BSARecConfig, {"cutoff": 0}),
        (BSARecConfig, {"cutoff": 51}),
        (BSARecConfig, {"alpha": 1.1}),
        (BERT4RecConfig, {"passes": 0}),
        (GRU4RecConfig, {"hidden_dim": 0}),
        (GRU4RecConfig, {"dropout": 1.0}),
        (LightGCNConfig, {"dim": 0}),
        (LightGCNConfig, {"regularisation": -1e-4}),
        (ItemKNNConfig, {"max_history": 0}),
        (HybridConfig, {"content_temperature": 1e-45}),
        (LoraSettings, {"dropout": 1.0}),
        (LoraSettings, {"target": " "}),
        (LanguageModelConfig, {"max_history": -1}),
        (TextsConfig, {"list_titles": 1}),
        (SmallModelConfig, {"num_heads": 0}),
        (AlphaPolicy, {"by": "history", "half": 0.0}),
        (ObjectiveConfig, {"tau": 1e-45}),
        (ObjectiveConfig, {"tau": 1e30}),
        (CompareConfig, {"temperature": 1e-45}),
        (CompareConfig, {"temperature": math.inf}),
        (CompareConfig, {"tau": 0.0}),
        (CompareConfig, {"seeds": (-1,)}),
        (CompareConfig, {"seeds": (2**64,)}),
        (CompareConfig, {"resamples": 0}),
        (CompareConfig, {"resamples": 10**12}),
        (CompareConfig, {"out": ""}),
        (TeacherTrainConfig, {"seeds": ()}),
        (FluencyConfig, {"beam": 0}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_a_number_out_of_its_range_is_refused(config: type, values: dict[str, Any]) -> None:
    (name,) = values.keys() - {"by"}
    with pytest.raises(ValueError, match=rf"^{name} must "):
        made(config, **values)
