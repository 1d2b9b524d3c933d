"""Fit a teacher to the training interactions of a split, or read one that is there already."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.data.batches import Windows
from baselines.data.dataset import Dataset
from baselines.evaluation.config import DEFAULT_SELECTION
from baselines.evaluation.ranking import rank_by_scores
from baselines.evaluation.selection import Selection
from baselines.runtime.distributed import one_run_at_a_time
from baselines.teachers.config import BUILT_IN, HybridConfig, TeacherConfig
from baselines.teachers.hybrid import Hybrid
from baselines.teachers.model import TeacherModel
from baselines.teachers.registry import build_teacher, teacher_class
from baselines.teachers.scorer_teacher import ScorerTeacher, source_hash
from baselines.training.checkpoint import TrainingState, is_trained, read_trained, recipe
from baselines.training.config import PRECISIONS, Precision, TrainingConfig
from baselines.training.loop import TrainingTask, train
from baselines.training.precision import settled
from semid.embed import CUT_TEXTS, Embeddings, embeddings_from
from semid.provenance import Provenance, ProvenanceError, hash_json, require_same

_EMBEDDINGS = "embeddings"


def fit_teacher(
    dataset: Dataset,
    config: TeacherConfig,
    training: TrainingConfig,
    *,
    seed: int,
    folder: Path,
    selected_by: str = DEFAULT_SELECTION,
) -> tuple[TeacherModel, TrainingState, Provenance]:
    """Fit a teacher; the epoch that ``selected_by`` finds best on validation is kept.

    Args:
        dataset: Only its training sequences are learned from.
        config: Which teacher, in which shape. The collaborative teacher of a hybrid is fitted
            first, or taken from ``folder`` as any other.
        training: How to train it, with ``auto`` as in ``settled_training``; a teacher that counts
            is not trained, nor is a scorer that a function returns.
        seed: Of weights, data order, dropout, masks and negatives.
        folder: Parent of the model's own folder, whose name says what it was made from, so that
            several experiments can share one trained teacher.
        selected_by: As of ``EvaluationConfig``.

    Returns:
        The model in eval mode, its training, and its provenance. A hybrid was trained as long as
        its collaborative teacher, and validated itself.

    Raises:
        ProvenanceError: If the item vectors of a hybrid are of another catalogue, or have seen
            other interactions than the training part; if a scorer from outside does not score as
            it did.
        ValueError: If they cannot be read or made, or the teacher cannot.
    """
    training = settled_training(dataset, config, training, folder=folder, selected_by=selected_by)
    if config.model == "hybrid":
        return _fit_hybrid(
            dataset, config, training, seed=seed, folder=folder, selected_by=selected_by
        )
    model = build_teacher(config, dataset, seed)
    if isinstance(model, ScorerTeacher):
        settings = {"seed": seed, **config.record(), "source": source_hash(config.model)}
    else:
        settings = _settings(seed, config, training, selected_by)
    state, lineage = _fit(model, dataset, training, settings, passes=config.passes, folder=folder)
    return model, state, lineage


def settled_training(
    dataset: Dataset,
    config: TeacherConfig,
    training: TrainingConfig,
    *,
    folder: Path,
    selected_by: str = DEFAULT_SELECTION,
) -> TrainingConfig:
    """Settings with a precision in place of ``auto``: that of the teachers in ``folder``.

    Those count, trained or begun, that differ in nothing but precision and seed. So all seeds have
    one precision, a folder goes on as it was begun, and teachers that are shared are taken as they
    are; of either precision those in float32. Where there is none, the faster is taken.
    """
    config = config.collaborative

    def begun() -> Precision | None:
        lineage = _lineage(dataset, {})
        for precision in PRECISIONS:
            how = dataclasses.replace(training, precision=precision)
            model = _folder_prefix(config.model)
            for path in folder.glob(f"{model}-[0-9]*-*"):
                seed = re.sub(r"\D.*", "", path.name.removeprefix(f"{model}-"))
                settings = _settings(int(seed), config, how, selected_by)
                if path.name == folder_name(dataclasses.replace(lineage, config=settings)):
                    return precision
        return None

    return settled(training, begun)


def _settings(
    seed: int, config: TeacherConfig, training: TrainingConfig, selected_by: str
) -> dict[str, Any]:
    """What the lineage of a teacher holds of its settings."""
    settings = {"seed": seed, **config.record(), "training": recipe(training)}
    return settings | _selection(selected_by)


def _selection(selected_by: str) -> dict[str, str]:
    """Its part of a lineage: nothing by default, as before there was a choice."""
    return {} if selected_by == DEFAULT_SELECTION else {"selected_by": selected_by}


def _fit_hybrid(
    dataset: Dataset,
    config: TeacherConfig,
    training: TrainingConfig,
    *,
    seed: int,
    folder: Path,
    selected_by: str,
) -> tuple[TeacherModel, TrainingState, Provenance]:
    cf, cf_state, cf_lineage = fit_teacher(
        dataset,
        config.collaborative,
        training,
        seed=seed,
        folder=folder,
        selected_by=selected_by,
    )
    content = _content(config.hybrid, dataset, cache_dir=folder / _EMBEDDINGS)
    model = Hybrid(
        config.hybrid, cf, torch.from_numpy(content.vectors), dataset.splits.train
    ).eval()
    settings = {
        "seed": seed,
        **config.record(),
        "content": _encoded_by(content),
        "dim": content.vectors.shape[1],
        **_selection(selected_by),
    }
    inputs = {"collaborative": scores_hash(cf_lineage), "content": content.provenance.content}
    learned = [parameter for parameter in cf.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)  # it is trained already
    state, lineage = _fit(model, dataset, training, settings, folder=folder, inputs=inputs)
    for parameter in learned:
        parameter.requires_grad_(True)  # and counts among what was trained
    spent = {name: getattr(cf_state, name) for name in ("epoch", "best_epoch", "seconds")}
    return model, dataclasses.replace(state, **spent), lineage


def _encoded_by(content: Embeddings) -> dict[str, Any]:
    """The encoder and its settings, without what was only counted."""
    return {name: value for name, value in content.provenance.config.items() if name != CUT_TEXTS}


def _content(config: HybridConfig, dataset: Dataset, *, cache_dir: Path) -> Embeddings:
    """Item vectors that nobody has learned from what is held out."""
    content = embeddings_from(
        config.embeddings, dataset.catalog, template=config.template, cache_dir=cache_dir
    )
    if content.provenance.seen is not None:
        require_same(
            "interactions that the item vectors of the hybrid have seen",
            dataset.splits.train_hash,
            content.provenance.seen,
            what_to_do="Take vectors of the content alone, or of the training part of this split.",
        )
    return content


def _fit(
    model: TeacherModel,
    dataset: Dataset,
    training: TrainingConfig,
    settings: dict[str, Any],
    *,
    folder: Path,
    passes: int = 1,
    inputs: Mapping[str, str] | None = None,
) -> tuple[TrainingState, Provenance]:
    """Train a model in a folder below ``folder`` that is named by all it is made from."""
    splits, seed = dataset.splits, settings["seed"]
    lineage = _lineage(dataset, settings, inputs)
    folder = folder / folder_name(lineage)
    selection = Selection.of(settings.get("selected_by", DEFAULT_SELECTION))

    def validate() -> float:
        ranks = rank_by_scores(model, splits.valid, title="validation")
        return selection.value(ranks, "expected")

    with one_run_at_a_time(folder):
        state = train(
            model,
            config=training,
            seed=seed,
            task=TrainingTask(
                windows=_repeated(model.windows(splits.train), passes),
                loss=model.objective,
                validate=validate,
            ),
            folder=folder,
            lineage=lineage,
            title=f"{model.label}, seed {seed}",
        )
    require_unchanged(model, folder)
    return state, Provenance.read(folder)


def require_unchanged(model: TeacherModel, folder: Path) -> None:
    """Refuse a scorer from outside that does not score as ``folder``, which was read, recorded.

    Raises:
        ProvenanceError: If one within ``model`` does not.
    """
    for part in model.modules():
        if isinstance(part, ScorerTeacher):
            part.require_unchanged(folder)


def _lineage(
    dataset: Dataset, settings: dict[str, Any], inputs: Mapping[str, str] | None = None
) -> Provenance:
    return Provenance(
        kind="teacher",
        content="",
        items=dataset.catalog.order_hash,
        seen=dataset.splits.train_hash,
        inputs={"valid": dataset.splits.valid.content_hash(), **(inputs or {})},
        config=settings,
    )


def folder_name(lineage: Provenance) -> str:
    """Name of a teacher's folder: its model, its seed, and a hash of all that it is made from."""
    settings = lineage.config
    key = hash_json([lineage.items, lineage.seen, lineage.inputs, settings])
    return f"{_folder_prefix(settings['model'])}-{settings['seed']}-{key[:8]}"


