"""Settings of the commands that use a trained model."""

from __future__ import annotations

from dataclasses import dataclass, fields

from baselines.cli.config import DataOptions
from semid.checks import require_text
from semid.field_types import require_types


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
            raise ValueError(f"within_hours must be above 0, got {self.within_hours:g}")
        for own in fields(self):
            if own.name in _OF_A_MODEL and getattr(self, own.name) != own.default:
                raise ValueError(f"{own.name} is of a model: name it by --model, or leave it out")


_OF_A_MODEL = ("backbone", "teacher", "base", "split", "ties", "repeats")


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
