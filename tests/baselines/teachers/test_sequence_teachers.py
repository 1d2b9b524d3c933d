"""BERT4Rec and GRU4Rec: their definitions, what they may see, and that they learn."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from worlds import histories, random_sequences, sequence_set

from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import TrainBatch, Windows
from baselines.nn.config import EncoderConfig
from baselines.teachers.bert4rec import BERT4Rec
from baselines.teachers.config import BERT4RecConfig, GRU4RecConfig
from baselines.teachers.gru4rec import GRU4Rec
from baselines.teachers.model import TeacherModel

NUM_ITEMS = 12
PAST = [3, 1, 4, 1, 5]
ENCODER = EncoderConfig(dim=8, num_layers=2, num_heads=2, ff_dim=16, dropout=0.1)
WIDER = EncoderConfig(dim=32, num_layers=2, num_heads=2, ff_dim=32, dropout=0.0)


def bert(max_history: int = 6, **settings: float) -> BERT4Rec:
    config = BERT4RecConfig(max_history=max_history, encoder=ENCODER, **settings)  # type: ignore[arg-type]
    made = BERT4Rec(config, NUM_ITEMS, seed=0)
    with torch.no_grad():
        made.position_embedding.weight.mul_(20)
        made.item_embedding.weight.mul_(20)
        made.mask_embedding.mul_(20)
        made.bias.copy_(torch.linspace(-1, 1, NUM_ITEMS))
    return made.eval()


def gru(max_history: int = 6, num_layers: int = 1) -> GRU4Rec:
    config = GRU4RecConfig(dim=5, hidden_dim=7, num_layers=num_layers, max_history=max_history)
    return GRU4Rec(config, NUM_ITEMS, seed=0).eval()


BOTH = pytest.mark.parametrize("make", [bert, gru])


def batch_of(windows: Windows) -> TrainBatch:
    return windows.batch(np.arange(len(windows)))


@BOTH
def test_they_are_item_scorers_with_a_vector_of_each_item(make: type[TeacherModel]) -> None:
    made = make()
    assert isinstance(made, ItemScorer)
    scores = made.score(histories(PAST))
    assert (scores.shape, scores.dtype) == ((1, NUM_ITEMS), torch.float32)
    assert len(made.item_vectors()) == NUM_ITEMS


@BOTH
def test_padding_and_batch_mates_change_no_score(make: type[TeacherModel]) -> None:
    made = make()
    pasts = [PAST, [7], [2, 9], [11, 10, 9, 8, 7, 6]]
    together = made.score(histories(*pasts, padding=3))
    for row, past in enumerate(pasts):
        torch.testing.assert_close(together[row], made.score(histories(past))[0])


@BOTH
def test_items_before_the_window_change_no_score_and_those_in_it_do(
    make: type[TeacherModel],
) -> None:
    made = make(max_history=3)
    base = made.score(histories(PAST))
    assert torch.equal(base, made.score(histories(PAST[-3:])))
    for pos in range(2, 5):
        assert not torch.isclose(
            made.score(histories([*PAST[:pos], 9, *PAST[pos + 1 :]])), base
        ).all()
    assert not torch.isclose(made.score(histories([1, 4, 5])), base).all()


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_gru_state_is_the_recurrence_written_out(num_layers: int) -> None:
    made = gru(num_layers=num_layers)
    inputs = [made.item_embedding.weight[item] for item in PAST]
    for layer in range(num_layers):
        w_in = getattr(made.gru, f"weight_ih_l{layer}").chunk(3)
        w_own = getattr(made.gru, f"weight_hh_l{layer}").chunk(3)
        state, outputs = torch.zeros(7), []
        for x in inputs:
            reset = torch.sigmoid(w_in[0] @ x + w_own[0] @ state)
            keep = torch.sigmoid(w_in[1] @ x + w_own[1] @ state)
            new = torch.tanh(w_in[2] @ x + reset * (w_own[2] @ state))
            state = (1 - keep) * new + keep * state
            outputs.append(state)
        inputs = outputs
    expected = made.item_embedding.weight @ made.project(inputs[-1])
    torch.testing.assert_close(made.score(histories(PAST))[0], expected.detach())


def test_the_gru_loss_is_the_cross_entropy_at_every_target() -> None:
    made = gru(max_history=9)
    data = random_sequences(NUM_ITEMS, 5)
    whole, single = (batch_of(cut(data, 9)) for cut in (Windows.per_sequence, Windows.per_target))
    expected = F.cross_entropy(made.score(single.windows.without_last()), single.target_items)
    torch.testing.assert_close(made.loss(whole), expected)


@torch.no_grad()
def test_a_bert_score_is_that_of_a_mask_after_the_history_seen_from_both_sides() -> None:
    made = bert()
    dim = ENCODER.dim
    rows = [made.item_embedding.weight[item] for item in PAST] + [made.mask_embedding]
    x = torch.stack([row + made.position_embedding.weight[5 - pos] for pos, row in enumerate(rows)])
    x = made.embedding_norm(x)
    for block in made.encoder.blocks:
        query, key, value = block.query_key_value(block.attention_norm(x)).chunk(3, dim=-1)  # type: ignore[operator, union-attr]
        mixed = torch.zeros_like(x)
        for head in range(2):
            part = slice(head * dim // 2, (head + 1) * dim // 2)
            for pos in range(len(x)):
                weights = [
                    math.exp(float(query[pos, part] @ key[other, part]) / math.sqrt(dim / 2))
                    for other in range(len(x))
                ]
                for other, weight in enumerate(weights):
                    mixed[pos, part] += weight / sum(weights) * value[other, part]
        x = x + block.project(mixed)  # type: ignore[operator]
        x = x + block.ff_out(block.ff_in(block.ff_norm(x)).relu())  # type: ignore[operator, union-attr]
    state = F.gelu(made.project(made.encoder.norm(x)[-1]))
    expected = made.item_embedding.weight @ state + made.bias
    torch.testing.assert_close(
        made.score(histories(PAST))[0], expected.detach(), atol=1e-5, rtol=1e-4
    )


class KeptMasks(BERT4Rec):
    """Draws as ever and keeps the draw."""

    def _draw_masks(self, real: Tensor) -> Tensor:
        self.drawn = super()._draw_masks(real)
        return self.drawn


def test_the_bert_loss_is_the_cross_entropy_of_what_is_masked_and_of_nothing_else() -> None:
    made = bert()
    made.__class__ = KeptMasks
    batch = batch_of(Windows.per_sequence(random_sequences(NUM_ITEMS, 8, longest=7), 6))
    output = made.objective(batch)
    masked = made.drawn  # type: ignore[attr-defined]
    total, count = 0.0, 0
    states = made.states(batch.windows, masked)
    for row, pos in masked.nonzero().tolist():
        logits = (made.item_embedding.weight @ states[row, pos] + made.bias).tolist()
        total += math.log(sum(map(math.exp, logits))) - logits[int(batch.windows.items[row, pos])]
        count += 1
    assert int(output.count) == count
    assert float(output.loss.detach()) == pytest.approx(total / count, rel=1e-4)
    hidden = batch.windows.items.masked_fill(masked, 7)
    changed = made.states(histories_like(batch, hidden).windows, masked)
    assert torch.equal(changed, states), "what a mask hides is not seen"


def histories_like(batch: TrainBatch, items: Tensor) -> TrainBatch:
    window = type(batch.windows)(items=items, mask=batch.windows.mask, users=batch.windows.users)
    return TrainBatch(
        windows=window,
        target_row=batch.target_row,
        target_pos=batch.target_pos,
        target_id=batch.target_id,
    )


def test_masks_hide_their_share_never_all_and_never_padding() -> None:
    lengths = torch.arange(2, 8).repeat(300)
    real = torch.arange(7) >= 7 - lengths[:, None]
    made = bert(masked=0.6, last_only=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        masked = made._draw_masks(real)
        only_last = bert(last_only=1.0)._draw_masks(real)
        some = bert(masked=0.6, last_only=0.25)._draw_masks(real)
    assert not (masked & ~real).any()
    expected = (lengths * 0.6).round().clamp(min=1).minimum(lengths - 1)
    assert torch.equal(masked.sum(dim=1), expected.long())
    rate = masked[lengths == 7].float().mean(dim=0)
    torch.testing.assert_close(rate, torch.full((7,), 4 / 7), atol=0.1, rtol=0)
    assert torch.equal(only_last.nonzero()[:, 1], torch.full((len(real),), 6))
    share = (some.sum(dim=1)[lengths == 7] == 1).float().mean()
    assert 0.15 < float(share) < 0.35


@pytest.mark.parametrize(
    "untrained",
    [
        BERT4Rec(BERT4RecConfig(max_history=6, encoder=WIDER), NUM_ITEMS, seed=0),
        GRU4Rec(GRU4RecConfig(dim=8, hidden_dim=16, max_history=6), NUM_ITEMS, seed=0),
    ],
)
def test_they_learn_cycles(untrained: TeacherModel) -> None:
    cycles = [([(start + step) % NUM_ITEMS for step in range(6)], 1) for start in range(NUM_ITEMS)]
    batch = batch_of(Windows.per_sequence(sequence_set(cycles), 6))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = copy.deepcopy(untrained).train()
        optimizer = torch.optim.AdamW(made.parameters(), lr=0.003)
        for _ in range(400):
            loss = made.objective(batch).loss
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    pasts = [[(start + step) % NUM_ITEMS for step in range(5)] for start in range(NUM_ITEMS)]
    found = made.eval().score(histories(*pasts)).argmax(dim=1)
    assert found.tolist() == [(start + 5) % NUM_ITEMS for start in range(NUM_ITEMS)]


@pytest.mark.parametrize("settings", [{"masked": 0.0}, {"masked": 1.0}, {"last_only": 1.1}])
def test_masking_nothing_or_everything_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"(masked|last_only) must be a number"):
        bert(**settings)
