"""A decoder-only backbone that learns from every position of a sequence in one pass.

Unlike TIGER, which encodes one flattened history and decodes a single target from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import Backbone, BuildContext, CodeBackbone
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.nn.dropout import Dropout
from baselines.nn.encoder import CausalEncoder, Past
from baselines.nn.kv_cache import PrefixCache
from baselines.nn.low_pass import LowPass
from semid.prefixes import gather_parents
from semid.vocab import CodeVocab
from tca.candidates import Positions


class CausalBackbone(CodeBackbone):
    """Causal transformer over a user's items with a small autoregressive head over the levels.

    With one position per item, its input is the sum of its code embeddings and an embedding of
    its whole path, which stays zero for items absent from all training histories; the head sees
    the position's state plus the embeddings of the code prefix. With one position per code, the
    state already contains the prefix.
    """

    label: ClassVar[str] = "Causal"
    config_class: ClassVar[type[Any]] = CausalConfig
    path_of_item: Tensor

    def __init__(self, config: CausalConfig, context: BuildContext) -> None:
        sizes = context.sizes
        super().__init__(context.codes, CodeVocab.per_level(sizes))
        self.config = config
        dim = config.encoder.dim
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            self.code_embeddings = nn.ModuleList(nn.Embedding(size, dim) for size in sizes)
            self.level_embedding = nn.Embedding(len(sizes), dim)
            self.position_embedding = nn.Embedding(config.max_history + 1, dim)
            self.encoder = CausalEncoder(config.encoder, low_pass=_low_pass(config, len(sizes)))
            if config.input == "item":
                paths, path_of_item = torch.unique(self.trie.node_of_item, return_inverse=True)
                self.register_buffer("path_of_item", path_of_item, persistent=False)
                self.path_embedding = nn.Embedding(len(paths), dim)
                self.path_dropout = Dropout(config.path_dropout)
                self.prefix_embeddings = nn.ModuleList(nn.Embedding(s, dim) for s in sizes[:-1])
            self.head_norm = nn.LayerNorm(dim)
            self.head_in = nn.Linear(dim, config.encoder.ff_dim)
            self.head_out = nn.Linear(config.encoder.ff_dim, dim)
            self.out_norm = nn.LayerNorm(dim)
            self.heads = nn.ModuleList(nn.Linear(dim, size) for size in sizes)
            self.dropout = Dropout(config.encoder.dropout)
            for module in self.modules():
                if isinstance(module, nn.Embedding):
                    nn.init.normal_(module.weight, std=0.02)
            if config.input == "item":
                nn.init.zeros_(self.path_embedding.weight)

    @property
    def max_history(self) -> int:
        """Maximum number of history items."""
        return self.config.max_history

    def take_over(self, trained: Backbone) -> None:
        """Copy the weights; new items get zero path embeddings, like any item never trained on."""
        weights = trained.state_dict()
        if self.config.input == "item":
            known = cast("Tensor", trained.path_of_item)
            table = torch.zeros_like(self.path_embedding.weight)
            table[self.path_of_item[: len(known)]] = weights["path_embedding.weight"][known].to(
                table
            )
            weights["path_embedding.weight"] = table
        self.load_state_dict(weights)

    def windows(self, data: SequenceSet) -> Windows:
        """One window per sequence, with all its targets."""
        return Windows.per_sequence(data, self.config.max_history)

    def forward(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Teacher-forced logits; float ``(position, token)``."""
        window = batch.windows
        row, pos = batch.target_row[at.target], batch.target_pos[at.target]
        if self.config.input == "item":
            past = window.without_last()
            states, _ = self.encoder(self._embed_items(past.items), past.mask)
            prefixes = self._prefixes(self.codes[batch.target_items][:, :-1])
            hidden = states[row, pos - 1] + prefixes[at.target, at.pos]
        else:
            levels = self.codes.shape[1]
            mask = window.mask.repeat_interleave(levels, dim=1)
            states, _ = self.encoder(self._embed_items(window.items, distance=0), mask)
            hidden = states[row, pos * levels - 1 + at.pos]  # state of the position before the code
        hidden = self._head(hidden)
        sizes = at.pos.bincount(minlength=self.codes.shape[1]).tolist()
        parts = enumerate(torch.split(hidden, sizes))
        return torch.cat([self._logits(part, level) for level, part in parts])

    def start(self, histories: Histories) -> CausalPrefixes:
        """Run the transformer over each history once."""
        past = histories.last(self.config.max_history)
        positions_an_item = 1 if self.config.input == "item" else self.codes.shape[1]
        mask = past.mask.repeat_interleave(positions_an_item, dim=1)
        states, cache = self.encoder(self._embed_items(past.items), mask)
        state = states[:, -1:]
        if self.config.input == "item":
            cache = []  # the state holds everything
        return CausalPrefixes(self, Past(cache, mask), state, 0, PrefixCache())

    def next_logits(self, hidden: Tensor, level: int, tokens: Tensor | None) -> Tensor:
        """Logits of the next code after each prefix; float ``(batch, beam, token)``.

        Args:
            hidden: float ``(batch, beam, dim)``, states of the prefixes.
            level: The level of the next code.
            tokens: int64 ``(n,)``, codes to score; all by default.
        """
        if self.config.input == "item":
            hidden = hidden + self.level_embedding.weight[level]
        if tokens is None:
            return self._logits(self._head(hidden), level)
        head: nn.Linear = self.heads[level]  # type: ignore[assignment]
        return F.linear(self._head(hidden), head.weight[tokens], head.bias[tokens])

    def read_code(
        self, hidden: Tensor, level: int, token: Tensor, history: Past, prefixes: PrefixCache
    ) -> tuple[Tensor, PrefixCache]:
        """Extend prefixes by one code; returns their states ``(batch, beam, dim)`` and cache.

        Args:
            hidden: States ``(batch, beam, dim)`` of the shorter prefixes.
            level: The level of the code.
            token: int64 ``(batch, beam)``, the code.
            history: Keys and values of the histories.
            prefixes: Cache of the prefixes, used where positions are codes.
        """
        if self.config.input == "item":
            return hidden + self.prefix_embeddings[level](token), prefixes
        x = self._scaled(self.code_embeddings[level](token)) + self.level_embedding.weight[level]
        return self.encoder.extend(x + self.position_embedding.weight[0], history, prefixes)

    def _embed_codes(self, codes: Tensor) -> Tensor:
        """Embeddings of the codes ``(..., level)`` of the first levels; ``(..., level, dim)``."""
        levels = zip(codes.unbind(-1), self.code_embeddings, strict=False)
        vectors = torch.stack([table(code) for code, table in levels], dim=-2)
        return self._scaled(vectors)

    def _embed_items(self, items: Tensor, *, distance: int = 1) -> Tensor:
        """Inputs for items ``(batch, pos)``; the last is ``distance`` before the target."""
        away = torch.arange(items.shape[1] - 1, -1, -1, device=items.device) + distance
        position: Tensor = self.position_embedding(away)
        codes = self._embed_codes(self.codes[items])
        if self.config.input == "item":
            kept = self.path_dropout(torch.ones(items.shape, device=items.device)).unsqueeze(-1)
            path = self._scaled(self.path_embedding(self.path_of_item[items]))
            vector: Tensor = codes.sum(dim=-2) + kept * path + position
            return vector
        x = codes + self.level_embedding.weight + position[:, None]
        return rearrange(x, "batch pos level dim -> batch (pos level) dim")

    def _scaled(self, vectors: Tensor) -> Tensor:
        """Scale embeddings so that the layers' outputs do not dominate them."""
        scaled: Tensor = vectors * self.config.encoder.dim**0.5
        return scaled

    def _prefixes(self, codes: Tensor) -> Tensor:
        """Vectors of all prefixes of ``codes``, shortest first; ``(..., level + 1, dim)``."""
        empty = torch.zeros(*codes.shape[:-1], self.config.encoder.dim, device=codes.device)
        levels = zip(codes.unbind(-1), self.prefix_embeddings, strict=False)
        parts = torch.stack([empty, *(table(code) for code, table in levels)], dim=-2)
        return parts.cumsum(dim=-2) + self.level_embedding.weight[: parts.shape[-2]]

    def _logits(self, hidden: Tensor, level: int) -> Tensor:
        """Logits of a level from the output of ``_head``; ``-inf`` for codes it does not have."""
        logits: Tensor = self.heads[level](hidden)
        return F.pad(logits, (0, self.vocab.num_tokens - logits.shape[-1]), value=-torch.inf)

    def _head(self, hidden: Tensor) -> Tensor:
        """Residual MLP before each level's output."""
        inner = self.head_out(self.dropout(F.relu(self.head_in(self.head_norm(hidden)))))
        normed: Tensor = self.out_norm(hidden + self.dropout(inner))
        return normed


