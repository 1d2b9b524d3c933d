"""What a backbone is: a model that writes the next item as a path of tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import Self

from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from semid.prefixes import Prefixes
from semid.trie import CodeTrie
from semid.vocab import CodeVocab
from tca.candidates import Positions
from tca.projection import Projection


class Backbone(nn.Module, ABC):
    """A generator over the codes of one catalogue.

    A backbone spells codes as tokens through its ``vocab``; its ``trie`` is built from the same
    tokens, so a mask, a teacher's mass and a beam speak of the same axis.

    Args:
        codes: int64 ``(item, level)``, the semantic IDs in catalogue order.
        vocab: How the backbone spells them.
    """

    label: ClassVar[str]
    codes: Tensor

    def __init__(self, codes: Tensor, vocab: CodeVocab) -> None:
        super().__init__()
        self.register_buffer("codes", codes, persistent=False)
        self.vocab = vocab
        self.trie = CodeTrie.from_paths(vocab.tokens(codes), vocab.num_tokens)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.trie = self.trie.to(self.codes.device)  # the trie moves with the weights
        return self

    @property
    @abstractmethod
    def max_history(self) -> int:
        """Most items of a history that the backbone reads."""

    @abstractmethod
    def windows(self, data: SequenceSet) -> Windows:
        """The windows that the backbone learns from."""

    @abstractmethod
    def forward(self, batch: TrainBatch, at: Positions) -> Tensor | Projection:
        """Teacher-forced logits at some positions of the targets' paths.

        A backbone with a large vocabulary gives the states and weights they are the product of.

        Args:
            batch: What to learn from.
            at: Where logits are asked for: nothing is projected on the vocabulary elsewhere.

        Returns:
            Float ``(position, token)``, over the tokens after the true codes of the levels before.
            A token that cannot stand at a level may hold ``-inf``.
        """

    @abstractmethod
    def start(self, histories: Histories) -> Prefixes:
        """Read each history once; the empty prefix after it, from which decoding goes on.

        The logits are over the backbone's tokens, and the same as ``forward``'s.
        """
