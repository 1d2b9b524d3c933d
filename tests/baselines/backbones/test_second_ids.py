"""A second set of IDs of the causal backbone: its loss, its scores, and what it leaves alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import histories, sequence_set

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import BuildContext, PathLoss
from baselines.data.batches import Histories, TrainBatch
from baselines.models.registry import backbone_class, build_backbone
from baselines.nn.config import EncoderConfig
from semid.ids import SemanticIds
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput

SIZES = (3, 3, 2)
ENCODER = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
CONFIG = CausalConfig(max_history=6, encoder=ENCODER)
OTHER = [[item % 4, item % 3] for item in range(12)]  # each pair once: 4 and 3 have no divisor
OTHER[11] = OTHER[0]  # two items of one path
SEQUENCES = [([3, 1, 4, 1], 3), ([2, 7, 0], 2), ([5, 9], 1)]
TARGETS = [([3, 1, 4], 1), ([2, 7], 0), ([5], 9)]  # what they ask


def other_ids(codes: list[list[int]] = OTHER) -> SemanticIds:
    sizes = tuple(max(level) + 1 for level in zip(*codes, strict=True))
    return SemanticIds.of(list(range(12)), torch.tensor(codes), sizes, scheme="hand")


def with_both(codes: Tensor, item_head: float = 0.0, second: SemanticIds | None = None) -> Any:
    """A backbone of both sets, with path embeddings as after training."""
    config = CausalConfig(max_history=6, encoder=ENCODER, item_head=item_head)
    context = BuildContext(codes, SIZES, second=second or other_ids())
    made = CausalBackbone(config, context).eval()
    with torch.no_grad():
        gen = torch.Generator().manual_seed(1)
        for table in (made.path_embedding, made.second.level_embedding):
            table.weight.normal_(generator=gen)
    return made


@torch.no_grad()
def log_p(backbone: CausalBackbone, past: Histories, ids: Any, codes: list[list[int]]) -> Tensor:
    """Log-probability of every item's codes after one history, level by level, as loops."""
    state = backbone.start(past).hidden[0, 0]
    found = []
    for path in codes:
        total, hidden = 0.0, state
        for level, code in enumerate(path):
            logits = ids.heads[level](backbone._head(hidden + ids.level_embedding.weight[level]))
            alive = sorted({other[level] for other in codes if other[:level] == path[:level]})
            total += float(logits[code] - logits[alive].logsumexp(dim=0))
            if level + 1 < len(path):
                hidden = hidden + ids.prefix_embeddings[level].weight[code]
        found.append(total)
    return torch.tensor(found)


def losses(
    made: CausalBackbone, batch: TrainBatch, config: ObjectiveConfig
) -> tuple[PathLoss, PathLoss]:
    objective = Objective(config)

    def of(trie: Any) -> PathLoss:
        at = objective.positions(trie, batch.target_items)
        choices = candidates(trie, batch.target_items, at)

        def loss(logits: Any) -> ObjectiveOutput:
            return objective(logits, choices)

        return PathLoss(at, loss)

    return of(made.trie), of(made.second_trie)


def test_a_target_costs_the_log_probability_of_both_its_ids(tiny_codes: Tensor) -> None:
    made = with_both(tiny_codes)
    batch = made.windows(sequence_set(SEQUENCES)).batch(np.arange(3))
    first, second = losses(made, batch, ObjectiveConfig(name="ntp", masked=True))
    found = made.loss_of_both(batch, first, second)
    nll = {"first": 0.0, "second": 0.0}
    for past, item in TARGETS:
        one = histories(past)
        nll["first"] -= float(log_p(made, one, made, tiny_codes.tolist())[item])
        nll["second"] -= float(log_p(made, one, made.second, OTHER)[item])
    count = int(found.count)
    assert count == 3 * 3, "the positions of the first set"
    assert found.loss.item() == pytest.approx((nll["first"] + nll["second"]) / count, rel=1e-5)
    assert float(found.parts["second"]) == pytest.approx(nll["second"] / count, rel=1e-5)
    assert float(found.parts["ntp"]) == pytest.approx(nll["first"] / count, rel=1e-5)


def test_with_equally_long_ids_the_loss_is_the_sum_of_two(tiny_codes: Tensor) -> None:
    swapped = tiny_codes[torch.arange(11, -1, -1)]
    made = with_both(tiny_codes, second=other_ids(swapped.tolist()))
    batch = made.windows(sequence_set(SEQUENCES)).batch(np.arange(3))
    first, second = losses(made, batch, ObjectiveConfig(name="ntp", masked=True))
    alone = made.loss(batch, first.at, first.of)
    found = made.loss_of_both(batch, first, second)
    paths = swapped.tolist()
    nll = [-log_p(made, histories(past), made.second, paths)[item] for past, item in TARGETS]
    torch.testing.assert_close(found.loss, alone.loss + sum(nll) / 9)
    found.loss.backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name


def test_the_item_head_is_trained_beside_both(tiny_codes: Tensor) -> None:
    made, without = with_both(tiny_codes, item_head=0.5), with_both(tiny_codes)
    batch = made.windows(sequence_set(SEQUENCES)).batch(np.arange(3))
    first, second = losses(made, batch, ObjectiveConfig(name="ntp"))
    found, codes = (each.loss_of_both(batch, first, second) for each in (made, without))
    items = made.loss(batch, first.at, first.of).parts["item"]
    torch.testing.assert_close(found.loss, codes.loss + 0.5 * items)


def test_the_second_ids_score_items_and_twins_share_their_path(tiny_codes: Tensor) -> None:
    made, past = with_both(tiny_codes), histories([3, 1, 4], padding=2)
    scorer = made.item_scorer()
    assert scorer is not None
    expected = log_p(made, past, made.second, OTHER)
    expected[[0, 11]] -= math.log(2)
    found = scorer.score(past)[0]
    torch.testing.assert_close(found, expected)
    assert float(found.exp().sum()) == pytest.approx(1)


def test_with_an_item_head_the_opinion_is_the_mean_of_both(tiny_codes: Tensor) -> None:
    both, past = with_both(tiny_codes, item_head=1.0), histories([3, 1, 4])
    head = both.start(past).hidden[0, 0] @ both._path_vectors().T
    logits = (head / 8**0.5)[both.path_of_item]
    second = with_both(tiny_codes).item_scorer().score(past)[0]
    expected = (logits.log_softmax(dim=0) + second) / 2
    torch.testing.assert_close(both.item_scorer().score(past)[0], expected)


@torch.no_grad()
def test_the_first_ids_start_as_without_a_second(tiny_codes: Tensor) -> None:
    alone = CausalBackbone(CONFIG, BuildContext(tiny_codes, SIZES))
    both = CausalBackbone(CONFIG, BuildContext(tiny_codes, SIZES, second=other_ids()))
    for name, weights in alone.state_dict().items():
        assert torch.equal(weights, both.state_dict()[name]), name
    assert alone.second_trie is None
    assert alone.input_hashes == {}
    assert both.input_hashes == {"second_ids": other_ids().provenance.content}


@pytest.mark.parametrize(("name", "config"), [("causal", CausalConfig(input="code")), ("tiger", 0)])
def test_other_backbones_refuse_a_second_set(tiny_codes: Tensor, name: str, config: Any) -> None:
    cls = backbone_class(name)
    context = BuildContext(tiny_codes, SIZES, second=other_ids())
    with pytest.raises(ValueError, match="two sets of IDs need a backbone that learns both"):
        build_backbone(cls, config or cls.config_class(), None, context)
