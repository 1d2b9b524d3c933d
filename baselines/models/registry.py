"""Backbones by name: their classes, settings and construction."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from baselines.contracts.backbone import Backbone, BuildContext
from baselines.lm.config import LanguageModelConfig
from baselines.models.config import BACKBONES, BackboneConfigs
from baselines.testing.backbones import check_backbone
from semid.field_types import require_types
from semid.registry import load_class


def backbone_class(name: str) -> type[Backbone]:
    """The class of a backbone, by short name or as ``package.module:Class``.

    Raises:
        ValueError: If there is no such class, or it is not a complete backbone.
    """
    found = load_class(
        name,
        BACKBONES,
        Backbone,  # type: ignore[type-abstract]
        what="backbone",
        advice="Subclass it and write max_history, forward and start.",
    )
    if not isinstance(getattr(found, "label", None), str):
        raise ValueError(f"expected {name} to set label (its name in reports), got none.")
    if not dataclasses.is_dataclass(getattr(found, "config_class", None)):
        raise ValueError(f"expected {name} to set config_class (a dataclass of its settings).")
    return found


def backbone_settings(cls: type[Backbone], configs: BackboneConfigs) -> tuple[Any, Any]:
    """The settings of a backbone, and its extra settings beyond its family's, or None.

    Raises:
        ValueError: If ``configs.settings`` do not fit an external class; says which do not.
    """
    extra = None if cls.extra_config_class is None else _of_class(cls.extra_config_class, configs)
    return _of_class(cls.config_class, configs), extra


def build_backbone(cls: type[Backbone], config: Any, extra: Any, context: BuildContext) -> Backbone:
    """A fresh backbone.

    Args:
        cls: Its class.
        config: An instance of its ``config_class``.
        extra: An instance of its ``extra_config_class``; None if it has none.
        context: Its items, IDs, seed and teacher.

    Raises:
        ValueError: If there is a second set of IDs, and it takes one alone.
    """
    if context.second is not None:
        require_second_ids(cls, config)
    made_by: Any = cls  # Backbone documents the constructor of subclasses, but does not type it
    backbone: Backbone = made_by(config, context, *([] if extra is None else [extra]))
    return backbone


def require_second_ids(cls: type[Backbone], config: Any) -> None:
    """Check that a backbone can learn a second set of IDs.

    Args:
        cls: Its class.
        config: An instance of its ``config_class``.

    Raises:
        ValueError: If it cannot; names one that can.
    """
    if not cls.takes_second_ids(config):
        raise ValueError(
            "two sets of IDs need a backbone that learns both, causal with input item, got "
            f"{cls.label} with {config}. Take that one, or name one scheme."
        )


def require_contract(names: Collection[str], configs: BackboneConfigs) -> None:
    """Run external backbones through their contract, with their configured settings.

    Skips those that are built from a teacher or a language model, which take long to build.

    Args:
        names: The backbones to be trained.
        configs: Settings of all backbones.

    Raises:
        ContractError: At the first broken clause.
        ValueError: If settings do not fit a backbone, or are given without a backbone to use them.
    """
    classes = {name: backbone_class(name) for name in names}
    built_in = {type(getattr(configs, field.name)) for field in dataclasses.fields(configs)}
    if configs.settings and all(cls.config_class in built_in for cls in classes.values()):
        raise ValueError(
            "backbones.settings are those of a backbone of your own, got "
            f"{', '.join(configs.settings)} and no such backbone. Name it as package.module:Class."
        )
    for name, cls in classes.items():
        config, extra = backbone_settings(cls, configs)
        slow = cls.needs_teacher or isinstance(config, LanguageModelConfig)
        if name not in BACKBONES and not slow:
            check_backbone(_named(name, partial(build_backbone, cls, config, extra)))


def is_searched(cls: type[Backbone]) -> bool:
    """Whether it ranks by beam search; otherwise it scores items itself, as an ``ItemScorer``."""
    return not hasattr(cls, "score")


def _named(name: str, build: Callable[[BuildContext], Backbone]) -> Callable[..., Backbone]:
    def make(context: BuildContext) -> Backbone:
        return build(context)

    make.__name__ = name
    return make


def _of_class(config_class: type[Any], configs: BackboneConfigs) -> Any:
    for field in dataclasses.fields(configs):
        value = getattr(configs, field.name)
        if type(value) is config_class:
            return value
    try:
        made = config_class(**configs.settings)
        require_types(made)
        return made
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"backbones.settings must be those of {config_class.__name__}, got "
            f"{configs.settings} ({error})"
        ) from error
