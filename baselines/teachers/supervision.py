"""A teacher's token distributions for a backbone: stored once, or computed for each batch."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from baselines.contracts.backbone import Backbone, TargetDistributions
from baselines.data.sequences import SequenceSet
from baselines.teachers.cache import cached_mass, code_table_hash
from baselines.teachers.config import MassConfig
from baselines.teachers.distributions import LiveDistributions, StoredDistributions
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.mass import mass_source
from baselines.teachers.rounded import RoundedScorer
from semid.ids import SemanticIds
from semid.vocab import CodeVocab


class Supervision:
    """One teacher's distributions for the training targets, for all models on the same ids.

    Args:
        teacher: A fitted teacher.
        ids: The semantic IDs. Distributions over their codes are stored and shared by backbones;
            those over other tokens, such as titles, are computed per batch.
        train: The training sequences.
        config: Settings of the distributions.
        cache: Folder for stored distributions.
    """

    def __init__(
        self,
        teacher: FittedTeacher,
        ids: SemanticIds,
        train: SequenceSet,
        config: MassConfig,
        cache: Path,
    ) -> None:
        self.teacher, self.config = teacher, config
        self._train, self._cache = train, cache
        self._trie = CodeVocab.per_level(ids.sizes).trie(ids.codes)
        self._stored: dict[bool, StoredDistributions] = {}  # keyed by whether scores are rounded

    def __call__(self, backbone: Backbone, *, rounded: bool = False) -> TargetDistributions:
        """The distributions over a backbone's tokens.

        Args:
            backbone: The student.
            rounded: Whether scores are rounded to bfloat16, as in TCA4Rec's released code.
        """
        teacher = self.teacher
        scorer = RoundedScorer(teacher.model) if rounded else teacher.model
        custom = backbone.distributions(scorer, self._train, teacher.temperature)
        if custom is not None:
            return custom
        source = partial(mass_source, scorer, temperature=teacher.temperature, config=self.config)
        if code_table_hash(backbone.trie) != code_table_hash(self._trie):
            return LiveDistributions(source(backbone.trie), self._train)
        if rounded not in self._stored:
            stored = cached_mass(
                source(self._trie), self._train, teacher=teacher.scores_hash, folder=self._cache
            )
            self._stored[rounded] = StoredDistributions(stored)
        return self._stored[rounded]