def _folder_prefix(model: str) -> str:
    return model.replace(":", ".")  # no file of Windows has a colon in its name


def _repeated(windows: Windows, times: int) -> Windows:
    columns = (
        windows.start,
        windows.first,
        windows.stop,
        windows.first_id,
        windows.sequence,
    )
    return Windows(windows.data, *(np.tile(column, times) for column in columns))


def read_teacher(
    dataset: Dataset,
    *,
    seed: int,
    folder: Path,
    model: str | None = None,
    other_interactions: bool = False,
) -> tuple[TeacherModel, Provenance]:
    """Read a teacher that ``fit_teacher`` has fitted to this data.

    Args:
        dataset: What it must have been fitted to.
        seed: It was fitted with.
        folder: The ``folder`` of ``fit_teacher``, if it holds one teacher of this seed; else the
            teacher's own folder in it.
        model: Of a teacher from outside, its ``package.module:Name``: no code is run because a
            folder names it.
        other_interactions: Also take one that has learned from other interactions than the
            training part of ``dataset``, and so perhaps from those that are held out here.

    Returns:
        The model in eval mode, and its provenance.

    Raises:
        FileNotFoundError: If there is no fitted teacher of this seed.
        ValueError: If there are several, or it is one from outside and not ``model``.
        ProvenanceError: If it was fitted to another catalogue, or to other interactions and these
            were not asked for, or it cannot do without them.
    """
    below = sorted(path for path in folder.glob(f"*-{seed}-*") if _is_teacher(path, seed))
    found = [folder] if _is_teacher(folder, seed) else below
    if not found:
        raise FileNotFoundError(
            f"expected a trained teacher of seed {seed} in {folder}, got none. "
            f"Train it with semid teacher train --out {folder} --seeds '[{seed}]'."
        )
    if len(found) > 1:
        raise ValueError(
            f"expected one teacher of seed {seed} in {folder}, got "
            f"{', '.join(path.name for path in found)}. Name the folder of one of them."
        )
    lineage = Provenance.read(found[0])
    whose = f"of the teacher in {found[0]}"
    require_teacher_of(dataset, lineage, whose=whose, other_interactions=other_interactions)
    config = TeacherConfig.of_record(lineage.config)
    require_named(config.collaborative, model, found[0])
    made_by = teacher_class(config.collaborative)
    if made_by.needs_interactions and lineage.seen != dataset.splits.train_hash:
        raise ProvenanceError(
            f"the teacher in {found[0]} scores by the graph of its training part, which is not "
            "that of this data. Train it on this data, or take another teacher."
        )
    vectors = None
    if config.model == "hybrid":
        vectors = torch.zeros(len(dataset.catalog), lineage.config["dim"])
    teacher = build_teacher(config, dataset, seed, vectors=vectors)
    read_trained(found[0], teacher)
    require_unchanged(teacher, found[0])
    return teacher, lineage


