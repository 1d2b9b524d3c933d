"""The item head of the causal backbone: its loss, its scores, and what new items have of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from worlds import all_logits, histories, random_sequences, sequence_set

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import Histories, ItemLabels
from baselines.nn.config import EncoderConfig
from baselines.testing import check_backbone
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput

SIZES = (3, 3, 2)
ENCODER = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
WEIGHT = 0.5


def with_head(codes: Tensor, weight: float = WEIGHT) -> CausalBackbone:
    """A backbone whose path embeddings are not zero, as after training."""
    config = CausalConfig(max_history=6, encoder=ENCODER, item_head=weight)
    made = CausalBackbone(config, BuildContext(codes, SIZES, seed=0)).eval()
    with torch.no_grad():
        made.path_embedding.weight.normal_(generator=torch.Generator().manual_seed(1))
    return made


def scores(backbone: CausalBackbone, past: Histories) -> Tensor:
    head = backbone.item_scorer()
    assert head is not None
    return head.score(past)


def test_it_scores_items_by_the_state_that_predicts_the_first_code(tiny_codes: Tensor) -> None:
    made = with_head(tiny_codes)
    past = histories([3, 1, 4], [5], padding=2)
    state = made.start(past).hidden[:, 0]
    for item, codes in enumerate(tiny_codes.tolist()):
        tables = zip(codes, made.code_embeddings, strict=True)
        vector = sum(table.weight[code] for code, table in tables)
        vector = vector + made.path_embedding.weight[made.path_of_item[item]]
        torch.testing.assert_close(scores(made, past)[:, item], state @ vector)


def test_the_loss_adds_the_items_negative_log_likelihood_per_position(tiny_codes: Tensor) -> None:
    made = with_head(tiny_codes)
    data = sequence_set([([3, 1, 4, 1], 3), ([2, 7, 0], 2), ([5, 9], 1)])
    batch = made.windows(data).batch(np.arange(3))
    objective = Objective(ObjectiveConfig(name="ntp"))
    at = objective.positions(made.trie, batch.target_items)
    choices = candidates(made.trie, batch.target_items, at)
    found = made.loss(batch, at, lambda logits: objective(logits, choices))
    codes = objective(made(batch, at), choices)
    nll = torch.zeros(())
    for past, item in [([3, 1, 4], 1), ([2, 7], 0), ([5], 9)]:
        nll -= scores(made, histories(past)).log_softmax(dim=1)[0, item]
    torch.testing.assert_close(found.loss, codes.loss + WEIGHT * nll / codes.count)
    torch.testing.assert_close(found.parts["item"], nll / codes.count)
    torch.testing.assert_close(found.parts["ntp"], codes.parts["ntp"])
    found.loss.backward()
    assert made.path_embedding.weight.grad is not None


def test_soft_labels_mix_the_teachers_items_with_the_target(tiny_codes: Tensor) -> None:
    made, alpha = with_head(torch.cat([tiny_codes, tiny_codes[:1]])), 0.3
    number = len(made.path_of_item)
    batch = made.windows(sequence_set([([3, 1, 4], 2), ([2, 7], 1)])).batch(np.arange(2))
    labels = ItemLabels(
        items=torch.tensor([[0, 5], [7, 2]]),
        p=torch.tensor([[0.5, 0.2], [0.6, 0.1]]),
        rest=torch.full((2,), 0.3 / (number - 2)),
        alpha=alpha,
    )
    objective = Objective(ObjectiveConfig(name="ntp"))
    at = objective.positions(made.trie, batch.target_items)
    choices = candidates(made.trie, batch.target_items, at)

    def of_paths(logits: Tensor) -> ObjectiveOutput:
        return objective(logits, choices)

    found = made.loss(dataclasses.replace(batch, item_labels=labels), at, of_paths)
    p = labels.rest[:, None].repeat(1, number).scatter(1, labels.items, labels.p)
    soft = alpha * p + (1 - alpha) * F.one_hot(batch.target_items, number)
    pasts = {4: histories([3, 1]), 7: histories([2])}
    logits = torch.cat([scores(made, pasts[item]) for item in batch.target_items.tolist()])
    classes = logits[:, made.item_of_path].logsumexp(dim=1, keepdim=True)
    expected = (soft * (classes - logits)).sum() / found.count
    torch.testing.assert_close(found.parts["item"], expected.detach())


def test_items_of_one_path_count_as_one_class(tiny_codes: Tensor) -> None:
    twice = torch.cat([tiny_codes, tiny_codes[:1]])
    made, alone = with_head(twice), with_head(tiny_codes)
    found = scores(made, histories([3, 1]))
    assert found[0, 0] == found[0, -1]
    data = sequence_set([([3, 1, 4], 1)])
    objective = Objective(ObjectiveConfig(name="ntp"))
    parts = []
    for each in (made, alone):
        batch = each.windows(data).batch(np.arange(1))
        at = objective.positions(each.trie, batch.target_items)
        choices = candidates(each.trie, batch.target_items, at)
        parts.append(each.loss(batch, at, lambda x, c=choices: objective(x, c)).parts["item"])
    torch.testing.assert_close(parts[0], parts[1])


def test_training_it_learns_to_rank_the_target_first(tiny_codes: Tensor) -> None:
    config = CausalConfig(max_history=6, encoder=ENCODER, item_head=1.0)
    made = CausalBackbone(config, BuildContext(tiny_codes, SIZES, seed=0))
    batch = made.windows(sequence_set([([3, 1, 4], 2), ([5, 2, 9], 2)])).batch(np.arange(2))
    objective = Objective(ObjectiveConfig(name="ntp"))
    at = objective.positions(made.trie, batch.target_items)
    choices = candidates(made.trie, batch.target_items, at)
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        made.loss(batch, at, lambda logits: objective(logits, choices)).loss.backward()
        optimizer.step()
    best = scores(made.eval(), histories([3, 1], [5, 2])).argmax(dim=1)
    assert best.tolist() == [4, 9]


def test_new_items_are_scored_by_their_codes_alone(tiny_codes: Tensor) -> None:
    known, past = with_head(tiny_codes[:9]), histories([3, 1, 4], [5])
    config = known.config
    grown = CausalBackbone(config, BuildContext(tiny_codes, SIZES, seed=7)).eval()
    grown.take_over(known)
    torch.testing.assert_close(scores(grown, past)[:, :9], scores(known, past))
    for item in range(9, 12):
        tables = zip(tiny_codes[item].tolist(), grown.code_embeddings, strict=True)
        vector = sum(table.weight[code] for code, table in tables)
        expected = grown.start(past).hidden[:, 0] @ vector
        torch.testing.assert_close(scores(grown, past)[:, item], expected)


@torch.no_grad()
def test_codes_are_those_of_a_backbone_without_the_head(tiny_codes: Tensor) -> None:
    one, other = with_head(tiny_codes), with_head(tiny_codes, 0.0)
    batch = one.windows(random_sequences(12, 4)).batch(np.arange(4))
    assert torch.equal(all_logits(one, batch), all_logits(other, batch))
    assert other.item_scorer() is None
    assert one.state_dict().keys() == other.state_dict().keys(), "it has no weights of its own"


def test_it_keeps_the_contract() -> None:
    config = CausalConfig(max_history=6, encoder=ENCODER, item_head=1.0)
    check_backbone(lambda context: CausalBackbone(config, context))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="one position per item, got input 'code'"):
        CausalConfig(input="code", item_head=1.0)
    with pytest.raises(ValueError, match="item_head must be"):
        CausalConfig(item_head=-1.0)
