"""Which teachers there are, by the names that settings call them."""

from __future__ import annotations

from torch import Tensor

from baselines.data.dataset import Dataset
from baselines.teachers.bert4rec import BERT4Rec
from baselines.teachers.config import TeacherConfig, TeacherName
from baselines.teachers.gru4rec import GRU4Rec
from baselines.teachers.hybrid import Hybrid
from baselines.teachers.itemknn import ItemKNN
from baselines.teachers.lightgcn import LightGCN
from baselines.teachers.model import TeacherModel
from baselines.teachers.released_sasrec import ReleasedSASRec
from baselines.teachers.sasrec import SASRec
from baselines.teachers.simple import Popularity

_CLASSES: dict[TeacherName, type[TeacherModel]] = {
    "sasrec": SASRec,
    "bert4rec": BERT4Rec,
    "gru4rec": GRU4Rec,
    "lightgcn": LightGCN,
    "itemknn": ItemKNN,
    "popularity": Popularity,
    "hybrid": Hybrid,
}


def teacher_class(config: TeacherConfig) -> type[TeacherModel]:
    """The class of the teacher that ``config`` names."""
    return _CLASSES[config.model]


def build_teacher(
    config: TeacherConfig, dataset: Dataset, seed: int, *, vectors: Tensor | None = None
) -> TeacherModel:
    """The teacher before any training, or counted: from the training part alone.

    Args:
        config: Which teacher, in which shape.
        dataset: The data.
        seed: Of random starts.
        vectors: The content of a hybrid, float ``(item, dim)``; no other takes any.

    Raises:
        ValueError: For a hybrid without vectors.
    """
    train, num_items = dataset.splits.train, len(dataset.catalog)
    if config.model == "hybrid":
        if vectors is None:
            raise ValueError("a hybrid needs vectors of the items, got none")
        collaborative = build_teacher(config.collaborative, dataset, seed)
        return Hybrid(config.hybrid, collaborative, vectors, train)
    if config.model == "sasrec":
        made_by = ReleasedSASRec if config.sasrec.variant == "released" else SASRec
        return made_by(config.sasrec, num_items, seed)
    if config.model == "bert4rec":
        return BERT4Rec(config.bert4rec, num_items, seed)
    if config.model == "gru4rec":
        return GRU4Rec(config.gru4rec, num_items, seed)
    if config.model == "lightgcn":
        return LightGCN(config.lightgcn, train, num_items, seed)
    if config.model == "itemknn":
        return ItemKNN(config.itemknn, train, num_items)
    return Popularity(train, num_items)
