"""A decoder-only backbone that learns from every position of a sequence in one pass.

Unlike TIGER, which encodes one flattened history and decodes a single target from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from baselines.backbones.config import CausalConfig
from baselines.backbones.second_ids import CodeTables, SecondIds
from baselines.contracts.backbone import Backbone, BuildContext, CodeBackbone, PathLoss
from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.nn.dropout import Dropout
from baselines.nn.encoder import CausalEncoder, Past
from baselines.nn.kv_cache import PrefixCache
from baselines.nn.low_pass import LowPass
from semid.prefixes import gather_parents
from semid.scoring import item_log_probs
from semid.trie import CodeTrie
from semid.vocab import CodeVocab
from tca.candidates import Positions
from tca.objective import ObjectiveOutput
from tca.projection import Projection


class CausalBackbone(CodeBackbone):
    """Causal transformer over a user's items with a small autoregressive head over the levels.

    With one position per item, its input is the sum of its code embeddings and an embedding of
    its whole path, which stays zero for items absent from all training histories; the head sees
    the position's state plus the embeddings of the code prefix. With one position per code, the
    state already contains the prefix.

    With ``config.item_head`` the same state is also trained to score whole items: by its dot
    product with the vector, codes and path, that the item has as an input. Every path is then a
    negative at each target, so that the embeddings of paths without training events move, too;
    those of items added later are zero, and their codes alone score them.

    With ``context.second`` the same state is also trained to write a second ID of each item:
    through the same head, with tables of its own. EAGER (arXiv:2406.14017) likewise decodes two
    streams from one encoder. The input stays the sum of the first ID's codes and its path.
    """

    label: ClassVar[str] = "Causal"
    config_class: ClassVar[type[Any]] = CausalConfig
    path_of_item: Tensor
    item_of_path: Tensor
    items_of_path: Tensor

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
                item_of_path = torch.empty_like(paths, dtype=torch.int64)
                item_of_path[path_of_item] = torch.arange(len(path_of_item), device=paths.device)
                self.register_buffer("item_of_path", item_of_path, persistent=False)
                of_path = path_of_item.bincount().float()
                self.register_buffer("items_of_path", of_path, persistent=False)
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
            self.second = None if context.second is None else SecondIds(context.second, dim)
        self.learns_items = config.item_head > 0

    @classmethod
    def takes_second_ids(cls, config: CausalConfig) -> bool:
        """Whether the state before a target, from which both IDs are written, is one per item."""
        return config.input == "item"

    @property
    def second_trie(self) -> CodeTrie | None:
        """The paths of its second set of IDs; None if it has one set."""
        return None if self.second is None else self.second.trie

    @property
    def input_hashes(self) -> dict[str, str]:
        """The content hash of the second set of IDs, if there is one."""
        return {} if self.second is None else {"second_ids": self.second.content}

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
        if self.config.input == "item":
            return self._code_logits(self._target_states(batch), batch, at, self)
        window, levels = batch.windows, self.codes.shape[1]
        row, pos = batch.target_row[at.target], batch.target_pos[at.target]
        mask = window.mask.repeat_interleave(levels, dim=1)
        states, _ = self.encoder(self._embed_items(window.items, distance=0), mask)
        before = states[row, pos * levels - 1 + at.pos]  # state of the position before the code
        return self._level_logits(before, at, self)

    def loss(
        self,
        batch: TrainBatch,
        at: Positions,
        of_paths: Callable[[Tensor | Projection], ObjectiveOutput],
    ) -> ObjectiveOutput:
        """The loss of the paths, plus ``config.item_head`` times that of whole items.

        The cross-entropy among all paths, with the labels ``(1 - alpha) * target + alpha * p`` of
        ``batch.item_labels`` or the target alone, is summed over targets and divided by the number
        of supervised positions, of which the paths' loss is the mean. At weight 1 a target thus
        costs ``-log P(codes) - log P(item)``.

        Returns:
            The loss; its part ``item`` is that of the items, unweighted.
        """
        if not self.config.item_head:
            return super().loss(batch, at, of_paths)
        states = self._target_states(batch)
        codes = of_paths(self._code_logits(states, batch, at, self))
        return self._with_items(codes, states, batch)

    def loss_of_both(self, batch: TrainBatch, first: PathLoss, second: PathLoss) -> ObjectiveOutput:
        """``loss``, plus that of the second IDs, per supervised position of the first.

        A target thus costs ``-log P(codes) - log P(second codes)``, however many codes each has.

        Returns:
            The loss; its part ``second`` is that of the second IDs.
        """
        assert self.second is not None
        states = self._target_states(batch)
        codes = first.of(self._code_logits(states, batch, first.at, self))
        other = second.of(self._code_logits(states, batch, second.at, self.second))
        of_second = other.loss * other.count / codes.count.clamp_min(1)
        both = _with_part(codes, "second", of_second)
        return self._with_items(both, states, batch) if self.config.item_head else both

    def _with_items(
        self, codes: ObjectiveOutput, states: Tensor, batch: TrainBatch
    ) -> ObjectiveOutput:
        items = self._item_loss(states, batch) / codes.count.clamp_min(1)
        return _with_part(codes, "item", items, weight=self.config.item_head)

    def _item_loss(self, states: Tensor, batch: TrainBatch) -> Tensor:
        """Sum over targets of the cross-entropy among all paths."""
        vectors = self._path_vectors()
        logits = self._dot(states, vectors).float()
        everywhere = self._dot(states, self.items_of_path @ vectors).float()
        expected = self._expected_logit(logits, everywhere, batch)
        return (logits.logsumexp(dim=1) - expected).sum()

    def _expected_logit(self, logits: Tensor, everywhere: Tensor, batch: TrainBatch) -> Tensor:
        """Mean logit under the items' labels; float32 ``(target,)``.

        Args:
            logits: float32 ``(target, path)``.
            everywhere: float32 ``(target,)``, their sum over all items.
            batch: The targets, and their labels if there are any.
        """
        target, labels = batch.target_items.unsqueeze(1), batch.item_labels
        if labels is None:
            return logits.gather(1, self.path_of_item[target]).squeeze(1)
        own = torch.full_like(labels.rest, 1 - labels.alpha).unsqueeze(1)
        above = labels.alpha * (labels.p - labels.rest.unsqueeze(1))
        listed = self.path_of_item[torch.cat([target, labels.items], dim=1)]
        mean = (torch.cat([own, above], dim=1) * logits.gather(1, listed)).sum(dim=1)
        return mean + labels.alpha * labels.rest * everywhere

    def item_scorer(self) -> ItemScorer | None:
        """The item head, the second IDs, or both; None if it has neither."""
        return ItemOpinion(self) if self.config.item_head or self.second is not None else None

    def item_scores(self, histories: Histories) -> Tensor:
        """Scores of all items after each history; float32 ``(batch, item)``.

        The logits of the item head, or the log-probabilities of the second IDs; with both, the mean
        of the log-probabilities of either.
        """
        empty, scores = self.start(histories), []
        if self.config.item_head:
            logits = self._dot(empty.hidden[:, 0], self._path_vectors()).float()
            scores.append(logits[:, self.path_of_item])
        if self.second is not None:
            scores.append(item_log_probs(replace(empty, ids=self.second), self.second.trie))
        if len(scores) == 1:
            return scores[0]
        return torch.stack([each.log_softmax(dim=1) for each in scores]).mean(dim=0)

    def _target_states(self, batch: TrainBatch) -> Tensor:
        """State of the position before each target, one per item; ``(target, dim)``."""
        past = batch.windows.without_last()
        states, _ = self.encoder(self._embed_items(past.items), past.mask)
        before: Tensor = states[batch.target_row, batch.target_pos - 1]
        return before

    def _path_vectors(self) -> Tensor:
        """Input vectors of all paths; ``(path, dim)``."""
        codes = self._embed_codes(self.codes[self.item_of_path]).sum(dim=-2)
        vectors: Tensor = codes + self._scaled(self.path_embedding.weight)
        return vectors

    def _dot(self, states: Tensor, vectors: Tensor) -> Tensor:
        """Scaled dot products of states ``(batch, dim)`` and vectors ``(..., dim)``."""
        product: Tensor = F.linear(states, vectors) / self.config.encoder.dim**0.5
        return product

    def _code_logits(
        self, states: Tensor, batch: TrainBatch, at: Positions, ids: CodeTables
    ) -> Tensor:
        """Logits of the codes of one set of IDs from the targets' states ``(target, dim)``."""
        prefixes = self._prefixes(ids.codes[batch.target_items][:, :-1], ids)
        return self._level_logits(states[at.target] + prefixes[at.target, at.pos], at, ids)

    def _level_logits(self, hidden: Tensor, at: Positions, ids: CodeTables) -> Tensor:
        """Logits of the level of each position, whose levels ascend."""
        hidden = self._head(hidden)
        sizes = at.pos.bincount(minlength=ids.codes.shape[1]).tolist()
        parts = enumerate(torch.split(hidden, sizes))
        return torch.cat([_logits(part, level, ids) for level, part in parts])

    def start(self, histories: Histories) -> CausalPrefixes:
        """Run the transformer over each history once."""
        past = histories.last(self.config.max_history)
        positions_an_item = 1 if self.config.input == "item" else self.codes.shape[1]
        mask = past.mask.repeat_interleave(positions_an_item, dim=1)
        states, cache = self.encoder(self._embed_items(past.items), mask)
        state = states[:, -1:]
        if self.config.input == "item":
            cache = []  # the state holds everything
        return CausalPrefixes(self, self, Past(cache, mask), state, 0, PrefixCache())

    def next_logits(
        self, hidden: Tensor, level: int, tokens: Tensor | None, ids: CodeTables
    ) -> Tensor:
        """Logits of the next code after each prefix; float ``(batch, beam, token)``.

        Args:
            hidden: float ``(batch, beam, dim)``, states of the prefixes.
            level: The level of the next code.
            tokens: int64 ``(n,)``, codes to score; all by default.
            ids: The set of IDs that is written.
        """
        if self.config.input == "item":
            hidden = hidden + ids.level_embedding.weight[level]
        if tokens is None:
            return _logits(self._head(hidden), level, ids)
        head: nn.Linear = ids.heads[level]  # type: ignore[assignment]
        return F.linear(self._head(hidden), head.weight[tokens], head.bias[tokens])

    def read_code(
        self, hidden: Tensor, level: int, token: Tensor, history: Past, prefixes: PrefixCache
    ) -> tuple[Tensor, PrefixCache]:
        """Extend prefixes by one code, with one position per code.

        Args:
            hidden: States ``(batch, beam, dim)`` of the shorter prefixes.
            level: The level of the code.
            token: int64 ``(batch, beam)``, the code.
            history: Keys and values of the histories.
            prefixes: Cache of the prefixes.

        Returns:
            The states of the longer prefixes, ``(batch, beam, dim)``, and their cache.
        """
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

    def _prefixes(self, codes: Tensor, ids: CodeTables) -> Tensor:
        """Vectors of all prefixes of ``codes``, shortest first; ``(..., level + 1, dim)``."""
        empty = torch.zeros(*codes.shape[:-1], self.config.encoder.dim, device=codes.device)
        levels = zip(codes.unbind(-1), ids.prefix_embeddings, strict=False)
        parts = torch.stack([empty, *(table(code) for code, table in levels)], dim=-2)
        return parts.cumsum(dim=-2) + ids.level_embedding.weight[: parts.shape[-2]]

    def _head(self, hidden: Tensor) -> Tensor:
        """Residual MLP before each level's output."""
        inner = self.head_out(self.dropout(F.relu(self.head_in(self.head_norm(hidden)))))
        normed: Tensor = self.out_norm(hidden + self.dropout(inner))
        return normed


