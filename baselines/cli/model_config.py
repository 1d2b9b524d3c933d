"""Settings of the commands that use a trained model."""

from __future__ import annotations

from dataclasses import dataclass, fields

from baselines.cli.config import DataOptions
from baselines.models.config import Empty, Unknown
from semid.checks import require_int, require_text
from semid.field_types import require_types
from semid.tables import SUFFIXES


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Options of how a trained model is loaded.

    Attributes:
        backbone: Class path of the model's backbone, if it is not built in.
        teacher: Class path of the teacher that it needs or has in its beam, likewise.
        base: Path of the model's base language model, if it has moved.
    """

    backbone: str | None = None
    teacher: str | None = None
    base: str | None = None


@dataclass(frozen=True, kw_only=True)
class ModelOptions(LoadOptions):
    """Options of every command that uses a trained model.

    Attributes:
        model: Folder of a trained model, or its name on the Hub.
    """

    model: str


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(LoadOptions, DataOptions):
    """Settings of ``semid evaluate``: of a model, or of a log of ``semid serve``.

    Attributes:
        data: A folder, ``synthetic`` or a reader, as in train; items are matched by their IDs. For
            a log, the later events: a file, or a folder in the plain layout, with timestamps.
        model: Folder of a trained model, or its name on the Hub.
        log: Instead of ``model``, a file written by ``semid serve --log``: each list is judged by
            its user's next event, and the arms are compared.
        within_hours: Of a log, the hours after a request in which the next event counts; None for
            any time.
        out: Folder to write ``ranks.parquet`` and ``metrics.json`` to; None only to print.
        metrics: Metrics to report; None for those the model was trained with, or, of a log, recall,
            NDCG and MRR.
        cutoffs: List lengths to report them at; likewise, or, of a log, 5, 10 and 20.
    """

    model: str | None = None
    log: str | None = None
    within_hours: float | None = None
    out: str | None = None
    metrics: tuple[str, ...] | None = None
    cutoffs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require_types(self)
        require_text("data", self.data)
        if (self.model is None) == (self.log is None):
            raise ValueError("expected either --model FOLDER or --log FILE, to say what is judged")
        if self.model is not None:
            require_text("model", self.model)
            if self.within_hours is not None:
                raise ValueError("within_hours is of a log: name it by --log")
            return
        if self.within_hours is not None and not 0 < self.within_hours < 1e6:
            raise ValueError(f"within_hours must be above 0, got {self.within_hours}")
        for own in fields(self):
            if own.name in _OF_A_MODEL and getattr(self, own.name) != own.default:
                raise ValueError(f"{own.name} is of a model: name it by --model, or leave it out")


_OF_A_MODEL = ("backbone", "teacher", "base", "split", "ties", "repeats")


@dataclass(frozen=True, kw_only=True)
class RecommendConfig(ModelOptions):
    """Settings of ``semid recommend``.

    Attributes:
        histories: A parquet, CSV or JSON-lines file: ``user_id`` and a list ``history``, or
            ``user_id``, ``item_id`` and ``timestamp`` or ``position``.
        user: Recommend only for this user of the file.
        history: Instead of a file, item IDs separated by commas, oldest first.
        k: Length of the lists.
        within: File of the only items that may be recommended: a column ``item_id``, or a text
            file with one ID per line.
        exclude_seen: Exclude items of the history.
        boosts: File with ``item_id`` and ``boost``, which is added to an item's log-probability.
        unknown: How history items that the model does not know are handled.
        empty: How histories without known items are handled.
        prior: How much of the training prior the beam divides out; None as in the model.
        partner_weight: Weight in the beam of the model's teacher or second generator; likewise.
        item_weight: Weight in the beam of the model's own item head; likewise.
        out: A ``.parquet``, ``.csv`` or ``.jsonl`` file to write; None to print. The same command
            resumes where it was stopped.
        batch_size: Histories decoded at a time; determines memory use.
        time_format: Format of dates given as text, such as ``%d/%m/%Y``; None to detect it.
    """

    histories: str | None = None
    user: str | None = None
    history: tuple[str, ...] | None = None
    k: int = 10
    within: str | None = None
    exclude_seen: bool = True
    boosts: str | None = None
    unknown: Unknown = "skip"
    empty: Empty = "refuse"
    prior: float | None = None
    partner_weight: float | None = None
    item_weight: float | None = None
    out: str | None = None
    batch_size: int = 256
    time_format: str | None = None

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
class ExplainConfig(ModelOptions):
    """Settings of ``semid explain``.

    Attributes:
        history: Item IDs separated by commas, oldest first.
        item: The item to explain.
    """

    history: tuple[str, ...]
    item: str

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("model", "item"):
            require_text(name, getattr(self, name))
