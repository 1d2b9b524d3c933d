"""Settings of teachers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_type_hints

from baselines.nn.config import MOST_ITEMS, MOST_LAYERS, MOST_WIDE, EncoderConfig
from baselines.teachers.counting_config import BlendConfig, ContentConfig, RulesConfig
from baselines.teachers.degraded_config import DegradedConfig
from baselines.training.config import TrainingConfig
from semid.checks import did_you_mean, require_int, require_real, require_text
from semid.field_types import require_types
from semid.registry import is_import_path
from semid.settings import settings_before, without_later

BUILT_IN = {
    "sasrec": "baselines.teachers.sasrec:SASRec",
    "bsarec": "baselines.teachers.bsarec:BSARec",
    "bert4rec": "baselines.teachers.bert4rec:BERT4Rec",
    "gru4rec": "baselines.teachers.gru4rec:GRU4Rec",
    "lightgcn": "baselines.teachers.lightgcn:LightGCN",
    "itemknn": "baselines.teachers.itemknn:ItemKNN",
    "popularity": "baselines.teachers.simple:Popularity",
    "rules": "baselines.teachers.rules:Rules",
    "content": "baselines.teachers.content:Content",
    "rules+content": "baselines.teachers.rules_and_content:RulesAndContent",
    "hybrid": "baselines.teachers.hybrid:Hybrid",
    "degraded": "baselines.teachers.degraded:Degraded",
}
"""Short names of the teachers that ship with the package."""

COUNTED = ("rules", "content", "rules+content")
WRAPPERS = ("hybrid", "degraded")
"""Names of those that change what another teacher says."""
OF_CONTENT = ("content", "rules+content", *WRAPPERS)
"""Names of those that may read the items' content; the others are collaborative."""


def require_temperature(name: str, value: object) -> None:
    """Raise unless a temperature is in a sensible range.

    Raises:
        ValueError: If it is not a number in [1e-6, 1e6].
    """
    require_real(name, value, low=1e-6, high=1e6)


@dataclass(frozen=True, kw_only=True)
class HybridConfig:
    """Blend of a collaborative teacher and the items' content.

    The defaults were chosen on Beauty's validation targets, with SASRec and LSA vectors.

    Attributes:
        cf: The collaborative teacher, any ``TeacherConfig.model`` that reads no content, with the
            settings given for it.
        cf_temperature: Divides the collaborative scores before their softmax.
        embeddings: Content vectors, as for ``--ids.embeddings``.
        template: Template of the text to embed; None for all text fields.
        content_temperature: Divides the cosines before their softmax.
        decay: Weight of a history item relative to the next one; 1 for equal weights.
        half_items: Training events at which an item's collaborative probability is halved.
        half_history: Known history items at which all collaborative probabilities are halved.
        max_history: Maximum number of history items used for content, and counted.

    Raises:
        ValueError: If a value is out of its range.
    """

    cf: str = "sasrec"
    cf_temperature: float = 1.0
    embeddings: str = "lsa"
    template: str | None = None
    content_temperature: float = 0.12
    decay: float = 0.8
    half_items: float = 2.0
    half_history: float = 3.0
    max_history: int = 50

    def __post_init__(self) -> None:
        require_types(self)
        _require_teacher("cf", self.cf, [name for name in BUILT_IN if name not in OF_CONTENT])
        for name in ("cf_temperature", "content_temperature"):
            require_temperature(name, getattr(self, name))
        require_text("embeddings", self.embeddings)
        require_real("decay", self.decay, above=0, high=1)
        require_real("half_items", self.half_items, above=0)
        require_real("half_history", self.half_history, low=0)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)


