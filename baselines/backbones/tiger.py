"""TIGER (arXiv:2305.05065): an encoder-decoder over flattened semantic IDs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.backbones.config import TigerConfig
from baselines.contracts.backbone import BuildContext, CodeBackbone
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.nn.dropout import Dropout
from baselines.nn.kv_cache import PrefixCache
from baselines.nn.t5 import Packing, Paths, Source, decode, encode, extend, make_causal
from semid.vocab import CodeVocab
from tca.candidates import Positions

_PAD = 0  # also the decoder's start token; codes begin at token 1


class TigerBackbone(CodeBackbone):
    """T5 from ``transformers`` that reads the codes of past items and generates those of the next.

    The softmax runs over padding and the codes of all levels, but not over separators or user
    tokens, which follow them in the input vocabulary and are never generated.

    With a causal encoder, which the paper does not have, all targets of a window are learned in one
    pass, each from the positions before it.
    """

    label: ClassVar[str] = "TIGER"
    config_class: ClassVar[type[Any]] = TigerConfig

    def __init__(self, config: TigerConfig, context: BuildContext) -> None:
        from transformers import T5Config, T5ForConditionalGeneration

        super().__init__(context.codes, CodeVocab.flat(context.sizes))
        self.config = config
        self.reads_users = config.user_tokens > 0
        t5 = T5Config(
            vocab_size=self.vocab.num_tokens + int(config.separator) + config.user_tokens,
            d_model=config.dim,
            d_kv=config.head_dim,
            d_ff=config.ff_dim,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            dropout_rate=config.dropout,
            pad_token_id=_PAD,
            eos_token_id=_PAD,
            **{"decoder_start_token_id": _PAD},  # type: ignore[arg-type]
        )
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            self.t5: Any = T5ForConditionalGeneration(t5)
        if config.attention == "causal":
            make_causal(self.t5.encoder)
        self.weights_dropout = Dropout(config.dropout)
        for module in list(self.t5.modules()):
            if hasattr(module, "dropout") and isinstance(module.dropout, nn.Dropout):
                module.dropout = Dropout(module.dropout.p)

    @property
    def max_history(self) -> int:
        """Maximum number of history items."""
        return self.config.max_history

    @property
    def _tokens_per_item(self) -> int:
        return self.paths.shape[1] + int(self.config.separator)

    def windows(self, data: SequenceSet) -> Windows:
        """One window per target; with a causal encoder, one per sequence with all its targets."""
        if self.config.attention == "causal":
            return Windows.per_sequence(data, self.config.max_history)
        return super().windows(data)

    def forward(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Teacher-forced logits; float ``(position, token)``.

        The targets of a window share its encoding: each reads what is before it, which its
        encoder must not have mixed with what comes later if there are several.
        """
        items = batch.windows.items
        tokens, mask = self.encoder_input(batch.windows.without_last())
        source = self._read(tokens, mask)
        num_targets = batch.target_row.bincount(minlength=len(items))
        paths = Paths(source.packing, num_targets, self._tokens_per_item)
        last = items.shape[1] - 1
        written = self.paths[items[paths.row, last - paths.age]]
        start = torch.full_like(written[:, :1], _PAD)
        written = torch.cat([start, written[:, :-1]], dim=1)
        states = decode(self.t5.decoder, written, source, paths, self.weights_dropout)
        path = paths.index(batch.target_row, last - batch.target_pos)
        return self.token_logits(states[path[at.target], at.pos])

    def start(self, histories: Histories) -> TigerPrefixes:
        """Encode each history once and feed the decoder its start token."""
        tokens, mask = self.encoder_input(histories.last(self.config.max_history))
        source = self._read(tokens, mask)
        start = torch.full_like(tokens[:, :1], _PAD)
        states, past = extend(self.t5.decoder, start, source, PrefixCache())
        return TigerPrefixes(self, source, states, past)

    def _read(self, tokens: Tensor, mask: Tensor) -> Source:
        packing = Packing(mask)
        encoded = encode(self.t5.encoder, tokens, packing, self.weights_dropout)
        return Source(self.t5.decoder, encoded, packing, self.weights_dropout)

    def encoder_input(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """The encoder's input tokens, int64, and mask, bool; both ``(batch, pos)``."""
        tokens, mask = self.paths[histories.items], histories.mask
        special = self.vocab.num_tokens
        if self.config.separator:
            tokens = torch.cat([tokens, torch.full_like(tokens[..., :1], special)], dim=-1)
            special += 1
        mask = mask.repeat_interleave(self._tokens_per_item, dim=1)
        tokens = tokens.flatten(1).masked_fill(~mask, _PAD)
        if self.config.user_tokens:
            # directly before the first item, so that padding does not change relative positions
            user = special + histories.users % self.config.user_tokens
            place = (~mask).sum(dim=1, keepdim=True)
            tokens = F.pad(tokens, (1, 0), value=_PAD).scatter(1, place, user[:, None])
            mask = F.pad(mask, (1, 0)).scatter(1, place, True)
        return tokens, mask

    def token_logits(self, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits of ``tokens`` (default: all) from the decoder's states; ``(..., token)``."""
        table = self.t5.shared.weight[: self.vocab.num_tokens]
        table = table if tokens is None else table[tokens]
        logits: Tensor = states * self.config.dim**-0.5 @ table.to(states.dtype).T
        return logits


@dataclass(frozen=True, eq=False)
class TigerPrefixes:
    """Prefixes decoded by TIGER.

    Attributes:
        backbone: The model.
        source: The encoded histories, shared by all prefixes; determines the row order here.
        states: float ``(batch, beam, dim)``, the decoder's states at the last tokens.
        past: Keys and values of the prefixes' tokens.
    """

    backbone: TigerBackbone
    source: Source
    states: Tensor
    past: PrefixCache

    @property
    def batch_size(self) -> int:
        """Number of histories."""
        return len(self.states)

    def logits(self, tokens: Tensor | None = None) -> Tensor:
        """Score the token that follows each prefix."""
        return self.backbone.token_logits(self.states[self.source.packing.place], tokens)

    def extend(self, parent: Tensor, token: Tensor) -> TigerPrefixes:
        """Extend each parent by one token."""
        order = self.source.packing.order
        past = self.past.reorder(parent[order])
        states, past = extend(self.backbone.t5.decoder, token[order], self.source, past)
        return TigerPrefixes(self.backbone, self.source, states, past)
