"""Fit a teacher to the training interactions of a split, or load one fitted earlier."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from baselines.data.content_texts import content_texts
from baselines.data.dataset import Dataset
from baselines.evaluation.config import DEFAULT_SELECTION
from baselines.evaluation.ranking import rank_by_scores
from baselines.evaluation.selection import Selection
from baselines.teachers.config import (
    BUILT_IN,
    COUNTED,
    OF_CONTENT,
    WRAPPERS,
    HybridConfig,
    TeacherConfig,
)
from baselines.teachers.counting_config import TFIDF, ContentConfig
from baselines.teachers.degraded import with_share
from baselines.teachers.hybrid import Hybrid
from baselines.teachers.model import TeacherModel
from baselines.teachers.registry import (
    build_teacher,
    degraded_teacher,
    teacher_class,
    unfilled_teacher,
)
from baselines.teachers.scorer_teacher import ScorerTeacher, source_hash
from baselines.training.checkpoint import (
    TrainingState,
    is_trained,
    read_trained,
    without_memory_settings,
)
from baselines.training.config import PRECISIONS, Precision, TrainingConfig
from baselines.training.loop import TrainingTask, train
from baselines.training.precision import settled
from semid.distributed import one_run_at_a_time
from semid.embed import CUT_TEXTS, Embeddings, embeddings_from
from semid.provenance import Provenance, ProvenanceError, hash_ids, hash_json, require_same
from semid.registry import refuse_unnamed_code

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
    """Fit a teacher, keeping the epoch with the best validation value of ``selected_by``.

    Args:
        dataset: Only its training sequences are used for training.
        config: The teacher and its settings. The teacher within a hybrid or a degraded one is
            fitted first, or reused from ``folder`` like any other.
        training: Settings of the training, with ``auto`` as in ``settled_training``. Teachers that
            are counted, and scorers returned by a function, are not trained.
        seed: Seed of weights, data order, dropout, masks and negatives.
        folder: Parent of the model's folder, whose name identifies its inputs, so that several
            experiments can share a trained teacher.
        selected_by: As in ``EvaluationConfig``.

    Returns:
        The model in eval mode, the state of its training, and its provenance. The state of a hybrid
        or a degraded one has the epochs and training time of the teacher within, and its own
        validation.

    Raises:
        ProvenanceError: If the item vectors that it compares are of another catalogue, or were
            trained on other interactions than the training part; if the scores of a custom scorer
            have changed.
        ValueError: If the vectors cannot be read or computed, or the teacher cannot be built.
    """
    training = settled_training(dataset, config, training, folder=folder, selected_by=selected_by)
    if config.model in WRAPPERS:
        return _fit_wrapper(
            dataset, config, training, seed=seed, folder=folder, selected_by=selected_by
        )
    if config.model in COUNTED:
        return _fit_counted(
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
    """Replace precision ``auto`` by that of the matching teachers in ``folder``.

    Matching teachers, finished or not, differ in nothing but precision and seed. So all seeds have
    one precision, a folder is resumed as it was started, and shared teachers are reused; if both
    precisions are present, float32 is preferred. If there are none, the faster one is chosen.
    """
    config = config.wrapped

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
    """The settings recorded in a teacher's lineage."""
    settings = {"seed": seed, **config.record(), "training": without_memory_settings(training)}
    return settings | _selection(selected_by)


def _selection(selected_by: str) -> dict[str, str]:
    """The lineage entry of ``selected_by``; none for the default, as in older folders."""
    return {} if selected_by == DEFAULT_SELECTION else {"selected_by": selected_by}


