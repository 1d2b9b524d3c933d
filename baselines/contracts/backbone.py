"""The interface of a backbone: a model that generates the next item as a path of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from torch import Tensor, nn

from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from semid.prefixes import Prefixes
from semid.settings import as_json
from semid.trie import CodeTrie
from semid.vocab import CodeVocab
from tca.candidates import Positions
from tca.objective import ObjectiveOutput
from tca.projection import Projection

if TYPE_CHECKING:
    from semid.catalog import Catalog
    from semid.ids import SemanticIds


@dataclass(frozen=True, eq=False)
class BuildContext:
    """Inputs from which a backbone is built.

    Attributes:
        codes: int64 ``(item, level)``, the semantic IDs in catalogue order.
        sizes: Number of codes of each level.
        seed: Seed of the initial weights.
        catalog: The items; None if the backbone does not read their texts.
        teacher: A trained teacher in eval mode; None if the backbone does not need one.
        second: A second set of semantic IDs in catalogue order, for a backbone that
            ``takes_second_ids``; None for one set alone.
    """

    codes: Tensor
    sizes: tuple[int, ...]
    seed: int = 0
    catalog: Catalog | None = None
    teacher: ItemScorer | None = None
    second: SemanticIds | None = None


@dataclass(frozen=True, eq=False)
class PathLoss:
    """The objective at the supervised positions of one set of paths.

    Attributes:
        at: The positions.
        of: Computes the loss from the logits at these positions.
    """

    at: Positions
    of: Callable[[Tensor | Projection], ObjectiveOutput]


class Backbone(nn.Module, ABC):
    """A generator over the items of one catalogue, where each item is a path of tokens.

    A path may spell codes or a title; that is up to the backbone. Its ``trie`` is built from the
    same tokens, so masks, teacher probabilities and beams share one token axis.

    A subclass is constructed as ``cls(config, context)``, or as ``cls(config, context, extra)`` if
    it has an ``extra_config_class``, and calls this constructor.

    Args:
        paths: int64 ``(item, pos)``, the tokens of each item in catalogue order; shorter paths are
            padded with -1.
        num_tokens: Size of the token axis.
        trie: Of these paths, where there is one already.
    """

    label: ClassVar[str]
    """Name shown in reports."""
    config_class: ClassVar[type[Any]]
    """Dataclass of its settings; backbones with the same class share one set of settings."""
    extra_config_class: ClassVar[type[Any] | None] = None
    """Dataclass of settings that are not shared with the other backbones of its family."""
    needs_teacher: ClassVar[bool] = False
    """Whether it is built from a teacher, which is then also needed for serving."""
    shares_weights_with: ClassVar[str | None] = None
    """Name of the backbone whose trained weights it reuses; only the ranking differs."""
    pad_positions_to: ClassVar[int] = 64
    """The positions of each depth are padded to a multiple of this, see ``Positions``."""
    end_token: bool = False
    """Whether every path ends with an end token that is not part of the item."""

    learns_items: bool = False
    """Whether its loss uses ``TrainBatch.item_labels``."""
    reads_users: bool = False
    """Whether logits depend on user numbers, so that histories alone are not enough."""

    length_penalty: ClassVar[float] = 0.0
    """Exponent of the path length by which a path's final score is divided after the search."""

    paths: Tensor

    def __init__(self, paths: Tensor, num_tokens: int, trie: CodeTrie | None = None) -> None:
        super().__init__()
        self.register_buffer("paths", paths, persistent=False)
        self.trie = CodeTrie.from_paths(paths, num_tokens) if trie is None else trie

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.trie = self.trie.to(self.paths.device)  # the trie moves with the weights
        return self

    @classmethod
    def require_fit(cls, config: Any, catalog: Catalog, teacher: type[Any]) -> None:
        """Check, before anything is trained, that a backbone can be built from these inputs.

        Args:
            config: An instance of ``config_class``.
            catalog: The items to generate.
            teacher: Class of the teacher.

        Raises:
            ValueError: If settings, items or teacher do not fit; the message says which and what
                to do.
        """

    @classmethod
    def takes_second_ids(cls, config: Any) -> bool:
        """Whether it can learn a second set of IDs, ``BuildContext.second``.

        Args:
            config: An instance of ``config_class``.
        """
        return False

    @classmethod
    def learns_prompts(cls, setting: bool | None) -> bool:
        """Whether prompt tokens contribute to the loss.

        Args:
            setting: The value in the settings; None for the backbone's default.
        """
        return False

    @classmethod
    def training_settings(cls, config: Any, extra: Any) -> dict[str, Any]:
        """The settings on which the trained weights depend, as JSON values.

        Args:
            config: An instance of ``config_class``.
            extra: An instance of ``extra_config_class``, or None.
        """
        settings: dict[str, Any] = as_json(config)
        if extra is not None and cls.shares_weights_with is None:
            settings["own"] = as_json(extra)
        return settings

    @property
    def input_hashes(self) -> dict[str, str]:
        """Content hashes, by name, of its inputs other than the semantic IDs."""
        return {}

    @property
    def second_trie(self) -> CodeTrie | None:
        """The paths of its second set of IDs; None if it has one set."""
        return None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The training stages, in order."""
        return (WHOLE,)

    def begin_stage(self, stage: str | None) -> None:
        """Freeze everything that the given stage does not train.

        Args:
            stage: Name of the stage to prepare; None (the state of a fresh backbone) unfreezes
                everything that any stage trains.
        """

    @property
    @abstractmethod
    def max_history(self) -> int:
        """Maximum number of history items that the backbone reads."""

    def windows(self, data: SequenceSet) -> Windows:
        """The training windows; by default one per target."""
        return Windows.per_target(data, self.max_history)

    def prepare_batch(self, batch: TrainBatch) -> TrainBatch:
        """Transform a batch before the forward pass, e.g. into yes/no questions.

        The ``target_items`` of the result index rows of ``paths``. May draw from PyTorch's default
        generator, which training seeds in every epoch.
        """
        return batch

    def distributions(
        self, scorer: ItemScorer, train: SequenceSet, temperature: float
    ) -> TargetDistributions | None:
        """A teacher's distributions over the paths if the paths are not items; else None.

        Args:
            scorer: The frozen teacher.
            train: The training sequences, from which the teacher's histories are taken.
            temperature: Divides the teacher's scores.
        """
        return None

    @abstractmethod
    def forward(self, batch: TrainBatch, at: Positions) -> Tensor | Projection:
        """Teacher-forced logits at some positions of the targets' paths.

        A backbone with a large vocabulary returns the factors of the logits (states and output
        weights) as a ``Projection`` instead.

        Args:
            batch: The training batch.
            at: Positions to compute; no other position is projected onto the vocabulary.

        Returns:
            Float ``(position, token)``: logits of the next token given the preceding tokens of the
            path. Tokens that are impossible at a level may be ``-inf``. Values past the end of a
            shorter path are arbitrary.
        """

    def loss(
        self,
        batch: TrainBatch,
        at: Positions,
        of_paths: Callable[[Tensor | Projection], ObjectiveOutput],
    ) -> ObjectiveOutput:
        """The training loss; by default that of the targets' paths alone.

        Args:
            batch: The training batch.
            at: Supervised positions of the paths.
            of_paths: Computes the loss of the paths from the output of ``forward``.
        """
        return of_paths(self(batch, at))

    def loss_of_both(self, batch: TrainBatch, first: PathLoss, second: PathLoss) -> ObjectiveOutput:
        """The training loss of a backbone with a second set of IDs.

        Args:
            batch: The training batch.
            first: The objective on the paths of ``trie``.
            second: The objective on those of ``second_trie``.

        Raises:
            NotImplementedError: For a backbone that takes one set alone, as by default.
        """
        raise NotImplementedError(f"{self.label} takes no second set of IDs")

    @abstractmethod
    def start(self, histories: Histories) -> Prefixes:
        """Encode each history once and return its empty prefix, from which decoding starts.

        The prefixes' logits are over the backbone's tokens and equal those of ``forward``.
        """

    def item_scorer(self) -> ItemScorer | None:
        """A second opinion of its own, which scores whole items; None if it has none.

        The search can mix its scores in, see ``EvaluationConfig.item_weight``.
        """
        return None

    def take_over(self, trained: Backbone) -> None:
        """Copy the weights of a backbone trained on fewer items.

        Args:
            trained: A backbone of the same class, settings and sizes; its items are the first ones
                of this backbone's catalogue.
        """
        self.load_state_dict(trained.state_dict())

    def notes(self, data: SequenceSet) -> dict[str, Any]:
        """Extra evaluation results for a split, as JSON values.

        Called only if the backbone is an ``ItemScorer``.
        """
        return {}


class CodeBackbone(Backbone):
    """A backbone that generates the codes of semantic IDs in a vocabulary of its own.

    Args:
        codes: int64 ``(item, level)``, the semantic IDs in catalogue order.
        vocab: Maps codes to the backbone's tokens.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, vocab: CodeVocab) -> None:
        super().__init__(vocab.tokens(codes), vocab.num_tokens, vocab.trie(codes))
        self.register_buffer("codes", codes, persistent=False)
        self.vocab = vocab


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One training stage of a backbone.

    Attributes:
        name: Name of its folder.
        loss: Loss of the stage; None for the arm's objective.
        scorer: Ranks the validation targets, by which the epoch is chosen. None for a plain beam
            search, even if the backbone ranks differently at test time; backbones that share their
            training then choose the same epoch.
    """

    name: str
    loss: Callable[[TrainBatch], ObjectiveOutput] | None = None
    scorer: ItemScorer | None = None


WHOLE = Stage(name="whole")
"""The single stage of most backbones: train everything with the arm's objective."""


class TargetDistributions(Protocol):
    """The teacher's distributions over possible next tokens, for the targets of a batch."""

    def __call__(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Distributions at some positions of the targets' paths.

        Args:
            batch: The targets.
            at: The positions.

        Returns:
            Float ``(position, child)``, aligned to ``tca.candidates``, on the device of ``at``.
        """
        ...