def _logits(hidden: Tensor, level: int, ids: CodeTables) -> Tensor:
    """Logits of a level from the output of the head; ``-inf`` for codes it does not have."""
    logits: Tensor = ids.heads[level](hidden)
    return F.pad(logits, (0, ids.vocab.num_tokens - logits.shape[-1]), value=-torch.inf)


def _with_part(
    found: ObjectiveOutput, name: str, loss: Tensor, *, weight: float = 1.0
) -> ObjectiveOutput:
    """A loss that is added to another, and named among its parts."""
    parts = {**found.parts, name: loss.detach()}
    return replace(found, loss=found.loss + weight * loss, parts=parts)


def _low_pass(config: CausalConfig, levels: int) -> LowPass | None:
    if not config.filter_share:
        return None
    # with one position per code, the target's own codes are read too
    length = config.max_history if config.input == "item" else (config.max_history + 1) * levels
    return LowPass(
        share=config.filter_share, length=length, num_frequencies=config.filter_cutoff // 2 + 1
    )


class ItemOpinion:
    """What the item head and the second IDs of a causal backbone say of the whole catalogue.

    Args:
        backbone: The backbone, in eval mode, with either.
    """

    label = "item opinion"

    def __init__(self, backbone: CausalBackbone) -> None:
        self._backbone = backbone

    @property
    def max_history(self) -> int:
        """That of the backbone."""
        return self._backbone.max_history

    @torch.no_grad()
    def score(self, histories: Histories) -> Tensor:
        """As ``CausalBackbone.item_scores``."""
        return self._backbone.item_scores(histories)


@dataclass(frozen=True, eq=False)
class CausalPrefixes:
    """Prefixes decoded by the causal backbone.

    Attributes:
        backbone: The model.
        ids: The set of IDs that is written: its own, or the second.
        history: Keys and values of the histories, shared by all prefixes.
        hidden: float ``(batch, beam, dim)``, the states of the prefixes.
        level: Number of codes in each prefix.
        cache: Keys and values of the prefixes; empty with one position per item, where
            ``hidden`` holds all there is.
    """

    backbone: CausalBackbone
    ids: CodeTables
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
        return self.backbone.next_logits(self.hidden, self.level, tokens, self.ids)

    def extend(self, parent: Tensor, token: Tensor) -> CausalPrefixes:
        """Extend each parent by one code."""
        hidden, cache = gather_parents(self.hidden, parent), self.cache.reorder(parent)
        if self.backbone.config.input == "item":
            hidden = hidden + self.ids.prefix_embeddings[self.level](token)
        else:
            hidden, cache = self.backbone.read_code(hidden, self.level, token, self.history, cache)
        return replace(self, hidden=hidden, level=self.level + 1, cache=cache)