def _fit_wrapper(
    dataset: Dataset,
    config: TeacherConfig,
    training: TrainingConfig,
    *,
    seed: int,
    folder: Path,
    selected_by: str,
) -> tuple[TeacherModel, TrainingState, Provenance]:
    """Fit the teacher within a hybrid or a degraded one, then build and keep the whole."""
    share = config.degraded.share if config.model == "degraded" else 1.0
    within, within_state, within_lineage = fit_teacher(
        with_share(dataset, share),
        config.wrapped,
        training,
        seed=seed,
        folder=folder,
        selected_by=selected_by,
    )
    settings = {"seed": seed, **config.record(), **_selection(selected_by)}
    if config.model == "hybrid":
        cache_dir = folder / _EMBEDDINGS
        content = _content(config.hybrid, dataset, whose="hybrid", cache_dir=cache_dir)
        vectors = torch.from_numpy(content.vectors)
        model: TeacherModel = Hybrid(config.hybrid, within, vectors, dataset.splits.train)
        settings |= {"content": _encoded_by(content), "dim": content.vectors.shape[1]}
        inputs = {"collaborative": scores_hash(within_lineage)}
        inputs |= {"content": content.provenance.content}
    else:
        model = degraded_teacher(config, within, dataset, seed)
        inputs = {"teacher": scores_hash(within_lineage)}
    learned = [parameter for parameter in within.parameters() if parameter.requires_grad]
    for parameter in learned:
        parameter.requires_grad_(False)  # already trained
    state, lineage = _fit(model.eval(), dataset, training, settings, folder=folder, inputs=inputs)
    for parameter in learned:
        parameter.requires_grad_(True)  # but saved as trained
    spent = {name: getattr(within_state, name) for name in ("epoch", "best_epoch", "seconds")}
    return model, dataclasses.replace(state, **spent), lineage


def _fit_counted(
    dataset: Dataset,
    config: TeacherConfig,
    training: TrainingConfig,
    *,
    seed: int,
    folder: Path,
    selected_by: str,
) -> tuple[TeacherModel, TrainingState, Provenance]:
    """Count a teacher, or load it if the folder has it: what is compared is known before."""
    settings = {"seed": seed, **config.record(), **_selection(selected_by)}
    inputs, vectors = {}, None
    if config.model in OF_CONTENT and config.content.embeddings == TFIDF:
        inputs["content"] = hash_ids(content_texts(dataset.catalog, config.content.template))
        settings["encoder"] = {"encoder": TFIDF}
    elif config.model in OF_CONTENT:
        cache_dir = folder / _EMBEDDINGS
        content = _content(config.content, dataset, whose=config.model, cache_dir=cache_dir)
        inputs["content"] = content.provenance.content
        settings["encoder"] = _encoded_by(content)
        vectors = torch.from_numpy(content.vectors)
    if is_trained(folder / folder_name(_lineage(dataset, settings, inputs))):
        model = unfilled_teacher(config, dataset, settings)
    else:
        model = build_teacher(config, dataset, seed, vectors=vectors)
    state, lineage = _fit(model, dataset, training, settings, folder=folder, inputs=inputs)
    return model, state, lineage


def _encoded_by(content: Embeddings) -> dict[str, Any]:
    """The encoder and its settings, without mere counts."""
    return {name: value for name, value in content.provenance.config.items() if name != CUT_TEXTS}


