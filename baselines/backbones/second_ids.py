"""A second set of semantic IDs, which a backbone learns beside its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Self

from torch import Tensor, nn

from semid.vocab import CodeVocab

if TYPE_CHECKING:
    from semid.ids import SemanticIds


class CodeTables(Protocol):
    """A set of semantic IDs, and the tables with which a backbone's head writes it.

    Attributes:
        codes: int64 ``(item, level)``.
        vocab: Tokens of the codes, per level.
        level_embedding: A vector for each level.
        prefix_embeddings: For each level but the last, a vector for each code.
        heads: For each level, the logits of its codes.
    """

    codes: Tensor
    vocab: CodeVocab
    level_embedding: nn.Embedding
    prefix_embeddings: nn.ModuleList
    heads: nn.ModuleList


class SecondIds(nn.Module):
    """The codes and trie of a second ID of each item, and the tables that write them.

    Args:
        ids: The semantic IDs, in catalogue order.
        dim: Width of the backbone.
    """

    codes: Tensor

    def __init__(self, ids: SemanticIds, dim: int) -> None:
        super().__init__()
        self.register_buffer("codes", ids.codes, persistent=False)
        self.content = ids.provenance.content
        self.vocab = CodeVocab.per_level(ids.sizes)
        self.trie = self.vocab.trie(ids.codes)
        self.level_embedding = nn.Embedding(len(ids.sizes), dim)
        self.prefix_embeddings = nn.ModuleList(nn.Embedding(size, dim) for size in ids.sizes[:-1])
        self.heads = nn.ModuleList(nn.Linear(dim, size) for size in ids.sizes)
        for table in (self.level_embedding, *self.prefix_embeddings):
            nn.init.normal_(table.weight, std=0.02)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.trie = self.trie.to(self.codes.device)  # the trie moves with the weights
        return self
