"""What a backbone is: a model that writes the next item as a path of tokens."""

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


@dataclass(frozen=True, eq=False)
class BuildContext:
    """What a backbone is built for.

    Attributes:
        codes: int64 ``(item, level)``, the semantic IDs in catalogue order.
        sizes: Number of codes of each level.
        seed: Of the initial weights.
        catalog: The items; None where nothing reads their texts.
        teacher: Trained, in eval mode; None where nothing reads one.
    """

    codes: Tensor
    sizes: tuple[int, ...]
    seed: int = 0
    catalog: Catalog | None = None
    teacher: ItemScorer | None = None


class Backbone(nn.Module, ABC):
    """A generator over the items of one catalogue, each of them a path of tokens.

    What the paths spell, codes or titles, is the backbone's own affair. Its ``trie`` is built from
    the same tokens, so a mask, a teacher's mass and a beam speak of the same axis.

    A subclass is built as ``cls(config, context)``, or ``cls(config, context, extra)`` where it
    has an ``extra_config_class``, and calls this constructor.

    Args:
        paths: int64 ``(item, pos)``, the tokens of each item in catalogue order; shorter paths are
            filled with -1.
        num_tokens: Size of the token axis.
    """

    label: ClassVar[str]
    """Its name in reports."""
    config_class: ClassVar[type[Any]]
    """Dataclass of its settings; classes that have the same one share these settings."""
    extra_config_class: ClassVar[type[Any] | None] = None
    """Dataclass of the settings that its family does not share."""
    needs_teacher: ClassVar[bool] = False
    """Whether it is built from a teacher, and so needs one to be served."""
    shares_weights_with: ClassVar[str | None] = None
    """Name of the backbone whose trained weights it reuses; only the ranking differs."""
    together: ClassVar[int] = 64
    """Positions of one depth are filled up to a multiple of this, see ``Positions``."""
    end_token: bool = False
    """Whether every path closes with an end token that is none of the item's own."""

    length_penalty: ClassVar[float] = 0.0
    """Power of a path's length that divides its score once a search has found it."""

    paths: Tensor

    def __init__(self, paths: Tensor, num_tokens: int) -> None:
        super().__init__()
        self.register_buffer("paths", paths, persistent=False)
        self.trie = CodeTrie.from_paths(paths, num_tokens)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.trie = self.trie.to(self.paths.device)  # the trie moves with the weights
        return self

    @classmethod
    def require_fit(cls, config: Any, catalog: Catalog, teacher: type[Any]) -> None:
        """Raise for what it cannot be built from, before anything is trained.

        Args:
            config: Of its ``config_class``.
            catalog: What it is to write.
            teacher: Class of the teacher.

        Raises:
            ValueError: If settings, items or teacher do not fit; says which and what to do.
        """

    @classmethod
    def learns_prompts(cls, asked: bool | None) -> bool:
        """Whether the tokens of its prompts have a loss too.

        Args:
            asked: What the settings say; None for what is usual with it.
        """
        return False

    @classmethod
    def training_settings(cls, config: Any, extra: Any) -> dict[str, Any]:
        """The settings that its weights depend on, as JSON values.

        Args:
            config: Of its ``config_class``.
            extra: Of its ``extra_config_class``, or None.
        """
        settings: dict[str, Any] = as_json(config)
        if extra is not None and cls.shares_weights_with is None:
            settings["own"] = as_json(extra)
        return settings

    @property
    def made_from(self) -> dict[str, str]:
        """Content hashes of what it is made from beside the semantic ids, by name."""
        return {}

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What it is trained in, one after another."""
        return (WHOLE,)

    def enter(self, stage: str | None) -> None:
        """Get ready for a stage: what that does not train is frozen.

        Args:
            stage: Its name; None after the last, when all that any of them trains is no longer
                frozen, and so counts as trained. A fresh backbone is as after None.
        """

    @property
    @abstractmethod
    def max_history(self) -> int:
        """Most items of a history that the backbone reads."""

    def windows(self, data: SequenceSet) -> Windows:
        """The windows that the backbone learns from: by default, one for every target."""
        return Windows.per_target(data, self.max_history)

    def posed(self, batch: TrainBatch) -> TrainBatch:
        """What a batch of windows is asked as; its ``target_items`` are rows of the paths.

        May draw from PyTorch's default generator, which training seeds in every epoch.
        """
        return batch

    def distributions(
        self, scorer: ItemScorer, train: SequenceSet, temperature: float
    ) -> TargetDistributions | None:
        """A teacher's distributions over the paths, where these are no items; else None.

        Args:
            scorer: The frozen teacher.
            train: The training sequences, from which its histories come.
            temperature: Divides its scores.
        """
        return None

    @abstractmethod
    def forward(self, batch: TrainBatch, at: Positions) -> Tensor | Projection:
        """Teacher-forced logits at some positions of the targets' paths.

        A backbone with a large vocabulary gives the states and weights they are the product of.

        Args:
            batch: What to learn from.
            at: Where logits are asked for: nothing is projected on the vocabulary elsewhere.

        Returns:
            Float ``(position, token)``, over the tokens after the path's own tokens before it.
            A token that cannot stand at a level may hold ``-inf``. Anything after the end of a
            shorter path.
        """

    def loss(
        self,
        batch: TrainBatch,
        at: Positions,
        of_paths: Callable[[Tensor | Projection], ObjectiveOutput],
    ) -> ObjectiveOutput:
        """What is trained by: the loss of the targets' paths, unless more has one.

        Args:
            batch: What to learn from.
            at: Where the paths have a loss.
            of_paths: Their loss, from what ``forward`` gives.
        """
        return of_paths(self(batch, at))

    @abstractmethod
    def start(self, histories: Histories) -> Prefixes:
        """Read each history once; the empty prefix after it, from which decoding goes on.

        The logits are over the backbone's tokens, and the same as ``forward``'s.
        """

    def take_over(self, trained: Backbone) -> None:
        """Take the weights of one that was trained for fewer items, which come first here.

        Args:
            trained: Of the same class, settings and sizes.
        """
        self.load_state_dict(trained.state_dict())

    def notes(self, data: SequenceSet) -> dict[str, Any]:
        """What there is to tell of a split beside the ranks of its targets, as JSON values.

        Only a backbone that is an ``ItemScorer`` is asked.
        """
        return {}


class CodeBackbone(Backbone):
    """A backbone that spells the codes of semantic ids through a vocabulary of its own.

    Args:
        codes: int64 ``(item, level)``, the semantic IDs in catalogue order.
        vocab: How the backbone spells them.
    """

    codes: Tensor

    def __init__(self, codes: Tensor, vocab: CodeVocab) -> None:
        super().__init__(vocab.tokens(codes), vocab.num_tokens)
        self.register_buffer("codes", codes, persistent=False)
        self.vocab = vocab


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """One training of several that a backbone goes through.

    Attributes:
        name: Of its folder.
        loss: Its own loss; None for the arm's objective.
        scorer: What ranks the validation targets, by which its epoch is chosen; None for a plain
            beam search, also where the backbone ranks otherwise: others that are trained alike
            then choose the same.
    """

    name: str
    loss: Callable[[TrainBatch], ObjectiveOutput] | None = None
    scorer: ItemScorer | None = None


WHOLE = Stage(name="whole")
"""All that there is to train, with the arm's objective."""


class TargetDistributions(Protocol):
    """The teacher's distributions over the tokens that may follow, for the targets of a batch."""

    def __call__(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Distributions at some positions of the targets' paths.

        Args:
            batch: The targets.
            at: Where they are asked for.

        Returns:
            Float ``(position, child)``, aligned to ``tca.candidates``, on the device of ``at``.
        """
        ...
