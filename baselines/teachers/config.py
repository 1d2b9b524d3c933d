"""Which teacher, and in which shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args, get_type_hints

from torch import Tensor

from baselines.data.dataset import Dataset
from baselines.teachers.bert4rec import BERT4Rec, BERT4RecConfig
from baselines.teachers.gru4rec import GRU4Rec, GRU4RecConfig
from baselines.teachers.hybrid import CollaborativeName, Hybrid, HybridConfig
from baselines.teachers.itemknn import ItemKNN, ItemKNNConfig
from baselines.teachers.lightgcn import LightGCN, LightGCNConfig
from baselines.teachers.model import TeacherModel
from baselines.teachers.released_sasrec import ReleasedSASRec
from baselines.teachers.sasrec import SASRec, SASRecConfig
from baselines.teachers.simple import Popularity
from semid.settings import settings_before, without_later

TeacherName = Literal[CollaborativeName, "hybrid"]
TEACHERS: tuple[TeacherName, ...] = get_args(TeacherName)

_CLASSES: dict[TeacherName, type[TeacherModel]] = {
    "sasrec": SASRec,
    "bert4rec": BERT4Rec,
    "gru4rec": GRU4Rec,
    "lightgcn": LightGCN,
    "itemknn": ItemKNN,
    "popularity": Popularity,
    "hybrid": Hybrid,
}


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A teacher by name, and a shape for each name; only that of ``model`` counts.

    Attributes:
        model: The teacher. ``popularity`` has no settings.
        sasrec: Shape and loss of SASRec.
        bert4rec: Shape and masking of BERT4Rec.
        gru4rec: Shape of GRU4Rec.
        lightgcn: Shape and loss of LightGCN.
        itemknn: Settings of item-kNN.
        hybrid: How a collaborative teacher, one of the others with its own settings here, is
            blended with content.
    """

    model: TeacherName = "sasrec"
    sasrec: SASRecConfig = field(default_factory=SASRecConfig)
    bert4rec: BERT4RecConfig = field(default_factory=BERT4RecConfig)
    gru4rec: GRU4RecConfig = field(default_factory=GRU4RecConfig)
    lightgcn: LightGCNConfig = field(default_factory=LightGCNConfig)
    itemknn: ItemKNNConfig = field(default_factory=ItemKNNConfig)
    hybrid: HybridConfig = field(default_factory=HybridConfig)

    @property
    def kind(self) -> type[TeacherModel]:
        """Its class."""
        return _CLASSES[self.model]

    @property
    def collaborative(self) -> TeacherConfig:
        """The teacher that learns from interactions: of a hybrid its own, else itself."""
        return replace(self, model=self.hybrid.cf) if self.model == "hybrid" else self

    def record(self) -> dict[str, Any]:
        """The model and the settings that it depends on, as JSON values.

        Where a hybrid's item vectors come from is not among them: what they are decides.
        """
        if self.model == "hybrid":
            settings = dataclasses.asdict(self.hybrid)
            del settings["embeddings"], settings["template"]
            return {"model": self.model, **settings, "collaborative": self.collaborative.record()}
        if self.model == "popularity":
            return {"model": self.model}
        shape = getattr(self, self.model)
        settings = without_later(dataclasses.asdict(shape), type(shape))
        if self.model == "sasrec" and self.sasrec.loss != "gbce":
            del settings["gbce_t"]
        return {"model": self.model, **settings}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> TeacherConfig:
        """The config that ``record`` describes; what else the mapping holds is left alone."""
        model = record["model"]
        if model == "popularity":
            return cls(model=model)
        if model == "hybrid":
            hybrid = _from_json(HybridConfig, record)
            return replace(cls.of_record(record["collaborative"]), model=model, hybrid=hybrid)
        return cls(model=model, **{model: _from_json(get_type_hints(cls)[model], record)})

    def build(self, dataset: Dataset, seed: int, *, vectors: Tensor | None = None) -> TeacherModel:
        """The teacher before any training, or counted: from the training part alone.

        Args:
            dataset: The data.
            seed: Of random starts.
            vectors: The content of a hybrid, float ``(item, dim)``; no other takes any.

        Raises:
            ValueError: For a hybrid without vectors.
        """
        train, num_items = dataset.splits.train, len(dataset.catalog)
        if self.model == "hybrid":
            if vectors is None:
                raise ValueError("a hybrid needs vectors of the items, got none")
            return Hybrid(self.hybrid, self.collaborative.build(dataset, seed), vectors, train)
        if self.model == "sasrec":
            made_by = ReleasedSASRec if self.sasrec.variant == "released" else SASRec
            return made_by(self.sasrec, num_items, seed)
        if self.model == "bert4rec":
            return BERT4Rec(self.bert4rec, num_items, seed)
        if self.model == "gru4rec":
            return GRU4Rec(self.gru4rec, num_items, seed)
        if self.model == "lightgcn":
            return LightGCN(self.lightgcn, train, num_items, seed)
        if self.model == "itemknn":
            return ItemKNN(self.itemknn, train, num_items)
        return Popularity(train, num_items)

    @property
    def passes(self) -> int:
        """Times that an epoch goes over the training part."""
        return int(getattr(getattr(self, self.model, None), "passes", 1))


def _from_json(config: Any, record: Mapping[str, Any]) -> Any:
    """A config dataclass from a mapping that holds its fields, configs within it included."""
    hints, found = get_type_hints(config), settings_before(config)
    for entry in dataclasses.fields(config):
        if entry.name in record:
            value, kind = record[entry.name], hints[entry.name]
            found[entry.name] = _from_json(kind, value) if dataclasses.is_dataclass(kind) else value
    return config(**found)
