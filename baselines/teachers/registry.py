"""Lookup and construction of teachers, built-in or custom."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from baselines.contracts.scorer import LeavesOwnOut
from baselines.data.dataset import Dataset
from baselines.teachers.config import BUILT_IN, TeacherConfig
from baselines.teachers.content import Content
from baselines.teachers.degraded import Degraded, DegradedCounted, with_share
from baselines.teachers.hybrid import Hybrid
from baselines.teachers.model import TeacherModel
from baselines.teachers.rules import Rules
from baselines.teachers.rules_and_content import RulesAndContent
from baselines.teachers.scorer_teacher import ScorerTeacher
from semid.registry import load_class, load_function

_RELEASED_SASREC = "baselines.teachers.released_sasrec:ReleasedSASRec"
_ADVICE = (
    "Subclass baselines.teachers.model.TeacherModel, or name a function that returns an ItemScorer."
)


def teacher_class(config: TeacherConfig) -> type[TeacherModel]:
    """The class of the teacher that ``config`` names; ``ScorerTeacher`` for a function.

    Raises:
        ValueError: If the name is neither a function nor a complete subclass of ``TeacherModel``.
    """
    if config.model == "degraded":
        counted = issubclass(teacher_class(config.wrapped), LeavesOwnOut)
        return DegradedCounted if counted else Degraded
    if not inspect.isclass(_loaded(config)):
        return ScorerTeacher
    released = config.model == "sasrec" and config.sasrec.variant == "released"
    name = _RELEASED_SASREC if released else config.model
    return load_class(name, BUILT_IN, TeacherModel, what="teacher", advice=_ADVICE)  # type: ignore[type-abstract]


def build_teacher(
    config: TeacherConfig, dataset: Dataset, seed: int, *, vectors: Tensor | None = None
) -> TeacherModel:
    """Build an untrained teacher, or one counted from the training part alone.

    Args:
        config: The teacher and its settings.
        dataset: The data.
        seed: Seed of the initial weights.
        vectors: Content vectors, float ``(item, dim)``, for the teachers that read content.

    Raises:
        ValueError: For a hybrid without vectors; as ``Content.build``; for a custom teacher that
            cannot be constructed from ``(dataset, seed, **settings)`` or breaks the contract.
    """
    if config.model == "hybrid":
        if vectors is None:
            raise ValueError("a hybrid needs vectors of the items, got none")
        collaborative = build_teacher(config.wrapped, dataset, seed)
        return Hybrid(config.hybrid, collaborative, vectors, dataset.splits.train)
    if config.model == "degraded":
        part = with_share(dataset, config.degraded.share)
        base = build_teacher(config.wrapped, part, seed, vectors=vectors)
        return degraded_teacher(config, base, dataset, seed)
    if config.model == "content":
        return Content.build(dataset, seed, config.content, vectors)
    if config.model == "rules+content":
        rules = Rules.build(dataset, seed, config.rules)
        content = Content.build(dataset, seed, config.content, vectors)
        return RulesAndContent(config.blend, rules, content)
    made_by = teacher_class(config)
    if config.is_built_in:
        return made_by.build(dataset, seed, config.shape)
    function = _loaded(config)
    _require_arguments(function, dataset, seed, config)
    if made_by is ScorerTeacher:
        scorer = function(dataset, seed, **config.settings)
        return ScorerTeacher.of_catalog(scorer, len(dataset.catalog), name=config.model)
    model = made_by.build(dataset, seed, config.shape)
    _require_usable(model, config.model)
    return model


def degraded_teacher(
    config: TeacherConfig, base: TeacherModel, dataset: Dataset, seed: int
) -> Degraded:
    """Make a fitted teacher worse, as ``config.degraded`` says."""
    made_by = DegradedCounted if isinstance(base, LeavesOwnOut) else Degraded
    return made_by(config.degraded, base, len(dataset.catalog), seed)


def unfilled_teacher(
    config: TeacherConfig, dataset: Dataset, recorded: Mapping[str, Any]
) -> TeacherModel:
    """Build a teacher whose parameters are about to be loaded, without counting where possible.

    Args:
        config: The teacher and its settings.
        dataset: The data, or without them, the items.
        recorded: Its ``Provenance.config``.

    Raises:
        ValueError: As ``build_teacher``.
    """
    num_items = len(dataset.catalog)
    if config.model == "hybrid":
        collaborative = unfilled_teacher(config.wrapped, dataset, recorded)
        vectors = torch.zeros(num_items, recorded["dim"])
        return Hybrid(config.hybrid, collaborative, vectors, dataset.splits.train)
    if config.model == "degraded":
        part = with_share(dataset, config.degraded.share)
        base = unfilled_teacher(config.wrapped, part, recorded)
        return degraded_teacher(config, base, dataset, recorded["seed"])
    if config.model == "rules":
        return Rules(config.rules, num_items)
    if config.model == "content":
        return Content(config.content, num_items)
    if config.model == "rules+content":
        rules, content = Rules(config.rules, num_items), Content(config.content, num_items)
        return RulesAndContent(config.blend, rules, content)
    return build_teacher(config, dataset, recorded["seed"])


def _loaded(config: TeacherConfig) -> Callable[..., Any]:
    return load_function(config.model, BUILT_IN, what="teacher")


def _require_arguments(
    function: Callable[..., Any], dataset: Dataset, seed: int, config: TeacherConfig
) -> None:
    """Raise if a custom teacher does not accept its settings."""
    try:
        inspect.signature(function).bind(dataset, seed, **config.settings)
    except TypeError as error:
        raise ValueError(
            f"expected settings of {config.model}, called as (dataset, seed, "
            f"**settings), got {sorted(config.settings) or 'none'} ({error}). "
            "Correct --teacher.settings, or its parameters."
        ) from error


def _require_usable(model: TeacherModel, name: str) -> None:
    """Raise, before training, if a custom model lacks its name, history length or loss."""
    cure = "baselines.testing.check_teacher runs the whole contract."
    for attribute, kind in (("label", str), ("max_history", int)):
        if not isinstance(getattr(model, attribute, None), kind):
            raise ValueError(f"expected {name} to set {attribute} ({kind.__name__}). {cure}")
    trained = any(parameter.requires_grad for parameter in model.parameters())
    cls = type(model)
    if trained and cls.loss is TeacherModel.loss and cls.objective is TeacherModel.objective:
        raise ValueError(
            f"expected a loss of {name}, which has parameters to train, got none. {cure}"
        )