def _content(
    config: HybridConfig | ContentConfig, dataset: Dataset, *, whose: str, cache_dir: Path
) -> Embeddings:
    """Item vectors that do not depend on held-out interactions."""
    content = embeddings_from(
        config.embeddings, dataset.catalog, template=config.template, cache_dir=cache_dir
    )
    if content.provenance.seen is not None:
        require_same(
            f"training interactions of the {whose}'s item vectors",
            dataset.splits.train_hash,
            content.provenance.seen,
            what_to_do="Use vectors of the content alone, or of the training part of this split.",
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
    """Train a model in a subfolder of ``folder`` whose name identifies its inputs."""
    splits, seed = dataset.splits, settings["seed"]
    lineage = _lineage(dataset, settings, inputs)
    folder = folder / folder_name(lineage)
    selection = Selection.of(settings.get("selected_by", DEFAULT_SELECTION))
    windows = model.windows(splits.train)

    def validate() -> float:
        model.choose(splits.valid, selection)
        ranks = rank_by_scores(model, splits.valid, title="validation")
        return selection.value(ranks, "expected")

    with one_run_at_a_time(folder):
        state = train(
            model,
            config=training,
            seed=seed,
            task=TrainingTask(
                windows=windows.select(np.tile(np.arange(len(windows)), passes)),
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
    """Check that custom scorers within ``model`` still score as recorded in ``folder``.

    Raises:
        ProvenanceError: If one does not.
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
    """Name of a teacher's folder: its model, its seed, and a hash of its inputs."""
    settings = lineage.config
    key = hash_json([lineage.items, lineage.seen, lineage.inputs, settings])
    return f"{_folder_prefix(settings['model'])}-{settings['seed']}-{key[:8]}"


def _folder_prefix(model: str) -> str:
    return model.replace(":", ".")  # Windows does not allow colons in file names


def read_teacher(
    dataset: Dataset,
    *,
    seed: int,
    folder: Path,
    model: str | None = None,
    other_interactions: bool = False,
) -> tuple[TeacherModel, Provenance]:
    """Load a teacher that ``fit_teacher`` fitted to this data.

    Args:
        dataset: The data it was fitted to.
        seed: The seed it was fitted with.
        folder: The ``folder`` of ``fit_teacher``, if it holds a single teacher of this seed; else
            the teacher's own subfolder.
        model: For a custom teacher, its ``package.module:Name``; code is never run merely because a
            folder names it.
        other_interactions: Also accept a teacher trained on other interactions than the training
            part of ``dataset``, which may include those held out here.

    Returns:
        The model in eval mode, and its provenance.

    Raises:
        FileNotFoundError: If there is no fitted teacher of this seed.
        ValueError: If there are several, or it is a custom teacher other than ``model``.
        ProvenanceError: If it was fitted to another catalogue, or to other interactions although
            these are not allowed or it needs them for scoring.
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
    require_named(config.wrapped, model, found[0])
    made_by = teacher_class(config.wrapped)
    if made_by.needs_interactions and lineage.seen != dataset.splits.train_hash:
        raise ProvenanceError(
            f"the teacher in {found[0]} needs the interactions it was trained on for scoring, and "
            "they are not those of this data. Train it on this data, or use another teacher."
        )
    teacher = unfilled_teacher(config, dataset, lineage.config)
    read_trained(found[0], teacher)
    require_unchanged(teacher, found[0])
    return teacher, lineage


def require_named(config: TeacherConfig, model: str | None, folder: Path) -> None:
    """Raise if a folder names a custom teacher that the caller does not.

    Args:
        config: Config of the teacher in the folder, or of the one within it.
        model: The name given by the caller.
        folder: Folder of the teacher.

    Raises:
        ValueError: If they differ.
    """
    if not config.is_built_in and config.model != model:
        name = config.model
        by_caller = f"--teacher {name}, or --model {name} of semid teacher export"
        cure = f"Name it: {by_caller}, or read_teacher(..., model={name!r})."
        refuse_unnamed_code("teacher", name, where=str(folder), cure=cure)


def require_teacher_of(
    dataset: Dataset,
    lineage: Provenance,
    *,
    whose: str = "of the teacher",
    other_interactions: bool = False,
) -> None:
    """Raise for a teacher of another catalogue, or one that may have seen held-out targets.

    Args:
        dataset: The data of the students.
        lineage: The teacher's provenance.
        whose: Describes the teacher in the error.
        other_interactions: Whether it may have been trained on other interactions than the training
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
            what_to_do="It may have seen held-out targets: train the teacher on this split, "
            "or allow it with other_interactions.",
        )


def scores_hash(lineage: Provenance) -> str:
    """Hash that identifies the scores of a fitted teacher, as key for what is derived from them.

    For trained teachers the weights suffice. Counted, blended and custom teachers may have settings
    that change the scores but not the stored weights, such as item-kNN's ``decay``, so theirs are
    included.
    """
    model = lineage.config["model"]
    if model in ("itemknn", *WRAPPERS, *COUNTED) or model not in BUILT_IN:
        return hash_json([lineage.content, lineage.config])
    return lineage.content


def _is_teacher(folder: Path, seed: int) -> bool:
    model, _, rest = folder.name.partition("-")
    named = model in BUILT_IN or "." in model  # of a teacher from outside the path with its dots
    return named and rest.startswith(f"{seed}-") and is_trained(folder)