def require_named(config: TeacherConfig, model: str | None, folder: Path) -> None:
    """Refuse a teacher from outside that only its folder names, and not the caller.

    Args:
        config: What the folder holds; of a hybrid, its collaborative teacher.
        model: What the caller names.
        folder: Where it lies.

    Raises:
        ValueError: If they differ.
    """
    if not config.is_built_in and config.model != model:
        raise ValueError(
            f"expected a teacher in {folder} that is built in or that the caller names, got "
            f"{config.model!r}, whose code is not run because a file says so. "
            f"Name it: --teacher {config.model} (of semid teacher export --model), or "
            "read_teacher(..., model=...)."
        )


def require_teacher_of(
    dataset: Dataset,
    lineage: Provenance,
    *,
    whose: str = "of the teacher",
    other_interactions: bool = False,
) -> None:
    """Refuse a teacher of another catalogue, or one that may know what is held out.

    Args:
        dataset: What it is to teach.
        lineage: The teacher's provenance.
        whose: Names it in the error.
        other_interactions: Whether it may have learned from other interactions than the training
            part of ``dataset``.

    Raises:
        ProvenanceError: If the item order or, unless allowed, the interactions differ.
    """
    require_same(
        f"item order {whose}",
        dataset.catalog.order_hash,
        lineage.items,
        what_to_do="Train the teacher on this data and this split.",
    )
    if not other_interactions:
        require_same(
            f"training part {whose}",
            dataset.splits.train_hash,
            lineage.seen,
            what_to_do="It may have seen what is held out here: train the teacher on this split, "
            "or ask for it by other_interactions.",
        )


def scores_hash(lineage: Provenance) -> str:
    """Hash of all that decides the scores of a fitted teacher; what is made of them is kept by it.

    Other settings of a training make other weights, which are enough. What was counted, or blended,
    is the same under settings that only say how to score by it, such as item-kNN's ``decay``;
    a teacher from outside may have such settings too.
    """
    model = lineage.config["model"]
    if model in ("itemknn", "hybrid") or model not in BUILT_IN:
        return hash_json([lineage.content, lineage.config])
    return lineage.content


def _is_teacher(folder: Path, seed: int) -> bool:
    model, _, rest = folder.name.partition("-")
    named = model in BUILT_IN or "." in model  # of a teacher from outside the path with its dots
    return named and rest.startswith(f"{seed}-") and is_trained(folder)
