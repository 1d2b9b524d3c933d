"""Backbones by name: their classes, and their settings among those of all."""

from __future__ import annotations

import dataclasses
from typing import Any

from baselines.contracts.backbone import Backbone, BuildContext
from baselines.models.config import BACKBONES, BackboneConfigs
from semid.registry import load_class


def backbone_class(name: str) -> type[Backbone]:
    """The class of a backbone, by its short name or as ``package.module:Class``.

    Raises:
        ValueError: If there is no such class, or it is no backbone.
    """
    return load_class(
        name,
        BACKBONES,
        Backbone,  # type: ignore[type-abstract]
        what="backbone",
        advice="Subclass it and write max_history, windows, forward and start.",
    )


def backbone_settings(cls: type[Backbone], configs: BackboneConfigs) -> tuple[Any, Any]:
    """The settings of a backbone, and those that its family does not share, or None.

    Raises:
        ValueError: If ``configs.settings`` are not those of a class from outside.
    """
    extra = None if cls.extra_config_class is None else _of_class(cls.extra_config_class, configs)
    return _of_class(cls.config_class, configs), extra


def build_backbone(cls: type[Backbone], config: Any, extra: Any, context: BuildContext) -> Backbone:
    """A fresh backbone.

    Args:
        cls: Its class.
        config: Of its ``config_class``.
        extra: Of its ``extra_config_class``; None where it has none.
        context: What it is built for.
    """
    made_by: Any = cls  # how subclasses are built is said by ``Backbone``, not by its signature
    backbone: Backbone = made_by(config, context, *([] if extra is None else [extra]))
    return backbone


def is_searched(cls: type[Backbone]) -> bool:
    """Whether a beam search ranks for it; else it scores items itself, as ``ItemScorer``."""
    return not hasattr(cls, "score")


def _of_class(config_class: type[Any], configs: BackboneConfigs) -> Any:
    for field in dataclasses.fields(configs):
        value = getattr(configs, field.name)
        if type(value) is config_class:
            return value
    try:
        return config_class(**configs.settings)
    except TypeError as error:
        raise ValueError(
            f"backbones.settings must be those of {config_class.__name__}, got "
            f"{configs.settings} ({error})"
        ) from error
