"""What servers are given: the trie of the items that may be recommended, in a model's tokens."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.language import LanguageBackbone
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import Backbone, CodeBackbone
from baselines.models.registry import is_searched
from baselines.models.trained import TrainedModel
from semid.arrays import IntArray
from semid.ids import SemanticIds
from semid.trie import CodeTrie
from semid.vocab import CodeVocab

ITEMS = "items.json"
"""List of item IDs; an item's number is its place in it."""

ITEMS_OF_PATHS = "items_of_paths.json"
"""Item IDs by path."""

_WITHOUT_ONE = "Train a model without, or export one row of a comparison with semid pick."


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportView:
    """A catalogue as servers see it.

    Attributes:
        source: Name for error messages.
        item_ids: IDs of all items, in catalogue order.
        trie: The paths of the items that may be recommended; its items are catalogue rows.
        vocab: What the tokens mean as codes; None if paths are titles.
        start: The token after which a path begins; None if there is none.
        end: The token that ends generation; None if there is none.
        inputs: Content hashes, by name, of what is exported.
        model: The model; None for semantic IDs alone.
    """

    source: str
    item_ids: list[str] | list[int]
    trie: CodeTrie
    vocab: CodeVocab | None
    start: int | None
    end: int | None
    inputs: dict[str, str]
    model: TrainedModel | None

    @classmethod
    def of_ids(cls, ids: SemanticIds, source: str) -> ExportView:
        """Semantic IDs alone, in TIGER's tokens: 0, then the codes of each level in turn."""
        vocab = CodeVocab.flat(ids.sizes)
        return cls(
            source=source,
            item_ids=ids.item_ids,
            trie=vocab.trie(ids.codes),
            vocab=vocab,
            start=None,
            end=None,
            inputs={"semantic_ids": ids.provenance.content},
            model=None,
        )

    @classmethod
    def of_model(cls, model: TrainedModel, source: str) -> ExportView:
        """A trained model, in its own tokens.

        Raises:
            ValueError: If its ranking is more than a search over its paths, or it writes no tokens
                one at a time.
        """
        _require_plain_search(model, source)
        backbone = model.backbone
        start, end = _ends(backbone)
        return cls(
            source=source,
            item_ids=model.items.catalog.item_ids,
            trie=_without(backbone, model.removed).to("cpu"),
            vocab=_vocab(model),
            start=start,
            end=end,
            inputs={
                "semantic_ids": model.items.ids.provenance.content,
                "model": model.identity["model"],
            },
            model=model,
        )

    @cached_property
    def leaves(self) -> Tensor:
        """The leaves, in the order of their paths; int64 ``(leaf,)``."""
        leaves = (self.trie.first_child.diff() == 0).nonzero().squeeze(1)
        return leaves[self.trie.first_item[leaves].argsort()]

    @cached_property
    def paths(self) -> Tensor:
        """The distinct paths, in order; int64 ``(leaf, depth)``, padded with -1 on the right."""
        depth = self.trie.depth_of(self.leaves)
        paths = torch.full((len(self.leaves), self.trie.depth), -1)
        node = self.leaves
        for level in range(self.trie.depth, 0, -1):
            here = depth >= level
            paths[here, level - 1] = self.trie.token_of_node[node[here]].long()
            node = torch.where(here, self.trie.parent_of_node[node].long(), node)
        return paths

    @property
    def arrays(self) -> tuple[IntArray, ...]:
        """Children and token of each node, and the items in the order of their paths."""
        trie = self.trie
        held = (trie.first_child, trie.token_of_node, trie.item_order)
        return tuple(part.numpy().astype(np.int64) for part in held)

    @property
    def is_ragged(self) -> bool:
        """Whether some paths are shorter than others."""
        return bool((self.paths < 0).any())

    def items_of_paths(self, paths: Tensor) -> str:
        """The items of each path, as JSON: ``{"12,5,7": [item, ...]}``.

        Args:
            paths: int64 ``(leaf, level)``, in the order of ``leaves``, padded with -1.
        """
        first, last = self.trie.first_item[self.leaves], self.trie.last_item[self.leaves]
        rows = self.trie.item_order.tolist()
        spans = zip(paths.tolist(), first.tolist(), last.tolist(), strict=True)
        found = {
            ",".join(str(token) for token in path if token >= 0): [
                self.item_ids[row] for row in rows[start:end]
            ]
            for path, start, end in spans
        }
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"))

    def require_equal_lengths(self, server: str) -> None:
        """Raise unless all paths have the same length.

        Args:
            server: Its name, for the error message.
        """
        if self.is_ragged:
            shortest = int((self.paths >= 0).sum(dim=1).min())
            raise ValueError(
                f"{server} holds paths of one length, got paths of {shortest} to "
                f"{self.trie.depth} tokens in {self.source}. Export it to hf, vllm or rtp-llm."
            )

    def require_codes(self, server: str) -> CodeVocab:
        """The codes that tokens stand for.

        Args:
            server: Its name, for the error message.

        Raises:
            ValueError: If paths are titles.
        """
        if self.vocab is None:
            raise ValueError(
                f"{server} holds paths of codes, got titles in {self.source}. Train the language "
                "model with --backbones.lm.items codes, or export it to hf, vllm or rtp-llm."
            )
        return self.vocab

    def require_model(self, server: str) -> TrainedModel:
        """The model.

        Args:
            server: Its name, for the error message.

        Raises:
            ValueError: If there are semantic IDs only.
        """
        if self.model is None:
            raise ValueError(
                f"{server} needs a model, got the semantic ids {self.source}. Name a folder that "
                "semid train or semid pick has written."
            )
        return self.model


