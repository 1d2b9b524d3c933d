"""Settings of a comparison and of studies based on it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from baselines.data.config import Repeats, Split, Ties, require_split
from baselines.evaluation.config import EvaluationConfig
from baselines.models.config import BackboneConfigs
from baselines.teachers.config import (
    MassConfig,
    TeacherConfig,
    require_temperature,
    teacher_training,
)
from baselines.training.config import LARGEST_SEED, TrackerName, TrainingConfig
from semid.checks import require_int, require_text
from semid.config import IdsConfig
from semid.field_types import require_types

ALL = "all"
MOST_RESAMPLES = 10**6


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Which arms of a comparison are also decoded with their teacher, and how.

    Attributes:
        arms: Arms, written as in the comparison's ``arms``, that get a second row with the
            teacher in the beam; ``all`` for every arm.
        weights: Candidate weights of the generator, in [0, 1]; ``evaluation.selected_by`` chooses
            among them for each arm and seed.
        controls: Add control rows that separate alignment from ensembling: the teachers of two
            seeds combined, and for each of ``arms`` the generators of two seeds.

    Raises:
        ValueError: If there is no weight, a weight is repeated or outside [0, 1], or controls are
            requested for no arm.
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
        run: Folder of a finished ``semid compare`` with ``lm:`` arms that write titles.
        histories: Number of test histories to write a title for: a fixed random subset, the same
            for every arm, or all of them if there are fewer.
        beam: Beam width while writing; 1 is greedy decoding.
        batch_size: Histories decoded, and texts scored, at a time.
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
        out: Folder of the results. The same command resumes where it was stopped; another may add
            or drop seeds, arms and other settings that no existing result depends on.
        split: ``auto``, ``leave_one_out``, ``windows``, ``global_time[:TRAIN,VALID,TEST]``,
            ``global_time:DATE,DATE``, ``users:TRAIN,VALID,TEST[:DRAW]`` or ``cold:SHARE[:DRAW]``.
            ``auto`` is leave-one-out, or the given windows if there are any.
        ties: Order of one user's events with the same timestamp.
        repeats: Events that equal an earlier one in user, item and time: ``keep`` keeps and counts
            them, ``exact`` drops and counts them.
        time_format: Format of dates given as text, such as ``%d/%m/%Y``; None to detect it.
        ids: Source of the semantic IDs for arms without a named scheme. Here and in ``schemes``,
            ``cf_embeddings: teacher`` means the item vectors of this comparison's teacher for the
            first seed.
        schemes: Further ID schemes to compare, by name.
        arms: Models to compare, ``backbone[@scheme]:objective[:alpha][:KEY=VALUE ...]``; the
            first is the baseline. Two schemes joined by ``+`` give each item two IDs.
        seeds: Each arm and the teacher are trained once per seed.
        masked: Whether softmaxes run over the tokens that may follow a prefix (MSL's mask) or
            over the vocabulary; an arm may override it.
        tau: Temperature of the generator's softmax in the loss; an arm may override it.
        temperature: Divides the teacher's scores before its softmax. ``auto`` fits it to the
            validation targets, for each seed's teacher.
        mass: How the teacher's token distributions are computed.
        mass_cache: Folder of token distributions, to share them between comparisons; None for one
            below ``out``.
        teacher: The teacher and its shape.
        teacher_training: How the teacher is trained.
        teachers: Folder of trained teachers, to share them between comparisons; None for one below
            ``out``.
        backbones: Shapes of the backbones.
        training: How every arm is trained.
        evaluation: How all models are ranked.
        fusion: Which arms are also decoded with their teacher, without further training.
        counted: Whether rules, content and both together, which are counted without training, have
            rows too.
        log_to: Trackers that losses and validation values of every training are logged to.
        wide: Also print all metrics, under both seen-item policies, and the strata.
        resamples: Without effect, read so that the settings of older comparisons stay valid.

    Raises:
        ValueError: If a value is out of range, or a scheme's name cannot be a folder name.
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
    counted: bool = True
    log_to: tuple[TrackerName, ...] = field(default=(), metadata={"before": ()})
    wide: bool = field(default=False, metadata={"before": False})
    resamples: int = 1000

    def __post_init__(self) -> None:
        require_types(self)
        require_split(self.split)
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