@dataclass(frozen=True, kw_only=True)
class SASRecConfig:
    """Shape and loss of SASRec.

    Attributes:
        variant: ``prenorm``, blocks that normalise before they attend, or ``released``, the
            architecture of TCA4Rec's released teacher (``ReleasedSASRec``).
        loss: ``ce``, cross-entropy over the full catalogue, whose softmax is reasonably calibrated
            for a teacher; ``sampled_softmax``, an estimate of it from a sample of the items, for
            large catalogues; ``bce``, the paper's binary cross-entropy with sampled negatives; or
            ``gbce``, gSASRec's, which corrects the overconfidence caused by sampling.
        num_negatives: Uniform negatives per position for the binary losses, drawn from outside the
            window. 1 in the SASRec paper, 256 in gSASRec.
        sampled_items: Items of the loss sampled_softmax, uniform and drawn anew for each batch; all
            items if there are fewer.
        gbce_t: Calibration of the loss gbce, from 0 (plain bce) to 1; 0.75 in gSASRec.
        max_history: Maximum number of history items.
        encoder: Shape of the transformer; ``released`` ignores ``ff_dim``, its feed-forward is as
            wide as the model.

    Raises:
        ValueError: If a value is out of its range.
    """

    variant: Literal["prenorm", "released"] = field(
        default="prenorm", metadata={"before": "prenorm"}
    )
    loss: Literal["ce", "sampled_softmax", "bce", "gbce"] = "ce"
    num_negatives: int = 1
    sampled_items: int = field(default=4096, metadata={"before": 4096})
    gbce_t: float = 0.75
    max_history: int = 50
    encoder: EncoderConfig = field(default_factory=EncoderConfig)

    def __post_init__(self) -> None:
        require_types(self)
        require_int("num_negatives", self.num_negatives, 1, MOST_ITEMS)
        require_int("sampled_items", self.sampled_items, 1)
        require_real("gbce_t", self.gbce_t, low=0, high=1)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)


@dataclass(frozen=True, kw_only=True)
class BSARecConfig:
    """Shape and filter of BSARec; the values are those of its release for Beauty.

    Attributes:
        filter: ``fft``, as released, which reads later items and thus learns from one position per
            window; or ``causal``, which reads earlier items only and learns from every position.
        cutoff: The paper's ``c``: the first ``cutoff // 2 + 1`` frequencies are low.
        alpha: Share of the filter branch in a layer; the rest is attention's.
        max_history: Maximum number of history items, and the length of the Fourier transform.
        encoder: Shape of the transformer.

    Raises:
        ValueError: If a value is out of its range, or ``cutoff`` exceeds ``max_history``.
    """

    filter: Literal["fft", "causal"] = "fft"
    cutoff: int = 5
    alpha: float = 0.7
    max_history: int = 50
    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(dropout=0.5))

    def __post_init__(self) -> None:
        require_types(self)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)
        require_int("cutoff", self.cutoff, 1, self.max_history)
        require_real("alpha", self.alpha, low=0, high=1)


@dataclass(frozen=True, kw_only=True)
class BERT4RecConfig:
    """Shape and masking of BERT4Rec.

    Attributes:
        masked: Share of a window's items that are masked: 0.6 on Beauty (paper, section 4.3).
        last_only: Share of windows in which only the last item is masked, as at inference (section
            3.5). The released code has one such copy for every ten others.
        passes: Passes over the windows per epoch, each with new masks; the released code's
            ``dupe_factor``.
        max_history: Maximum number of history items; with the mask, a window has one more.
        encoder: Shape of the transformer. Two heads as in the released code; width, layers and
            feed-forward as in ``EncoderConfig``.

    Raises:
        ValueError: If a value is out of its range.
    """

    masked: float = 0.6
    last_only: float = 0.1
    passes: int = 10
    max_history: int = 50
    encoder: EncoderConfig = field(default_factory=lambda: EncoderConfig(num_heads=2))

    def __post_init__(self) -> None:
        require_types(self)
        require_real("masked", self.masked, above=0, below=1)
        require_real("last_only", self.last_only, low=0, high=1)
        require_int("passes", self.passes, 1)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)


