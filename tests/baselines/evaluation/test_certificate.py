"""What a narrow beam gives away, counted by hand and by exact scoring."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import Tensor
from worlds import random_sequences

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import Histories
from baselines.evaluation.certificate import Certificate, certify
from baselines.evaluation.config import EvaluationConfig
from baselines.nn.config import EncoderConfig
from semid.decoding import BeamResult
from semid.prefixes import Prefixes, StatelessPrefixes
from semid.trie import CodeTrie


@pytest.fixture
def backbone(tiny_codes: Tensor) -> CausalBackbone:
    encoder = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
    made = CausalBackbone(CausalConfig(encoder=encoder), BuildContext(tiny_codes, (3, 3, 2)))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4)
    return made.eval()


class Garden(CausalBackbone):
    """The first code is right with .6, but what follows it is a coin; the other path is sure."""

    def start(self, histories: Histories) -> Prefixes:  # type: ignore[override]
        def logits(prefix: Tensor) -> Tensor:
            p = torch.tensor([0.6, 0.4]) if prefix.shape[2] == 0 else torch.tensor([0.5, 0.5])
            return p.log().expand(*prefix.shape[:2], 2)

        return StatelessPrefixes(logits, len(histories.items))


def test_a_beam_of_all_leaves_has_nothing_to_hide(backbone: CausalBackbone) -> None:
    data = random_sequences(12, 20)
    proof = certify(backbone, data, EvaluationConfig(beam=12, certified=9), k=5)
    whole = {"10": proof.recall["10"], "12": 1.0, "20": 1.0, "50": 1.0, "100": 1.0}
    assert proof == Certificate(histories=9, k=5, beam=12, recall=whole, illegal=0.0)


def test_what_the_beam_misses_is_counted() -> None:
    codes = torch.tensor([[0, 0], [0, 1], [1, 0]])  # .3, .3 and .4
    garden = Garden(CausalConfig(encoder=EncoderConfig(dim=8)), BuildContext(codes, (2, 2))).eval()
    data = random_sequences(3, 8)

    def recall(beam: int, k: int) -> float:
        return certify(garden, data, EvaluationConfig(beam=beam), k=k).recall[str(beam)]

    assert recall(beam=1, k=1) == 0.0
    assert recall(beam=2, k=1) == 1.0
    assert recall(beam=2, k=2) == 1.0, "either of the two that tie is right"
    assert recall(beam=1, k=3) == pytest.approx(1 / 3)


class Closed(Garden):
    """A garden with one of two gates shut."""

    def start(self, histories: Histories) -> Prefixes:  # type: ignore[override]
        open_gate = torch.tensor([0.0, -torch.inf])
        return StatelessPrefixes(
            lambda prefix: open_gate.expand(*prefix.shape[:2], 2), len(histories.items)
        )


def test_what_is_forbidden_is_missed_by_no_beam() -> None:
    codes = torch.tensor([[0, 0], [0, 1], [1, 0]])
    closed = Closed(CausalConfig(encoder=EncoderConfig(dim=8)), BuildContext(codes, (2, 2))).eval()
    proof = certify(closed, random_sequences(3, 8), EvaluationConfig(), k=3)
    assert set(proof.recall.values()) == {1.0}
    assert proof.illegal == 0.0


def test_a_path_that_no_item_has_is_illegal(
    backbone: CausalBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(start: Prefixes, trie: CodeTrie, **_: object) -> BeamResult:
        batch = start.batch_size
        leaf = int(trie.node_of_item[0])
        leaves = torch.tensor([[leaf, 0, 1, -1]]).expand(batch, -1)  # the root, an inner node, none
        return BeamResult(leaves=leaves, scores=torch.zeros(batch, 4))

    monkeypatch.setattr("baselines.evaluation.certificate.beam_search", broken)
    proof = certify(backbone, random_sequences(12, 5), EvaluationConfig())
    assert proof.illegal == pytest.approx(2 / 3)


def test_a_small_catalogue_is_listed_whole(backbone: CausalBackbone) -> None:
    data = random_sequences(12, 3)
    proof = certify(backbone, data, EvaluationConfig(beam=12), k=50)
    assert (proof.k, proof.histories) == (12, min(16, data.num_targets))
    assert proof.recall["12"] == 1.0


def test_it_is_plain_values(backbone: CausalBackbone) -> None:
    proof = certify(backbone, random_sequences(12, 5), EvaluationConfig(beam=2))
    assert Certificate(**json.loads(json.dumps(dataclasses.asdict(proof)))) == proof
    assert 0 < proof.recall["2"] < 1
    assert dataclasses.asdict(proof)["illegal"] == 0.0
