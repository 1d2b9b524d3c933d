"""Settings of the commands that have none in the library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from baselines.data.config import Repeats, Split
from baselines.pretraining.config import NextTokenConfig, SmallModelConfig, TextsConfig
from baselines.teachers.config import TeacherConfig, teacher_training
from baselines.training.config import LARGEST_SEED, TrainingConfig
from semid.checks import require_int, require_text
from semid.config import IdsConfig
from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Settings of ``semid build``.

    Attributes:
        data: A folder in the plain layout, ``synthetic``, or a reader ``package.module:function``.
        out: Folder to write the semantic ids to.
        ids: Where they come from.
        extends: Folder of ids that ``semid build`` wrote earlier: its items keep theirs, and only
            items that have none get new ones. A scheme of your own has to be named again by
            --tokenizer, as no code is run because a folder names it.
        overwrite: Replace what ``out`` holds, also where that is ids of another catalogue.
    """

    data: str
    out: str
    ids: IdsConfig = field(default_factory=IdsConfig)
    extends: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "out"):
            require_text(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Settings of ``semid inspect``.

    Attributes:
        ids: A folder that ``semid build`` wrote, or a file of codes.
        tokenizer: In place of ids, a scheme that is fitted here and not kept: a short name or
            ``package.module:Class``. Its collisions are left as they are.
        data: The folder of the catalogue; needed for a file of codes and for a scheme. A folder of
            ids must be of its items.
        codebook_sizes: Codes of each level of the scheme; None as in ``semid build``.
        settings: Further settings of the scheme, or of a file of codes, by name.
        embeddings: A ``.npy`` file or artefact folder of item vectors; nearest neighbours there are
            asked for common codes, and a scheme is fitted on them. Without, a scheme is fitted on
            ``lsa``.
        cf_embeddings: The same with collaborative vectors, which a scheme may learn from.
        json: Print JSON instead of tables.
    """

    ids: str | None = None
    tokenizer: str | None = None
    data: str | None = None
    codebook_sizes: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: str | None = None
    cf_embeddings: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        if (self.ids is None) == (self.tokenizer is None):
            raise ValueError("expected either --ids or --tokenizer, to say what is inspected")
        if self.tokenizer is None and self.codebook_sizes:
            raise ValueError("codebook_sizes are of a scheme: name it by --tokenizer")


@dataclass(frozen=True, kw_only=True)
class TeacherTrainConfig:
    """Settings of ``semid teacher train``.

    Attributes:
        data: A folder in the plain layout, ``synthetic``, or a reader ``package.module:function``.
        out: Folder of trained teachers; ``semid compare --teachers`` takes it.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        repeats: Events that equal an earlier one: ``keep``, or ``exact`` to drop them.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        seeds: A teacher is trained with each.
        teacher: Which teacher, in which shape.
        training: How it is trained; item-kNN and popularity are counted.
    """

    data: str
    out: str
    split: Split = "auto"
    repeats: Repeats = "keep"
    time_format: str | None = None
    seeds: tuple[int, ...] = (0,)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    training: TrainingConfig = field(default_factory=teacher_training)

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "out"):
            require_text(name, getattr(self, name))
        if not self.seeds:
            raise ValueError("seeds must name at least one seed, got none")
        for seed in self.seeds:
            require_int("seeds", seed, 0, LARGEST_SEED)


@dataclass(frozen=True, kw_only=True)
class TeacherExportConfig:
    """Settings of ``semid teacher export``.

    Attributes:
        data: The folder that the teacher was trained on, or ``synthetic``.
        teachers: Folder of trained teachers, or the folder of one of them.
        out: Folder to write the item vectors to.
        split: The protocol that the teacher was trained under.
        repeats: Events that equal an earlier one: ``keep``, or ``exact`` to drop them.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        seed: Of the teacher.
        model: Of a teacher of your own, its ``package.module:Name``: no code is run because a
            folder names it.
        other_interactions: Also take a teacher that has learned from other interactions than the
            training part of this split, and so perhaps from those that are held out here.
    """

    data: str
    teachers: str
    out: str
    split: Split = "auto"
    repeats: Repeats = "keep"
    time_format: str | None = None
    seed: int = 0
    model: str | None = None
    other_interactions: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "teachers", "out"):
            require_text(name, getattr(self, name))
        require_int("seed", self.seed, 0, LARGEST_SEED)


@dataclass(frozen=True, kw_only=True)
class LmTrainConfig:
    """Settings of ``semid lm train``.

    Attributes:
        data: A folder in the plain layout, ``synthetic``, or a reader ``package.module:function``.
        out: Folder to write the language model to; ``transformers`` loads it.
        split: Protocol; lists of titles come from its training part alone.
        repeats: Events that equal an earlier one: ``keep``, or ``exact`` to drop them.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        seed: Of weights, chosen sequences and data order.
        texts: What the model reads.
        model: Its shape and vocabulary.
        training: How it is trained.
    """

    data: str
    out: str
    split: Split = "auto"
    repeats: Repeats = "keep"
    time_format: str | None = None
    seed: int = 0
    texts: TextsConfig = field(default_factory=TextsConfig)
    model: SmallModelConfig = field(default_factory=SmallModelConfig)
    training: NextTokenConfig = field(default_factory=NextTokenConfig)

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "out"):
            require_text(name, getattr(self, name))
        require_int("seed", self.seed, 0, LARGEST_SEED)