@dataclass(frozen=True, kw_only=True)
class GRU4RecConfig:
    """Shape of GRU4Rec; the values are RecBole's, whose loss is full cross-entropy as here.

    Attributes:
        dim: Width of item embeddings.
        hidden_dim: Width of the recurrent state.
        num_layers: Recurrent layers.
        dropout: Dropout on the item embeddings.
        max_history: Maximum number of history items.

    Raises:
        ValueError: If a value is out of its range.
    """

    dim: int = 64
    hidden_dim: int = 128
    num_layers: int = 1
    dropout: float = 0.3
    max_history: int = 50

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("dim", "hidden_dim"):
            require_int(name, getattr(self, name), 1, MOST_WIDE)
        require_int("num_layers", self.num_layers, 1, MOST_LAYERS)
        require_real("dropout", self.dropout, low=0, below=1)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)


@dataclass(frozen=True, kw_only=True)
class ItemKNNConfig:
    """Settings of item-kNN; the defaults of ``neighbours`` and ``shrinkage`` are RecBole's.

    Attributes:
        neighbours: Number of nearest neighbours kept per item.
        shrinkage: Added to the cosine's denominator, to reduce similarities with few
            co-occurrences.
        decay: Weight of a history item relative to the next one; 1 for equal weights.
        max_history: Maximum number of history items.

    Raises:
        ValueError: If a value is out of its range.
    """

    neighbours: int = 100
    shrinkage: float = 0.0
    decay: float = 1.0
    max_history: int = 50

    def __post_init__(self) -> None:
        require_types(self)
        require_int("neighbours", self.neighbours, 1)
        require_real("shrinkage", self.shrinkage, low=0)
        require_real("decay", self.decay, above=0, high=1)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)


@dataclass(frozen=True, kw_only=True)
class LightGCNConfig:
    """Shape and loss of LightGCN.

    Attributes:
        dim: Width of the embeddings (paper, section 4.1.2).
        num_layers: Propagation layers; 3 is best on most data in the paper.
        regularisation: Weight of the squared norm of a triple's layer-0 embeddings (section 4.1.2).
        passes: Passes over the targets per epoch. The paper trains for up to 1000 epochs with one
            draw per interaction.
        max_history: Maximum number of history items.

    Raises:
        ValueError: If a value is out of its range.
    """

    dim: int = 64
    num_layers: int = 3
    regularisation: float = 1e-4
    passes: int = 10
    max_history: int = 50

    def __post_init__(self) -> None:
        require_types(self)
        require_int("dim", self.dim, 1, MOST_WIDE)
        require_int("num_layers", self.num_layers, 1, MOST_LAYERS)
        require_real("regularisation", self.regularisation, low=0)
        require_int("passes", self.passes, 1)
        require_int("max_history", self.max_history, 1, MOST_ITEMS)


Tail = Literal["sampled", "uniform"]

AUTO, IN_SAMPLE, LEAVE_OWN_OUT = "auto", "in_sample", "leave_own_out"
MOST_FOLDS = 100


