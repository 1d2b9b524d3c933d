"""Settings of the commands that are not defined elsewhere in the library."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from baselines.data.config import Repeats, Split, Ties
from baselines.data.preparing.config import PreparationConfig
from baselines.data.sources.config import SourceConfig
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.config import CompareConfig
from baselines.models.config import BackboneConfigs
from baselines.pretraining.config import NextTokenConfig, SmallModelConfig, TextsConfig
from baselines.teachers.config import MassConfig, TeacherConfig, teacher_training
from baselines.training.config import LARGEST_SEED, TrackerName, TrainingConfig
from semid.checks import require_int, require_text
from semid.config import IdsConfig
from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Options of every command that reads interactions.

    Attributes:
        data: A folder in the plain layout, what ``semid data prepare`` reads, ``synthetic``, or a
            reader ``package.module:function``.
        split: Protocol: ``auto`` is ``leave_one_out``, or the given ``windows`` if there are any;
            ``global_time`` cuts all events by time at 8:1:1, ``global_time:TRAIN,VALID,TEST`` at
            other shares, ``global_time:DATE,DATE`` at dates; ``users:TRAIN,VALID,TEST``
            divides the users; ``cold:SHARE`` or ``cold:SHARE:DRAW`` is leave-one-out with that
            share of the items taken out of training.
        ties: Order of one user's events with the same timestamp.
        repeats: Events that equal an earlier one: ``keep``, or ``exact`` to drop them.
        time_format: Format of dates given as text, such as ``%d/%m/%Y``; None to detect it.
    """

    data: str
    split: Split = "auto"
    ties: Ties = "file"
    repeats: Repeats = "keep"
    time_format: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataPrepareConfig:
    """Settings of ``semid data prepare``.

    Attributes:
        source: A file of events, a folder, a public set such as ``movielens-1m``,
            ``hf:OWNER/NAME``, or a reader ``package.module:function``.
        out: New or empty folder for the result, in the plain layout.
        read: How the source is read.
        prepare: Which events are left out.
        time_format: Format of dates given as text, such as ``%d/%m/%Y``; None to detect it.
    """

    source: str
    out: str
    read: SourceConfig = field(default_factory=SourceConfig)
    prepare: PreparationConfig = field(default_factory=PreparationConfig)
    time_format: str | None = None

    def __post_init__(self) -> None:
        require_types(self)


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Settings of ``semid inspect``.

    Attributes:
        ids: Folders written by ``semid build``, folders of trained models, and files of codes, to
            be shown side by side.
        tokenizer: Instead of ``ids``, a scheme to fit without saving it: a short name or
            ``package.module:Class``. Its collisions are not resolved.
        data: The items, and their events if there are any, as in train; needed for a file of codes
            or a scheme. Folders of IDs must have the same items.
        split: Protocol; only events of its training part are looked at.
        codebook_sizes: Number of codes at each level of the scheme; None as in ``semid build``.
        settings: Further settings of the scheme, or of a file of codes, by name.
        embeddings: Item vectors, whose neighbours should share codes: a file or artefact folder
            as for ``--ids.embeddings``, or, with ``data``, an encoder as in ``semid build``. A
            scheme is fitted on them, by default on ``lsa``.
        cf_embeddings: A file or artefact folder of collaborative vectors, such as those of
            ``semid teacher export``, likewise; a scheme may learn from them.
        category: Column of the items with their category, or a list of them; None for
            ``categories``, if there is one.
        json: A ``.json`` file to write all figures to; None only to print them.
        out: Folder for a page of the cards, ``ids.html``, with pictures and a browser of prefixes,
            for the figures as JSON, Markdown and CSV, and for the pictures; None for none of these.
        strict: Exit with 1 if a threshold is missed.
    """

    ids: tuple[str, ...] = ()
    tokenizer: str | None = None
    data: str | None = None
    split: Split = "auto"
    codebook_sizes: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: str | None = None
    cf_embeddings: str | None = None
    category: str | None = None
    json: str | None = None
    out: str | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        for source in self.ids:
            require_text("ids", source)
        if bool(self.ids) == bool(self.tokenizer):
            raise ValueError(
                "expected either IDs (semid inspect FOLDER ...) or --tokenizer, to say what is "
                "inspected"
            )
        if self.tokenizer is None and self.codebook_sizes:
            raise ValueError("codebook_sizes are of a scheme: name it by --tokenizer")
        if self.json is not None and not self.json.endswith(".json"):
            raise ValueError(f"json must end in .json, got {self.json!r}")
        if self.out is not None:
            require_text("out", self.out)


@dataclass(frozen=True, kw_only=True)
class AppendConfig:
    """Settings of ``semid data append``.

    Attributes:
        data: A folder in the plain layout with ``interactions.parquet``.
        events: A table of new events, plain or compressed, with the columns ``user_id``,
            ``item_id``, and ``timestamp`` or ``position`` as in the folder.
    """

    data: str
    events: str

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "events"):
            require_text(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class TeacherTrainConfig(DataOptions):
    """Settings of ``semid teacher train``.

    Attributes:
        out: Folder of trained teachers, for ``semid compare --teachers``.
        seeds: One teacher is trained per seed.
        teacher: The teacher and its shape.
        training: How it is trained; not used by item-kNN and popularity, which only count.
        log_to: Trackers that losses and validation values are logged to.
    """

    out: str
    seeds: tuple[int, ...] = (0,)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    training: TrainingConfig = field(default_factory=teacher_training)
    log_to: tuple[TrackerName, ...] = ()

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "out"):
            require_text(name, getattr(self, name))
        if not self.seeds:
            raise ValueError("seeds must name at least one seed, got none")
        for seed in self.seeds:
            require_int("seeds", seed, 0, LARGEST_SEED)


@dataclass(frozen=True, kw_only=True)
class TeacherExportConfig(DataOptions):
    """Settings of ``semid teacher export``.

    Attributes:
        data: The data that the teacher was trained on: a folder, or ``synthetic``.
        split: The protocol that the teacher was trained under.
        teachers: Folder of trained teachers, or the folder of one of them.
        out: Folder to write the item vectors to.
        seed: Seed of the teacher.
        model: ``package.module:Name`` of a teacher of your own: a folder never decides which code
            is run.
        other_interactions: Also accept a teacher that was trained on interactions outside the
            training part of this split, possibly including held-out ones.
    """

    teachers: str
    out: str
    seed: int = 0
    model: str | None = None
    other_interactions: bool = False

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("data", "teachers", "out"):
            require_text(name, getattr(self, name))
        require_int("seed", self.seed, 0, LARGEST_SEED)


@dataclass(frozen=True, kw_only=True)
class DescribeConfig(DataOptions):
    """Settings of ``semid data describe``.

    Attributes:
        out: A ``.json`` file to write all figures to; None only to print them.
        card: A ``.md`` file to write a data card to, with the same figures.
        figures: A folder to draw lengths of histories, the long tail and events over time into, as
            SVG and PNG; the card shows them. Needs matplotlib.
    """

    out: str | None = None
    card: str | None = None
    figures: str | None = None

    def __post_init__(self) -> None:
        require_types(self)
        require_text("data", self.data)
        for name, ending in (("out", ".json"), ("card", ".md")):
            path = getattr(self, name)
            if path is not None and not path.endswith(ending):
                raise ValueError(f"{name} must end in {ending}, got {path!r}")


@dataclass(frozen=True, kw_only=True)
class LmTrainConfig(DataOptions):
    """Settings of ``semid lm train``.

    Attributes:
        out: Folder to write the language model to, in the format of ``transformers``.
        split: Protocol; lists of titles come from its training part only.
        seed: Seed of initial weights, sampled sequences and data order.
        texts: The training texts.
        model: Its shape and vocabulary.
        training: How it is trained.
    """

    out: str
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
class TrainConfig(DataOptions):
    """Settings of ``semid train``; those shared with ``semid compare`` mean the same.

    Attributes:
        out: Folder of the model. The same command resumes where it was stopped.
        arm: The model to train, ``backbone:objective[:alpha][:KEY=VALUE ...]``.
        seed: Seed of the model and of the teacher.
        ids: How the semantic IDs are built.
        masked: Whether softmaxes run over the tokens that may follow a prefix.
        tau: Temperature of the generator's softmax in the loss.
        temperature: Divides the teacher's scores before its softmax; ``auto`` calibrates it.
        mass: How the teacher's token distributions are computed.
        teacher: The teacher and its shape; trained only if the model needs one.
        teacher_training: How the teacher is trained.
        teachers: Folder of trained teachers, to share them; None for one below ``out``.
        backbones: Shapes of the backbones.
        training: How the model is trained.
        evaluation: How it is validated, and how it decodes later.
        log_to: Trackers that losses and validation values of every training are logged to.

    Raises:
        ValueError: If a value is out of range.
    """

    out: str
    arm: str = "causal:ntp"
    seed: int = 0
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
    log_to: tuple[TrackerName, ...] = ()

    def __post_init__(self) -> None:
        require_types(self)
        require_int("seed", self.seed, 0, LARGEST_SEED)
        _ = self.comparison  # checks the rest

    @property
    def comparison(self) -> CompareConfig:
        """The equivalent comparison, with a single arm."""
        values = {own.name: getattr(self, own.name) for own in fields(self)}
        arm, seed = values.pop("arm"), values.pop("seed")
        return CompareConfig(**values, arms=(arm,), seeds=(seed,))


@dataclass(frozen=True, kw_only=True)
class PickConfig:
    """Settings of ``semid pick``.

    Attributes:
        run: Folder of a finished comparison.
        out: Folder to write the model to.
        row: Label of a row of its table; None for the row with the best validation value.
        seed: Which of the row's seeds; None for the one with the best validation value.
        backbone: Class paths of the run's backbones that are not built in.
        teacher: ``package.module:Name`` of its teacher, likewise.
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
class StudyConfig:
    """Settings of ``semid study``.

    Attributes:
        study: A YAML file, or the name of one in the folder ``studies``.
        runs: Do only these of its runs; None for all.
        plan: Only print the runs, with planned and measured hours.
        parallel: Runs at the same time, each in a process with its share of the cores, or of the
            GPUs. A run that fails then stops none of the others.
        out: Folder of the trained models, which may be deleted once a run is finished. Results are
            written beside the study's file.
    """

    study: str
    runs: tuple[str, ...] | None = None
    plan: bool = False
    parallel: int = 1
    out: str = "runs/studies"

    def __post_init__(self) -> None:
        require_types(self)
        require_int("parallel", self.parallel, 1)
        for name in ("study", "out"):
            require_text(name, getattr(self, name))

    @property
    def path(self) -> Path:
        """The study's file."""
        is_file = self.study.endswith((".yaml", ".yml"))
        return Path(self.study) if is_file else Path("studies") / f"{self.study}.yaml"
