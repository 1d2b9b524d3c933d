"""The contract of backbones: built-in ones keep it, and each clause is named when it is broken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS
from torch import Tensor, nn

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import BuildContext, CodeBackbone
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.testing import ContractError, check_backbone
from semid import CodeVocab, StatelessPrefixes


@dataclass(frozen=True, kw_only=True)
class BagConfig:
    dim: int = 8


class Bag(CodeBackbone):
    """A GRU over the codes written so far, begun at the mean of the history's codes."""

    label = "Bag"
    config_class: ClassVar[type[Any]] = BagConfig
    max_history: Any = 3

    def __init__(self, config: BagConfig, context: BuildContext) -> None:
        super().__init__(context.codes, CodeVocab.flat(context.sizes))
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            self.tokens = nn.Embedding(self.vocab.num_tokens, config.dim)
            self.gru = nn.GRU(config.dim, config.dim, batch_first=True)

    def windows(self, data: Any) -> Windows:
        return Windows.per_target(data, self.max_history)

    def read(self, past: Histories, written: Tensor) -> Tensor:
        past = past.last(self.max_history)
        items = self.tokens(self.paths[past.items]).sum(dim=2) * past.mask.unsqueeze(2)
        mean = items.sum(dim=1) / past.mask.sum(dim=1, keepdim=True)
        states, _ = self.gru(torch.cat([mean.unsqueeze(1), self.tokens(written)], dim=1))
        logits: Tensor = states @ self.tokens.weight.T
        return logits

    def forward(self, batch: TrainBatch, at: Any) -> Tensor:
        written = self.paths[batch.target_items][:, :-1]
        return self.read(batch.windows.without_last(), written)[at.target, at.pos]

    def start(self, histories: Histories) -> StatelessPrefixes:
        def logits(written: Tensor) -> Tensor:
            beams = written.shape[1]
            past = Histories(
                items=histories.items.repeat_interleave(beams, dim=0),
                mask=histories.mask.repeat_interleave(beams, dim=0),
                users=histories.users.repeat_interleave(beams),
            )
            found = self.read(past, written.flatten(0, 1))[:, -1]
            return found.view(len(histories.items), beams, -1)

        return StatelessPrefixes(logits, len(histories.items))


class Unseeded(Bag):
    def __init__(self, config: BagConfig, context: BuildContext) -> None:
        super().__init__(config, context)
        self.extra = nn.Parameter(torch.randn(3))


class SeesTheTarget(Bag):
    def forward(self, batch: TrainBatch, at: Any) -> Tensor:
        return super().forward(batch, at) + batch.target_items[at.target, None] * 0.1


class LosesATarget(Bag):
    def windows(self, data: Any) -> Windows:
        windows = super().windows(data)
        kept = np.arange(1, len(windows))
        columns = ("start", "first", "stop", "first_id", "sequence")
        return Windows(windows.data, *(getattr(windows, name)[kept] for name in columns))


class ReadsPadding(Bag):
    def read(self, past: Histories, written: Tensor) -> Tensor:
        whole = Histories(items=past.items, mask=torch.ones_like(past.mask), users=past.users)
        return super().read(whole, written)


class ReadsItAll(Bag):
    def read(self, past: Histories, written: Tensor) -> Tensor:
        longest, self.max_history = self.max_history, 100
        found = super().read(past, written)
        self.max_history = longest
        return found


class Forgets(Bag):
    def read(self, past: Histories, written: Tensor) -> Tensor:
        nothing = Histories(items=torch.zeros_like(past.items), mask=past.mask, users=past.users)
        return super().read(nothing, written)


class DecodesOtherwise(Bag):
    def start(self, histories: Histories) -> StatelessPrefixes:
        found = super().start(histories)
        return StatelessPrefixes(
            lambda written: 2 * found._next_logits(written), len(histories.items)
        )


class Dreams(Bag):
    def read(self, past: Histories, written: Tensor) -> Tensor:
        return super().read(past, written) * (1 + torch.rand(()))


class HasMore(Bag):
    def __init__(self, config: BagConfig, context: BuildContext) -> None:
        super().__init__(config, context)
        self.spare = nn.Linear(2, 2, bias=False)
        nn.init.ones_(self.spare.weight)


class Diverged(Bag):
    def forward(self, batch: TrainBatch, at: Any) -> Tensor:
        return super().forward(batch, at) * torch.nan


class NoHistory(Bag):
    max_history: Any = 0

    def windows(self, data: Any) -> Windows:
        return Windows.per_target(data, 3)


def made(cls: type[Bag]) -> Callable[[BuildContext], Any]:
    return lambda context: cls(BagConfig(), context)


FILTERED = dataclasses.replace(CONFIGS.causal, filter_share=0.7, filter_cutoff=3)


@pytest.mark.parametrize(
    "make",
    [
        made(Bag),
        lambda context: CausalBackbone(CONFIGS.causal, context),
        lambda context: CausalBackbone(FILTERED, context),
        lambda context: TigerBackbone(CONFIGS.tiger, context),
    ],
)
def test_what_keeps_the_contract_passes(make: Callable[[BuildContext], Any]) -> None:
    check_backbone(make)


@pytest.mark.parametrize(
    ("cls", "clause"),
    [
        (Unseeded, "seed"),
        (LosesATarget, "windows"),
        (SeesTheTarget, "decoding"),
        (ReadsPadding, "company"),
        (ReadsItAll, "history"),
        (Forgets, "history"),
        (DecodesOtherwise, "decoding"),
        (Dreams, "determinism"),
        (HasMore, "gradient"),
        (Diverged, "shape"),
        (NoHistory, "max history"),
    ],
)
def test_a_broken_clause_is_named(cls: type[Bag], clause: str) -> None:
    with pytest.raises(ContractError, match="contract of backbones") as error:
        check_backbone(made(cls))
    assert error.value.clause == clause
    assert "\n" not in str(error.value)


def test_what_is_no_backbone_is_named() -> None:
    with pytest.raises(ContractError, match="clause 'build'"):
        check_backbone(lambda context: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ContractError, match=r"clause 'build'.*KeyError"):
        check_backbone(lambda context: {}["nothing"])