@dataclass(frozen=True, kw_only=True)
class MassConfig:
    """How a teacher's token distributions are computed.

    Attributes:
        labels: Which teacher labels a training target. ``in_sample``: the teacher itself, which
            has learned from that very target. ``leave_own_out``: a counted teacher without the
            user's own events. ``crossfit:K``: the users are split into K parts, and a teacher
            fitted to the other parts labels each; scores in the beam stay those of the teacher
            fitted to all. ``auto``: ``leave_own_out`` for a counted teacher whose users are known,
            else ``in_sample``, as in the paper.
        mask_history: Exclude items that the user has seen, except the target itself.
        top_k: Use only this many best items of a teacher whose scores are dot products, the items
            near the target, and a tail for the rest; None uses every item.
        tail: Total mass of the remaining items: ``sampled``, estimated from random items; or
            ``uniform``, an upper bound, as if each scored like the lowest of the best.
        best_items: Number of best items with a probability of their own in the labels of an item
            head and of on-policy prefixes; the others share what is left. 0 for the target alone.

    Raises:
        ValueError: If ``top_k`` is below 1, ``best_items`` below 0, or ``labels`` is none of these.
    """

    labels: str = field(default=AUTO, metadata={"before": IN_SAMPLE, "settled": True})
    mask_history: bool = False
    top_k: int | None = None
    tail: Tail = "sampled"
    best_items: int = field(default=64, metadata={"before": 64})

    def __post_init__(self) -> None:
        require_types(self)
        require_int("best_items", self.best_items, 0)
        if self.labels not in (AUTO, IN_SAMPLE, LEAVE_OWN_OUT) and self.folds is None:
            raise ValueError(
                f"labels must be {AUTO}, {IN_SAMPLE}, {LEAVE_OWN_OUT} or crossfit:K with K from 2 "
                f"to {MOST_FOLDS}, got {self.labels!r}"
            )
        if self.top_k is not None:
            require_int("top_k", self.top_k, 1)

    @property
    def folds(self) -> int | None:
        """The K of ``crossfit:K``; None for other labels."""
        found = re.fullmatch(r"crossfit:([1-9]\d{0,3})", self.labels)
        return int(found[1]) if found and 2 <= int(found[1]) <= MOST_FOLDS else None

    def require_fit(self, num_items: int) -> None:
        """Raise, before anything is trained, if ``top_k`` exceeds the catalogue."""
        if self.top_k is not None and self.top_k > num_items:
            raise ValueError(
                f"top_k must be at most the {num_items} items of the catalogue, got {self.top_k}. "
                "Lower it, or leave it out to score all items."
            )


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A teacher by name, and settings for each name; only those of ``model`` apply.

    Attributes:
        model: A short name (``BUILT_IN``) such as ``sasrec``; or your own ``package.module:Name``,
            a ``TeacherModel`` or a function that returns an ``ItemScorer``. ``popularity`` has no
            settings.
        settings: Settings of a custom teacher, by name.
        sasrec: Shape and loss of SASRec.
        bsarec: Shape and filter of BSARec.
        bert4rec: Shape and masking of BERT4Rec.
        gru4rec: Shape of GRU4Rec.
        lightgcn: Shape and loss of LightGCN.
        itemknn: Settings of item-kNN.
        rules: Settings of weighted pair counts.
        content: Settings of content neighbours.
        blend: How ``rules+content`` adds them up.
        hybrid: How a collaborative teacher, one of the others with its own settings here, is
            blended with content.
        degraded: How another teacher, with its own settings here, is made worse on purpose.
    """

    model: str = "sasrec"
    settings: dict[str, Any] = field(default_factory=dict, metadata={"before": {}})
    sasrec: SASRecConfig = field(default_factory=SASRecConfig)
    bsarec: BSARecConfig = field(default_factory=BSARecConfig, metadata={"before": BSARecConfig()})
    bert4rec: BERT4RecConfig = field(default_factory=BERT4RecConfig)
    gru4rec: GRU4RecConfig = field(default_factory=GRU4RecConfig)
    lightgcn: LightGCNConfig = field(default_factory=LightGCNConfig)
    itemknn: ItemKNNConfig = field(default_factory=ItemKNNConfig)
    rules: RulesConfig = field(default_factory=RulesConfig, metadata={"before": RulesConfig()})
    content: ContentConfig = field(
        default_factory=ContentConfig, metadata={"before": ContentConfig()}
    )
    blend: BlendConfig = field(default_factory=BlendConfig, metadata={"before": BlendConfig()})
    hybrid: HybridConfig = field(default_factory=HybridConfig)
    degraded: DegradedConfig = field(
        default_factory=DegradedConfig, metadata={"before": DegradedConfig()}
    )

    def __post_init__(self) -> None:
        require_types(self)
        _require_teacher("model", self.model, BUILT_IN)
        unwrapped = [name for name in BUILT_IN if name not in WRAPPERS]
        _require_teacher("degraded.of", self.degraded.of, unwrapped)
        if self.settings and self.wrapped.is_built_in:
            raise ValueError(
                f"settings are for custom teachers, got some for {self.wrapped.model}. "
                "Its options start with its name."
            )

    @property
    def is_built_in(self) -> bool:
        """Whether the teacher ships with the package."""
        return self.model in BUILT_IN

    @property
    def wrapped(self) -> TeacherConfig:
        """The teacher within a hybrid or a degraded one, else the teacher itself."""
        within = {"hybrid": self.hybrid.cf, "degraded": self.degraded.of}
        return replace(self, model=within[self.model]) if self.model in within else self

    @property
    def shape(self) -> Any:
        """The settings of ``model``: a dataclass, a mapping for a custom teacher, or None."""
        field_of = {"rules+content": "blend"}.get(self.model, self.model)
        return getattr(self, field_of, None) if self.is_built_in else self.settings

    def record(self) -> dict[str, Any]:
        """The model and the settings that its scores depend on, as JSON values.

        The source of item vectors and texts is not included: their content identifies them.
        """
        if self.model == "hybrid":
            settings = _without_source(self.hybrid)
            return {"model": self.model, **settings, "collaborative": self.wrapped.record()}
        if self.model == "degraded":
            own = dataclasses.asdict(self.degraded)
            return {"model": self.model, **own, "teacher": self.wrapped.record()}
        if self.model == "content":
            return {"model": self.model, **_without_source(self.content)}
        if self.model == "rules+content":
            parts = {part: replace(self, model=part).record() for part in ("rules", "content")}
            return {"model": self.model, **dataclasses.asdict(self.blend), **parts}
        if self.model == "popularity":
            return {"model": self.model}
        if not self.is_built_in:
            return {"model": self.model, "settings": dict(self.settings)}
        shape = self.shape
        settings = without_later(dataclasses.asdict(shape), type(shape))
        if self.model == "sasrec" and self.sasrec.loss != "gbce":
            del settings["gbce_t"]
        return {"model": self.model, **settings}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> TeacherConfig:
        """The config described by a ``record``; other keys of the mapping are ignored."""
        model = record["model"]
        if model == "popularity":
            return cls(model=model)
        if model not in BUILT_IN:
            return cls(model=model, settings=record["settings"])
        if model == "hybrid":
            hybrid = _from_json(HybridConfig, record)
            return replace(cls.of_record(record["collaborative"]), model=model, hybrid=hybrid)
        if model == "degraded":
            degraded = _from_json(DegradedConfig, record)
            return replace(cls.of_record(record["teacher"]), model=model, degraded=degraded)
        if model == "rules+content":
            rules, content = (cls.of_record(record[part]) for part in ("rules", "content"))
            blend = _from_json(BlendConfig, record)
            return replace(rules, model=model, content=content.content, blend=blend)
        return cls(model=model, **{model: _from_json(get_type_hints(cls)[model], record)})

    @property
    def passes(self) -> int:
        """Passes over the training part per epoch."""
        return int(getattr(self.shape, "passes", 1))


def teacher_training() -> TrainingConfig:
    """Default training settings of a teacher."""
    return TrainingConfig(epochs=30, patience=4, batch_events=1024)


def _require_teacher(option: str, model: str, names: Collection[str]) -> None:
    """Raise unless ``model`` is a known name or an import path; nothing is imported."""
    if model not in names and (model in BUILT_IN or not is_import_path(model)):
        hint = did_you_mean(model, names)
        raise ValueError(
            f"{option} must be one of {', '.join(names)}, or package.module:Name, got {model!r}"
            f"{hint and '.' + hint}"
        )


def _without_source(config: HybridConfig | ContentConfig) -> dict[str, Any]:
    settings = dataclasses.asdict(config)
    del settings["embeddings"], settings["template"]
    return settings


def _from_json(config: Any, record: Mapping[str, Any]) -> Any:
    """A config dataclass from a mapping of its fields, including nested configs."""
    hints, found = get_type_hints(config), settings_before(config)
    for entry in dataclasses.fields(config):
        if entry.name in record:
            value, kind = record[entry.name], hints[entry.name]
            found[entry.name] = _from_json(kind, value) if dataclasses.is_dataclass(kind) else value
    return config(**found)
