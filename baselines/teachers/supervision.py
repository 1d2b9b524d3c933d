"""A teacher's token distributions for a backbone: stored once, or computed for each batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from baselines.contracts.backbone import Backbone, TargetDistributions
from baselines.contracts.scorer import ItemScorer
from baselines.data.dataset import Dataset
from baselines.teachers.cache import cached_mass, code_table_hash
from baselines.teachers.config import MassConfig
from baselines.teachers.distributions import LiveDistributions, StoredDistributions
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.item_labels import StoredItemLabels, item_labels
from baselines.teachers.labels import Labeller, labeller, settled_labels
from baselines.teachers.mass import MassSource, mass_source
from baselines.teachers.rounded import RoundedScorer
from semid.ids import SemanticIds
from semid.trie import CodeTrie
from semid.vocab import CodeVocab


class Supervision:
    """One teacher's distributions for the training targets, for all models on the same ids.

    Args:
        teacher: A fitted teacher.
        fit: Fits the same teacher to other data, or reads it if it is already fitted.
        dataset: The data of teacher and students.
        ids: The semantic IDs. Distributions over their codes are stored and shared by backbones;
            those over other tokens, such as titles, are computed per batch.
        config: Settings of the distributions.
        cache: Folder for stored distributions.
    """

    def __init__(
        self,
        teacher: FittedTeacher,
        fit: Callable[[Dataset], FittedTeacher],
        dataset: Dataset,
        ids: SemanticIds,
        config: MassConfig,
        cache: Path,
    ) -> None:
        self.teacher, self.config = teacher, settled_labels(config, type(teacher.model), dataset)
        self._fit, self._dataset, self._cache = fit, dataset, cache
        self._ids = ids
        self._stored: dict[tuple[str, bool], StoredDistributions] = {}

    @cached_property
    def labels(self) -> Labeller:
        """What scores the training targets; fitted and calibrated on first access."""
        return labeller(self.config, self.teacher, self._dataset, self._fit)

    @cached_property
    def of_items(self) -> StoredItemLabels | None:
        """The distributions over whole items, computed on first access; None if targets alone."""
        if self.config.best_items == 0:
            return None
        labels, train = self.labels, self._dataset.splits.train
        return item_labels(labels.scorer, train, temperature=labels.temperature, config=self.config)

    def __call__(self, backbone: Backbone, *, rounded: bool = False) -> TargetDistributions:
        """The distributions over a backbone's tokens.

        Args:
            backbone: The student.
            rounded: Whether scores are rounded to bfloat16, as in TCA4Rec's released code.
        """
        labels, train = self.labels, self._dataset.splits.train
        custom = backbone.distributions(self._scorer(rounded), train, labels.temperature)
        if custom is not None:
            return custom
        if code_table_hash(backbone.trie) != code_table_hash(self._trie):
            return LiveDistributions(self._source(backbone.trie, rounded), train)
        return self.of_codes(self._ids, rounded=rounded)

    def of_codes(self, ids: SemanticIds, *, rounded: bool = False) -> TargetDistributions:
        """The stored distributions over the codes of some semantic IDs.

        Args:
            ids: The IDs.
            rounded: As above.
        """
        key = (ids.provenance.content, rounded)
        if key not in self._stored:
            trie = self._trie if ids is self._ids else _trie_of(ids)
            stored = cached_mass(
                self._source(trie, rounded),
                self._dataset.splits.train,
                teacher=self.labels.scores_hash,
                folder=self._cache,
            )
            self._stored[key] = StoredDistributions(stored)
        return self._stored[key]

    @cached_property
    def _trie(self) -> CodeTrie:
        return _trie_of(self._ids)

    def _scorer(self, rounded: bool) -> ItemScorer:
        return RoundedScorer(self.labels.scorer) if rounded else self.labels.scorer

    def _source(self, trie: CodeTrie, rounded: bool) -> MassSource:
        temperature = self.labels.temperature
        return mass_source(self._scorer(rounded), trie, temperature=temperature, config=self.config)


def _trie_of(ids: SemanticIds) -> CodeTrie:
    return CodeVocab.per_level(ids.sizes).trie(ids.codes)
