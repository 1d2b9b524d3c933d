"""Who labels the training targets: the teacher itself, or one that has not seen the user.

A teacher that has learned from a target is overconfident about it: asked about training targets, it
is better than it will ever be about new ones, and a student of such labels learns its memory.
Leaving the labelled user out, as in stacking (Wolpert, 1992), makes training labels as good as
those of new users, and no better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.scorer import ItemScorer, LeavesOwnOut
from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.sequences import SequenceSet
from baselines.teachers.calibration import fit_temperature
from baselines.teachers.config import AUTO, IN_SAMPLE, LEAVE_OWN_OUT, MassConfig
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.model import TeacherModel
from semid.arrays import IntArray
from semid.provenance import hash_json


@dataclass(frozen=True, kw_only=True, eq=False)
class Labeller:
    """The scorer behind the labels of a student's training targets.

    Attributes:
        scorer: Scores histories of training targets.
        scores_hash: Hash that identifies its scores.
        temperature: Divides them.
        seconds: Training time beyond that of the teacher.
    """

    scorer: ItemScorer
    scores_hash: str
    temperature: float
    seconds: float = 0.0


def labeller(
    config: MassConfig,
    teacher: FittedTeacher,
    dataset: Dataset,
    fit: Callable[[Dataset], FittedTeacher],
) -> Labeller:
    """The labeller that ``config.labels`` names.

    A temperature of ``auto`` is fitted to validation targets scored by the labeller itself, which
    has seen neither the target nor, unless ``in_sample``, the user.

    Args:
        config: Settings of the distributions.
        teacher: The teacher fitted to all training sequences.
        dataset: The data.
        fit: Fits the same teacher to other data, or reads it if it is already fitted.

    Raises:
        ValueError: As ``require_labels``.
    """
    config = settled_labels(config, type(teacher.model), dataset)
    require_labels(config, type(teacher.model), dataset)
    if config.labels == IN_SAMPLE:
        return Labeller(
            scorer=teacher.model, scores_hash=teacher.scores_hash, temperature=teacher.temperature
        )
    if config.labels == LEAVE_OWN_OUT:
        return _calibrated(
            WithoutOwn(teacher.model, dataset.splits.train), [teacher], teacher, dataset, config
        )
    assert config.folds is not None
    part = parts_of_users(dataset, config.folds)
    fitted = [fit(_without(dataset, part, each)) for each in range(config.folds)]
    crossfitted = CrossFitted([each.model for each in fitted], part)
    return _calibrated(crossfitted, fitted, teacher, dataset, config)


def settled_labels(
    config: MassConfig, teacher: type, dataset: Dataset, *, rounded: bool = False
) -> MassConfig:
    """``config`` with labels of ``auto`` resolved.

    Args:
        config: Settings of the distributions.
        teacher: Class of the teacher.
        dataset: The data.
        rounded: Whether scores are rounded to bfloat16, which needs one vector per item.
    """
    if config.labels != AUTO:
        return config
    counted = issubclass(teacher, LeavesOwnOut) and dataset.splits.knows_users
    honest = counted and config.top_k is None and not rounded
    return replace(config, labels=LEAVE_OWN_OUT if honest else IN_SAMPLE)


def require_labels(config: MassConfig, teacher: type, dataset: Dataset) -> None:
    """Raise, before anything is trained, if ``config.labels`` does not fit teacher and data.

    Args:
        config: Settings of the distributions.
        teacher: Class of the teacher.
        dataset: The data.

    Raises:
        ValueError: If users are to be left out and the data do not tell them apart; for
            ``leave_own_out``, if the teacher cannot leave events out; for ``crossfit``, if there
            are fewer users than parts.
    """
    if config.labels in (AUTO, IN_SAMPLE):
        return
    if not dataset.splits.knows_users:
        raise ValueError(
            f"labels {config.labels} need to know which windows are of one user, and those of "
            f"{dataset.name} have no user_id. Add the column to all files, or take {IN_SAMPLE}."
        )
    if config.folds is not None:
        parts_of_users(dataset, config.folds)
    elif not issubclass(teacher, LeavesOwnOut):
        raise ValueError(
            f"labels {LEAVE_OWN_OUT} need a teacher that is counted and can leave a user's events "
            f"out (score_without_own), got {teacher.__name__}. Take crossfit:8, or {IN_SAMPLE}."
        )


class WithoutOwn:
    """A counted scorer without the events of the user whose history it scores.

    Args:
        teacher: A teacher that is a ``LeavesOwnOut``.
        train: The sequences that it counted.
    """

    def __init__(self, teacher: TeacherModel, train: SequenceSet) -> None:
        assert isinstance(teacher, LeavesOwnOut)
        self._scorer, self._train = teacher, train
        self.max_history, self.label = teacher.max_history, teacher.label

    def score(self, histories: Histories) -> Tensor:
        """Scores of all items; float32 ``(batch, item)``."""
        return self._scorer.score_without_own(histories, self._train)


class CrossFitted:
    """One scorer per part of the users, each fitted without that part.

    Args:
        teachers: By part.
        part: Part of each user, int64 ``(user,)`` by dense user number.
    """

    def __init__(self, teachers: Sequence[TeacherModel], part: IntArray) -> None:
        self._teachers, self._part = teachers, torch.from_numpy(part)
        self.max_history, self.label = teachers[0].max_history, teachers[0].label

    def score(self, histories: Histories) -> Tensor:
        """Scores of all items by the scorer of each user; float32 ``(batch, item)``."""
        part = self._part[histories.users.cpu()]
        order = part.argsort(stable=True)
        found = [
            self._teachers[each].score(_rows(histories, (part == each).nonzero().squeeze(1)))
            for each in sorted(set(part.tolist()))
        ]
        scores = torch.cat(found)
        return scores[order.argsort().to(scores.device)]


def parts_of_users(dataset: Dataset, folds: int) -> IntArray:
    """Part of each user, int64 ``(user,)``: random, but fixed, and equal in size up to one user.

    Users without training sequences, whom every teacher is new to, are in part 0.

    Raises:
        ValueError: If there are fewer users with training sequences than parts.
    """
    splits = dataset.splits
    users = np.unique(splits.train.users)
    if len(users) < folds:
        raise ValueError(f"labels crossfit:{folds} need as many users, got {len(users)}")
    highest = max(int(split.users.max()) for split in (splits.train, splits.valid, splits.test))
    part = np.zeros(highest + 1, dtype=np.int64)
    part[np.random.default_rng(0).permutation(users)] = np.arange(len(users)) % folds
    return part


def _without(dataset: Dataset, part: IntArray, left_out: int) -> Dataset:
    """The data without the training sequences of one part of the users."""
    splits = dataset.splits
    train = splits.train.select(part[splits.train.users] != left_out)
    return replace(dataset, splits=replace(splits, train=train))


def _calibrated(
    scorer: ItemScorer,
    fitted: Sequence[FittedTeacher],
    teacher: FittedTeacher,
    dataset: Dataset,
    config: MassConfig,
) -> Labeller:
    content = hash_json([config.labels, *(each.scores_hash for each in fitted)])
    temperature = teacher.temperature_setting
    if temperature == "auto":
        temperature = fit_temperature(
            scorer,
            dataset.splits.valid,
            teacher=content,
            folder=teacher.folder.parent,
            mask_history=teacher.mask_history,
        ).temperature
    seconds = sum(each.state.seconds for each in fitted if each is not teacher)
    return Labeller(scorer=scorer, scores_hash=content, temperature=temperature, seconds=seconds)


def _rows(histories: Histories, rows: Tensor) -> Histories:
    at = rows.to(histories.items.device)
    return Histories(items=histories.items[at], mask=histories.mask[at], users=histories.users[at])
