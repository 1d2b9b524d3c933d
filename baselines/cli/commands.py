"""The sub-commands: each is a function with typed options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from baselines.cli.append import data_append
from baselines.cli.batch_config import BuildConfig, RecommendConfig, require_workers
from baselines.cli.compare import compare, require_arms
from baselines.cli.config import (
    AppendConfig,
    DataPrepareConfig,
    DescribeConfig,
    InspectConfig,
    LmTrainConfig,
    PickConfig,
    StudyConfig,
    TeacherExportConfig,
    TeacherTrainConfig,
    TrainConfig,
)
from baselines.cli.describe import data_describe
from baselines.cli.evaluate import evaluate
from baselines.cli.explain import explain
from baselines.cli.export import export
from baselines.cli.ids import build
from baselines.cli.inspecting import inspect
from baselines.cli.lm import lm_fluency, lm_train
from baselines.cli.model_config import EvaluateConfig, ExplainConfig
from baselines.cli.pick import pick
from baselines.cli.prepare import data_prepare
from baselines.cli.recommend import recommend
from baselines.cli.report import report
from baselines.cli.runs import (
    RunConfig,
    RunsCompareConfig,
    RunsConfig,
    RunsRemoveConfig,
    runs,
    runs_compare,
    runs_remove,
    runs_show,
)
from baselines.cli.serve import require_packages, serve
from baselines.cli.study import study
from baselines.cli.teacher import teacher_export, teacher_train
from baselines.cli.train import require_arm, train
from baselines.experiments.config import CompareConfig, FluencyConfig
from baselines.exporting.config import ExportConfig
from baselines.reporting.config import ReportConfig
from baselines.serving.config import ServeConfig


@dataclass(frozen=True, kw_only=True)
class Command:
    """A sub-command.

    Attributes:
        config: Dataclass of its settings.
        run: Function that runs it.
        trains: Whether it uses all processes; otherwise only the main one runs it.
        example: Example of its use.
        shown: Options shown in its help, by dotted names; empty for all.
        second_names: Alternative names of options.
        first: Option whose value may be given first, without its name; several values for a list.
        check: Rejects settings before any code that computes is loaded.
    """

    config: type[Any]
    run: Callable[[Any, Any], None]
    trains: bool
    example: str
    shown: tuple[str, ...] = ()
    second_names: dict[str, str] = field(default_factory=dict)
    first: str | None = None
    check: Callable[[Any], None] | None = None

    @property
    def says(self) -> str:
        """One-line description."""
        return self.run.__doc__ or ""


_TOKENIZER, _RAY = {"tokenizer": "ids.scheme"}, {"ray": "ray.address"}
_OF_TRAINING = ("training.epochs", "training.lr", "training.batch_events", "training.precision")

COMMANDS = {
    "build": Command(
        config=BuildConfig,
        run=build,
        trains=True,
        example="semid build --data synthetic --out ids --tokenizer rqkmeans",
        second_names=_TOKENIZER | _RAY,
        check=require_workers,
    ),
    "inspect": Command(
        config=InspectConfig,
        run=inspect,
        trains=False,
        example="semid inspect ids-rqvae ids-letter --data shop --out cards",
        first="ids",
    ),
    "teacher train": Command(
        config=TeacherTrainConfig,
        run=teacher_train,
        trains=True,
        example="semid teacher train --data synthetic --out teachers --teacher.model gru4rec",
        shown=(
            *("data", "out", "split", "repeats", "time_format", "seeds", "teacher.model"),
            *("teacher.sasrec.max_history", "teacher.sasrec.encoder.dim", *_OF_TRAINING, "log_to"),
        ),
    ),
    "teacher export": Command(
        config=TeacherExportConfig,
        run=teacher_export,
        trains=False,
        example="semid teacher export --data synthetic --teachers teachers --out vectors",
    ),
    "data prepare": Command(
        config=DataPrepareConfig,
        run=data_prepare,
        trains=False,
        example="semid data prepare ratings.csv --out data --prepare.user_core 5",
        first="source",
    ),
    "data describe": Command(
        config=DescribeConfig,
        run=data_describe,
        trains=False,
        example="semid data describe synthetic --out data.json --card data.md",
        first="data",
    ),
    "data append": Command(
        config=AppendConfig,
        run=data_append,
        trains=False,
        example="semid data append shop --events today.csv",
        first="data",
    ),
    "lm train": Command(
        config=LmTrainConfig,
        run=lm_train,
        trains=True,
        example="semid lm train --data synthetic --out lm --training.epochs 4",
        shown=(
            *("data", "out", "split", "seed", "texts.title", "texts.lists", "model.vocab_size"),
            *("model.dim", "model.num_layers", "model.context", "training.epochs", "training.lr"),
        ),
    ),
    "lm fluency": Command(
        config=FluencyConfig,
        run=lm_fluency,
        trains=False,
        example="semid lm fluency --run runs/compare",
    ),
    "compare": Command(
        config=CompareConfig,
        run=compare,
        trains=True,
        example="semid compare --data synthetic --arms tiger:ntp,tiger:soft_ce:0.5 --seeds 0,1",
        shown=(
            *("data", "out", "split", "repeats", "time_format", "arms", "seeds", "ids.scheme"),
            *("ids.codebook_sizes", "ids.embeddings", "teacher.model", "temperature"),
            *(*_OF_TRAINING, "evaluation.beam", "fusion.arms"),
        ),
        second_names=_TOKENIZER,
        check=require_arms,
    ),
    "report": Command(
        config=ReportConfig,
        run=report,
        trains=False,
        example="semid report runs/compare --wide",
        first="run",
    ),
    "train": Command(
        config=TrainConfig,
        run=train,
        trains=True,
        example="semid train --data synthetic --out models/one --arm causal:soft_ce:0.5",
        shown=(
            *("data", "out", "arm", "seed", "split", "repeats", "time_format", "ids.scheme"),
            *("ids.codebook_sizes", "ids.embeddings", "teacher.model", "temperature", "teachers"),
            *(*_OF_TRAINING, "evaluation.beam"),
        ),
        second_names=_TOKENIZER,
        check=require_arm,
    ),
    "pick": Command(
        config=PickConfig,
        run=pick,
        trains=False,
        example="semid pick runs/compare --out models/best",
        first="run",
    ),
    "evaluate": Command(
        config=EvaluateConfig,
        run=evaluate,
        trains=True,
        example="semid evaluate --model models/one --data synthetic",
    ),
    "recommend": Command(
        config=RecommendConfig,
        run=recommend,
        trains=True,
        example="semid recommend --model models/one --histories users.parquet --out lists.parquet",
        second_names=_RAY,
        check=require_workers,
    ),
    "explain": Command(
        config=ExplainConfig,
        run=explain,
        trains=False,
        example="semid explain --model models/one --history i12,i7 --item i90",
    ),
    "export": Command(
        config=ExportConfig,
        run=export,
        trains=False,
        example="semid export models/one --to hf --out models/one-hf",
        first="folder",
    ),
    "serve": Command(
        config=ServeConfig,
        run=serve,
        trains=False,
        example="semid serve models/one models/two --shares 0.9,0.1 --log requests.jsonl",
        first="models",
        check=require_packages,
    ),
    "study": Command(
        config=StudyConfig,
        run=study,
        trains=True,
        example="semid study studies/tiny.yaml --plan",
        first="study",
    ),
    "runs": Command(
        config=RunsConfig,
        run=runs,
        trains=False,
        example="semid runs runs/studies",
        first="folder",
    ),
    "runs show": Command(
        config=RunConfig,
        run=runs_show,
        trains=False,
        example="semid runs show runs/compare",
        first="run",
    ),
    "runs compare": Command(
        config=RunsCompareConfig,
        run=runs_compare,
        trains=False,
        example="semid runs compare runs/one runs/other",
        first="folders",
    ),
    "runs remove": Command(
        config=RunsRemoveConfig,
        run=runs_remove,
        trains=False,
        example="semid runs remove runs/compare",
        first="run",
    ),
}