def _low_pass(config: CausalConfig, levels: int) -> LowPass | None:
    if not config.filter_share:
        return None
    # with one position per code, the target's own codes are read too
    length = config.max_history if config.input == "item" else (config.max_history + 1) * levels
    return LowPass(
        share=config.filter_share, length=length, num_frequencies=config.filter_cutoff // 2 + 1
    )


@dataclass(frozen=True, eq=False)
class CausalPrefixes:
    """Prefixes decoded by the causal backbone.

    Attributes:
        backbone: The model.
        history: Keys and values of the histories, shared by all prefixes.
        hidden: float ``(batch, beam, dim)``, the states of the prefixes.
        level: Number of codes in each prefix.
        cache: Keys and values of the prefixes; empty with one position per item, where
            ``hidden`` holds all there is.
    """

    backbone: CausalBackbone
    history: Past
    hidden: Tensor
    level: int
    cache: PrefixCache

    @property
    def batch_size(self) -> int:
        """Number of histories."""
        return len(self.hidden)

    def logits(self, tokens: Tensor | None = None) -> Tensor:
        """Score the code that follows each prefix."""
        return self.backbone.next_logits(self.hidden, self.level, tokens)

    def extend(self, parent: Tensor, token: Tensor) -> CausalPrefixes:
        """Extend each parent by one code."""
        hidden, cache = gather_parents(self.hidden, parent), self.cache.reorder(parent)
        hidden, cache = self.backbone.read_code(hidden, self.level, token, self.history, cache)
        return CausalPrefixes(self.backbone, self.history, hidden, self.level + 1, cache)
