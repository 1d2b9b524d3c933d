"""TIGER (arXiv:2305.05065): an encoder-decoder over flattened semantic IDs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from baselines.backbones.backbone import Backbone
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.dropout import Dropout
from semid.vocab import CodeVocab

if TYPE_CHECKING:
    from transformers.models.t5.modeling_t5 import T5Attention

_PAD = 0  # also the decoder's start; codes begin at token 1


@dataclass(frozen=True, kw_only=True)
class TigerConfig:
    """Shape of TIGER (arXiv:2305.05065, section 4.1) and what stands in its input.

    Attributes:
        num_layers: Of the encoder and of the decoder.
        dim: Width of the model.
        num_heads: Attention heads.
        head_dim: Width of a head.
        ff_dim: Width of the feed-forward layers.
        dropout: Dropout rate.
        max_history: Most items looked back on.
        user_tokens: Number of user tokens; a user's is ``user mod user_tokens``. 0 for none, which
            reproductions found best; the paper has 2000.
        separator: Whether a separator token follows each item.
    """

    num_layers: int = 4
    dim: int = 128
    num_heads: int = 6
    head_dim: int = 64
    ff_dim: int = 1024
    dropout: float = 0.1
    max_history: int = 20
    user_tokens: int = 0
    separator: bool = False


@dataclass(frozen=True)
class TigerContext:
    """Cross-attention keys and values of each decoder layer, ``(batch, head, pos, head_dim)``."""

    keys_values: list[tuple[Tensor, Tensor]]
    bias: Tensor  # (batch, 1, 1, pos), -inf at padding


class TigerBackbone(Backbone):
    """T5 from ``transformers`` that reads the codes of the last items and writes those of the next.

    Output only over tokens that exist: the softmax runs over padding and the codes of all levels,
    not over separators or user tokens, which stand behind them in the input vocabulary.
    """

    label: ClassVar[str] = "TIGER"

    def __init__(
        self, config: TigerConfig, codes: Tensor, sizes: tuple[int, ...], seed: int
    ) -> None:
        from transformers import T5Config, T5ForConditionalGeneration

        super().__init__(codes, CodeVocab.flat(sizes))
        self.config = config
        self.register_buffer("item_tokens", self.vocab.tokens(codes), persistent=False)
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
            # the fused kernel's bfloat16 backward is slow on CPU
            **{"decoder_start_token_id": _PAD, "attn_implementation": "eager"},  # type: ignore[arg-type]
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.t5: Any = T5ForConditionalGeneration(t5)
        for module in list(self.t5.modules()):
            if hasattr(module, "dropout") and isinstance(module.dropout, nn.Dropout):
                module.dropout = Dropout(module.dropout.p)

    item_tokens: Tensor

    @property
    def max_history(self) -> int:
        """Most items looked back on."""
        return self.config.max_history

    def windows(self, data: SequenceSet) -> Windows:
        """One target a window."""
        return Windows.per_target(data, self.config.max_history)

    def forward(self, batch: TrainBatch) -> Tensor:
        """Teacher-forced logits; float ``(target, level, token)``."""
        past = batch.windows.without_last()
        tokens, mask = self.encoder_input(past)
        encoded = self.t5.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        written = self.item_tokens[batch.target_items]
        start = torch.full_like(written[:, :1], _PAD)
        states = self.t5.decoder(
            input_ids=torch.cat([start, written[:, :-1]], dim=1),
            encoder_hidden_states=encoded,
            encoder_attention_mask=mask,
            use_cache=False,
        ).last_hidden_state
        return self._logits(states)

    def context(self, histories: Histories) -> TigerContext:
        """Encode each history once."""
        tokens, mask = self.encoder_input(histories.last(self.config.max_history))
        encoded = self.t5.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        bias = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
        attentions = [block.layer[1].EncDecAttention for block in self.t5.decoder.block]
        return TigerContext(
            keys_values=[
                (self._heads(layer.k(encoded)), self._heads(layer.v(encoded)))
                for layer in attentions
            ],
            bias=bias[:, None, None, :],
        )

    def next_logits(self, context: TigerContext, prefix: Tensor) -> Tensor:
        """Logits of the token after each prefix; float ``(batch, beam, token)``.

        Walks the decoder's own layers with all beams of a history side by side, so that its
        cross-attention keys exist once, not once a beam.
        """
        start = prefix.new_full((*prefix.shape[:2], 1), _PAD)
        x = self.t5.shared(torch.cat([start, prefix], dim=2))  # (batch, beam, pos, dim)
        batch, beam, pos, _ = x.shape
        first = self.t5.decoder.block[0].layer[0].SelfAttention
        self_bias = first.compute_bias(pos, pos)
        self_bias = self_bias + torch.full((pos, pos), -torch.inf, device=x.device).triu(1)
        for block, (keys, values) in zip(self.t5.decoder.block, context.keys_values, strict=True):
            own, cross, feed_forward = block.layer
            flat = rearrange(own.layer_norm(x), "batch beam pos dim -> (batch beam) pos dim")
            layer: T5Attention = own.SelfAttention
            query, key, value = (self._heads(f(flat)) for f in (layer.q, layer.k, layer.v))
            mixed = layer.o(_attend(query, key, value, self_bias))
            x = x + rearrange(mixed, "(batch beam) pos dim -> batch beam pos dim", batch=batch)
            layer = cross.EncDecAttention
            flat = rearrange(cross.layer_norm(x), "batch beam pos dim -> batch (beam pos) dim")
            mixed = layer.o(_attend(self._heads(layer.q(flat)), keys, values, context.bias))
            x = x + rearrange(mixed, "batch (beam pos) dim -> batch beam pos dim", beam=beam)
            x = feed_forward(x)
        return self._logits(self.t5.decoder.final_layer_norm(x[:, :, -1]))

    def encoder_input(self, histories: Histories) -> tuple[Tensor, Tensor]:
        """Tokens that the encoder reads, int64, and their mask, bool; both ``(batch, pos)``."""
        tokens, mask = self.item_tokens[histories.items], histories.mask
        special = self.vocab.num_tokens
        if self.config.separator:
            tokens = torch.cat([tokens, torch.full_like(tokens[..., :1], special)], dim=-1)
            special += 1
        mask = mask.repeat_interleave(tokens.shape[-1], dim=1)
        tokens = tokens.flatten(1).masked_fill(~mask, _PAD)
        if self.config.user_tokens:
            # directly before the first item, so that padding changes no distance between tokens
            user = special + histories.users % self.config.user_tokens
            place = (~mask).sum(dim=1, keepdim=True)
            tokens = F.pad(tokens, (1, 0), value=_PAD).scatter(1, place, user[:, None])
            mask = F.pad(mask, (1, 0)).scatter(1, place, True)
        return tokens, mask

    def _heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "batch pos (head dim) -> batch head pos dim", dim=self.config.head_dim)

    def _logits(self, states: Tensor) -> Tensor:
        table = self.t5.shared.weight[: self.vocab.num_tokens]
        logits: Tensor = states * self.config.dim**-0.5 @ table.to(states.dtype).T
        return logits


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    weights = (query @ key.transpose(-1, -2) + bias).softmax(dim=-1)  # T5 does not scale
    return rearrange(weights @ value, "batch head pos dim -> batch pos (head dim)")
