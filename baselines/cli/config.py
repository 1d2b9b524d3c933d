"""Settings of the commands that have none in the library."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from baselines.data.config import Repeats, Split, Ties
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.config import CompareConfig
from baselines.models.config import BackboneConfigs, Empty, Unknown
from baselines.pretraining.config import NextTokenConfig, SmallModelConfig, TextsConfig
from baselines.teachers.config import MassConfig, TeacherConfig, teacher_training
from baselines.training.config import LARGEST_SEED, TrainingConfig
from semid.checks import require_int, require_text
from semid.config import IdsConfig
from semid.field_types import require_types
from semid.tables import SUFFIXES


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


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of ``semid train``; those that ``semid compare`` has too mean the same there.

    Attributes:
        data: A folder in the plain layout, ``synthetic``, or a reader ``package.module:function``.
        out: Folder of the model. The same command resumes where it was stopped.
        arm: What is trained, ``backbone:objective[:alpha][:KEY=VALUE ...]``.
        seed: Of the model, and of the teacher.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        ties: Order of one user's events at one time.
        repeats: Events that equal an earlier one: ``keep``, or ``exact`` to drop them.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        ids: Where the semantic IDs come from.
        masked: Whether softmaxes run over the tokens that may follow a prefix.
        tau: Temperature of the generator's softmax in the loss.
        temperature: Divides the teacher's scores before its softmax; ``auto`` calibrates it.
        mass: What the teacher's token distributions are made from.
        teacher: Which teacher, in which shape; trained only where the model needs one.
        teacher_training: How the teacher is trained.
        teachers: Folder of trained teachers, to share them; None for one below ``out``.
        backbones: Shapes of the backbones.
        training: How the model is trained.
        evaluation: How it is validated, and how it searches later.

    Raises:
        ValueError: If a value is out of its range.
    """

    data: str
    out: str
    arm: str = "causal:ntp"
    seed: int = 0
    split: Split = "auto"
    ties: Ties = "file"
    repeats: Repeats = "keep"
    time_format: str | None = None
    ids: IdsConfig = field(default_factory=IdsConfig)
    masked: bool = True
    tau: float = 1.0
    temperature: float | Literal["auto"] = 1.0
    mass: MassConfig = field(default_factory=MassConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    teacher_training: TrainingConfig = field(default_factory=teacher_training)
    teachers: str | None = None
    backbones: BackboneConfigs = field(default_factory=BackboneConfigs)
    training: TrainingConfig = field(default_factory=lambda: CompareConfig().training)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        require_types(self)
        require_int("seed", self.seed, 0, LARGEST_SEED)
        _ = self.comparison  # checks the rest

    @property
    def comparison(self) -> CompareConfig:
        """The comparison whose only arm this is."""
        values = {own.name: getattr(self, own.name) for own in fields(self)}
        arm, seed = values.pop("arm"), values.pop("seed")
        return CompareConfig(**values, arms=(arm,), seeds=(seed,))


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Settings of ``semid evaluate``.

    Attributes:
        model: Folder of a trained model, or its name on the Hub.
        data: A folder, ``synthetic`` or a reader, as of train; items are matched by their ids.
        out: Folder to write ``ranks.parquet`` and ``metrics.json`` to; None to print alone.
        metrics: What is reported; None for what the model was trained with.
        cutoffs: List lengths at which; likewise.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        ties: Order of one user's events at one time.
        repeats: Events that equal an earlier one: ``keep``, or ``exact`` to drop them.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        backbone: Class path of the model's backbone, where that is from outside.
        teacher: Likewise of the teacher that it needs, or that is in its beam.
        base: Where the model's language model is now; None for where it was.
    """

    model: str
    data: str
    out: str | None = None
    metrics: tuple[str, ...] | None = None
    cutoffs: tuple[int, ...] | None = None
    split: Split = "auto"
    ties: Ties = "file"
    repeats: Repeats = "keep"
    time_format: str | None = None
    backbone: str | None = None
    teacher: str | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("model", "data"):
            require_text(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class PickConfig:
    """Settings of ``semid pick``.

    Attributes:
        run: Folder of a finished comparison.
        out: Folder to write the model to.
        row: Label of a row of its table; None for the row with the best validation value.
        seed: Which of the row's seeds; None for the one with the best validation value.
        backbone: Class paths of the run's backbones, where they are from outside.
        teacher: Likewise ``package.module:Name`` of its teacher.
    """

    run: str
    out: str
    row: str | None = None
    seed: int | None = None
    backbone: tuple[str, ...] = ()
    teacher: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("run", "out"):
            require_text(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class RecommendConfig:
    """Settings of ``semid recommend``.

    Attributes:
        model: Folder of a trained model, or its name on the Hub.
        histories: A parquet, CSV or JSON-lines file: ``user_id`` and a list ``history``, or
            ``user_id``, ``item_id`` and ``timestamp`` or ``position``.
        user: The only user of the file to recommend for.
        history: In place of a file, item ids divided by commas, oldest first.
        k: Length of the lists.
        within: File of the only items that may be recommended: a column ``item_id``, or a text
            file of an id a line.
        exclude_seen: Leave out items of the history.
        boosts: File with ``item_id`` and ``boost``, which is added to an item's log-probability.
        unknown: What becomes of items of histories that the model does not know.
        empty: What becomes of histories without known items.
        out: A ``.parquet``, ``.csv`` or ``.jsonl`` file to write; None to print. The same command
            resumes where it was stopped.
        batch_size: Histories at a time; decides how much memory is needed.
        time_format: How dates in text are written, such as ``%d/%m/%Y``; None to find out.
        backbone: Class path of the model's backbone, where that is from outside.
        teacher: Likewise of the teacher that it needs, or that is in its beam.
        base: Where the model's language model is now; None for where it was.
    """

    model: str
    histories: str | None = None
    user: str | None = None
    history: tuple[str, ...] | None = None
    k: int = 10
    within: str | None = None
    exclude_seen: bool = True
    boosts: str | None = None
    unknown: Unknown = "skip"
    empty: Empty = "refuse"
    out: str | None = None
    batch_size: int = 256
    time_format: str | None = None
    backbone: str | None = None
    teacher: str | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        require_text("model", self.model)
        require_int("k", self.k, 1)
        require_int("batch_size", self.batch_size, 1)
        if (self.histories is None) == (self.history is None):
            raise ValueError("expected either --histories FILE or --history 'id,id'")
        if self.user is not None and self.histories is None:
            raise ValueError("user is one of a file: name it by --histories")
        if self.out is not None and not self.out.endswith(SUFFIXES):
            raise ValueError(f"out must end in {', '.join(SUFFIXES)}, got {self.out!r}")


@dataclass(frozen=True, kw_only=True)
class ExplainConfig:
    """Settings of ``semid explain``.

    Attributes:
        model: Folder of a trained model, or its name on the Hub.
        history: Item ids divided by commas, oldest first.
        item: The item to explain.
        backbone: Class path of the model's backbone, where that is from outside.
        teacher: Likewise of the teacher that it needs, or that is in its beam.
        base: Where the model's language model is now; None for where it was.
    """

    model: str
    history: tuple[str, ...]
    item: str
    backbone: str | None = None
    teacher: str | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("model", "item"):
            require_text(name, getattr(self, name))