def _require_plain_search(model: TrainedModel, source: str) -> None:
    """Refuse what no server's search over a trie can hold."""
    backbone, how = model.backbone, model.spec.evaluation
    second = model.items.second is not None or backbone.second_trie is not None
    by_item = isinstance(backbone, CausalBackbone) and backbone.config.input == "item"
    by_vectors = isinstance(backbone, LanguageBackbone) and backbone.reads_vectors
    trie_alone = f"Its trie alone is exported from {source}/ids."
    for found, what, cure in (
        (not is_searched(type(backbone)), "scores whole items", trie_alone),
        (second, "has two sets of semantic ids", _WITHOUT_ONE),
        (by_item, "reads one position an item, not a token each", trie_alone),
        (by_vectors, "reads vectors among the tokens of its prompts", trie_alone),
        (model.partner is not None, "has a partner in its beam", _WITHOUT_ONE),
        (model.fuse is not None, "corrects the scores of its beam", _WITHOUT_ONE),
        (how.slots > 0, "reserves slots in its lists", _WITHOUT_ONE),
        (backbone.length_penalty != 0, "divides scores by the length of paths", trie_alone),
        (backbone.reads_users, "reads user numbers", trie_alone),
    ):
        if found:
            raise ValueError(
                f"expected a model that a server can hold, one token a step, got {source}, a "
                f"{backbone.label} that {what}. {cure}"
            )


def _vocab(model: TrainedModel) -> CodeVocab | None:
    backbone = model.backbone
    if isinstance(backbone, CodeBackbone):
        return backbone.vocab
    if isinstance(backbone, LanguageBackbone) and backbone.added is not None:
        flat = CodeVocab.flat(model.items.ids.sizes, num_special=backbone.added.first)
        return dataclasses.replace(flat, num_tokens=backbone.trie.num_tokens)
    return None


def _ends(backbone: Backbone) -> tuple[int | None, int | None]:
    """The token before a path, and the one after it."""
    if isinstance(backbone, TigerBackbone):
        config = backbone.t5.config
        return config.decoder_start_token_id, config.pad_token_id
    if isinstance(backbone, LanguageBackbone):
        tail = backbone.prompts.tail
        start = int(tail[-1]) if len(tail) else None
        return start, backbone.tokenizer.eos_token_id
    return None, None


def _without(backbone: Backbone, removed: Collection[int]) -> CodeTrie:
    """The trie without some items, which keep their catalogue rows."""
    if not removed:
        return backbone.trie
    kept = torch.tensor([row for row in range(len(backbone.paths)) if row not in set(removed)])
    if not len(kept):
        raise ValueError("expected an item that may be recommended, got a model without one")
    trie = CodeTrie.from_paths(backbone.paths[kept], backbone.trie.num_tokens)
    return dataclasses.replace(trie, item_order=kept[trie.item_order.long()].to(torch.int32))
