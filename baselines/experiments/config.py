"""Settings of a comparison and of the studies of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from baselines.data.config import Repeats, Split, Ties
from baselines.evaluation.config import EvaluationConfig
from baselines.models.config import BackboneConfigs
from baselines.teachers.config import (
    MassConfig,
    TeacherConfig,
    require_temperature,
    teacher_training,
)
from baselines.training.config import LARGEST_SEED, TrainingConfig
from semid.checks import require_int, require_text
from semid.config import IdsConfig
from semid.field_types import require_types

ALL = "all"
MOST_RESAMPLES = 10**6


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Which arms of a comparison are decoded with their teacher as well, and how.

    Attributes:
        arms: Arms, written as the comparison's ``arms`` are, that get a second row in which the
            teacher counts in the beam; ``all`` for every arm.
        weights: Of the generator, in [0, 1]; ``evaluation.selected_by`` chooses among
            them, for each arm and seed.
        controls: Whether rows are added that tell alignment from ensembling: the teachers of two
            seeds together, and the generators of two seeds, for each of ``arms``.

    Raises:
        ValueError: If there is no weight, one appears twice or lies outside of [0, 1], or there are
            controls of no arm.
    """

    arms: tuple[str, ...] = ()
    weights: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9)
    controls: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        tried = self.weights
        if not tried or len(set(tried)) < len(tried) or not all(0 <= w <= 1 for w in tried):
            raise ValueError(
                f"weights must be different numbers in [0, 1], at least one, got {list(tried)}"
            )
        if self.controls and not self.arms:
            raise ValueError(
                "controls stand beside arms with the teacher in the beam; name those, or 'all'"
            )


@dataclass(frozen=True, kw_only=True)
class FluencyConfig:
    """Settings of ``semid lm fluency``.

    Attributes:
        run: Folder of a finished ``semid compare`` with arms ``lm:`` that write titles.
        histories: Test histories after which a title is written: a random subset, the same for
            every arm and each time. All of them, if there are fewer.
        beam: Beginnings that are kept while writing; 1 takes the likeliest token each time.
        batch_size: Histories that are written for at a time, and texts that are read.
        resamples: Bootstrap resamples of the histories.

    Raises:
        ValueError: If a number is below 1.
    """

    run: str
    histories: int = 1000
    beam: int = 1
    batch_size: int = 32
    resamples: int = 1000

    def __post_init__(self) -> None:
        require_types(self)
        require_text("run", self.run)
        for name in ("histories", "beam", "batch_size"):
            require_int(name, getattr(self, name), 1)
        require_int("resamples", self.resamples, 1, MOST_RESAMPLES)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Settings of a comparison.

    Attributes:
        data: A folder in the plain layout, ``synthetic``, or a reader ``package.module:function``.
        out: Folder of the results. The same command goes on where it was stopped; another may add
            or leave out what nothing there was made with, such as seeds and arms.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        ties: Order of one user's events at one time.
        repeats: Events that equal an earlier one in user, item and time: ``keep`` keeps and counts
            them, ``exact`` drops and counts them.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        ids: Where the semantic ids come from of arms that name no scheme. Here and in ``schemes``,
            ``cf_embeddings: teacher`` stands for the item vectors of this comparison's teacher of
            the first seed.
        schemes: Further ID schemes by name, to compare beside each other.
        arms: What is compared, ``backbone[@scheme]:objective[:alpha][:KEY=VALUE ...]``; the first
            is the baseline.
        seeds: Each arm, and the teacher, is trained once with each.
        masked: Whether softmaxes run over the tokens that may follow a prefix (MSL's mask) or over
            the vocabulary, in arms that do not say so themselves.
        tau: Temperature of the generator's softmax in the loss, likewise.
        temperature: Divides the teacher's scores before its softmax. ``auto`` takes, for each
            seed's teacher, the one that fits the validation targets best.
        mass: What the teacher's token distributions are made from.
        mass_cache: Folder of token distributions, to share them between comparisons; None for one
            below ``out``.
        teacher: Which teacher, in which shape.
        teacher_training: How the teacher is trained.
        teachers: Folder of trained teachers, to share them between comparisons; None for one below
            ``out``.
        backbones: Shapes of the backbones.
        training: How every arm is trained.
        evaluation: How everything is ranked.
        fusion: Which arms are also decoded with their teacher; nothing is trained for it.
        resamples: Bootstrap resamples of the users.

    Raises:
        ValueError: If a value is out of its range, or the name of a scheme cannot be that of a
            folder.
    """

    data: str = "synthetic"
    out: str = "runs/compare"
    split: Split = "auto"
    ties: Ties = "file"
    repeats: Repeats = field(default="keep", metadata={"before": "keep"})
    time_format: str | None = field(default=None, metadata={"before": None})
    ids: IdsConfig = field(default_factory=IdsConfig)
    schemes: dict[str, IdsConfig] = field(default_factory=dict)
    arms: tuple[str, ...] = ("tiger:ntp", "tiger:soft_ntp:0.1", "tiger:soft_ce:0.5")
    seeds: tuple[int, ...] = (0, 1, 2)
    masked: bool = True
    tau: float = 1.0
    temperature: float | Literal["auto"] = 1.0
    mass: MassConfig = field(default_factory=MassConfig)
    mass_cache: str | None = None
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    teacher_training: TrainingConfig = field(default_factory=teacher_training)
    teachers: str | None = None
    backbones: BackboneConfigs = field(default_factory=BackboneConfigs)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(schedule="cosine", weight_decay=0.05)
    )
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    resamples: int = 1000

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "out"):
            require_text(name, getattr(self, name))
        for seed in self.seeds:
            require_int("seeds", seed, 0, LARGEST_SEED)
        if self.temperature != "auto":
            require_temperature("temperature", self.temperature)
        require_temperature("tau", self.tau)
        require_int("resamples", self.resamples, 1, MOST_RESAMPLES)
        for name in self.schemes:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(
                    f"schemes must have names of letters, digits, '_', '-' and '.', got {name!r}"
                )
