"""TIGER: transformers' own T5, fed flattened semantic IDs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import all_logits, histories, next_logits, random_sequences, sequence_set

from baselines.backbones.config import TigerConfig
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.nn.t5 import Packing, encode
from baselines.training.contexts import draw_contexts

SIZES = (3, 3, 2)
PAD, SEPARATOR, FIRST_USER = 0, 9, 10  # 1 + 3 + 3 + 2 tokens of padding and codes come before


def tiger(
    codes: Tensor, *, separator: bool = False, user_tokens: int = 0, causal: bool = False
) -> TigerBackbone:
    config = TigerConfig(
        num_layers=2,
        dim=16,
        num_heads=2,
        head_dim=8,
        ff_dim=24,
        max_history=4,
        separator=separator,
        user_tokens=user_tokens,
        attention="causal" if causal else "bidirectional",
    )
    return TigerBackbone(config, BuildContext(codes, SIZES, seed=0)).eval()


def batch_of(windows: Windows) -> TrainBatch:
    return windows.batch(np.arange(len(windows)))


def slow_input(made: TigerBackbone, past: list[int], user: int) -> list[int]:
    """What the encoder reads of one history, as the config names it."""
    tokens = []
    special = made.vocab.num_tokens
    if made.config.user_tokens:
        first_user = special + int(made.config.separator)
        tokens.append(first_user + user % made.config.user_tokens)
    for item in past:
        tokens += [1 + code + sum(SIZES[:level]) for level, code in enumerate(made.codes[item])]
        tokens += [special] if made.config.separator else []
    return [int(token) for token in tokens]


def slow_encoder_input(made: TigerBackbone, pasts: Histories) -> tuple[Tensor, Tensor]:
    """Encoder tokens and mask, padded on the right, where T5's own users pad."""
    rows = [
        slow_input(made, items[mask].tolist(), int(user))
        for items, mask, user in zip(pasts.items, pasts.mask, pasts.users, strict=True)
    ]
    width = max(map(len, rows))
    tokens = torch.tensor([row + [PAD] * (width - len(row)) for row in rows])
    return tokens, torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]


@torch.no_grad()
@pytest.mark.parametrize("separator", [False, True])
@pytest.mark.parametrize("user_tokens", [0, 3])
@pytest.mark.parametrize("causal", [False, True])
def test_logits_are_those_of_t5_on_the_same_tokens(
    tiny_codes: Tensor, separator: bool, user_tokens: int, causal: bool
) -> None:
    made = tiger(tiny_codes, separator=separator, user_tokens=user_tokens, causal=causal)
    batch = batch_of(Windows.per_target(random_sequences(12, 6, longest=7), 4))
    tokens, mask = slow_encoder_input(made, batch.windows.without_last())
    targets = made.vocab.tokens(tiny_codes[batch.target_items])
    expected = made.t5(input_ids=tokens, attention_mask=mask.long(), labels=targets).logits
    logits = all_logits(made, batch)
    assert logits.shape[-1] == 1 + sum(SIZES), "specials of the input are no tokens of the output"
    torch.testing.assert_close(logits, expected[..., : 1 + sum(SIZES)], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("separator", [False, True])
@pytest.mark.parametrize("user_tokens", [0, 3])
def test_decoding_is_t5_with_every_history_repeated_for_every_beam(
    tiny_codes: Tensor, separator: bool, user_tokens: int
) -> None:
    made = tiger(tiny_codes, separator=separator, user_tokens=user_tokens)
    pasts = histories([3, 1, 4, 1], [7], [2, 9], users=[0, 4, 5])
    tokens, mask = slow_encoder_input(made, pasts)
    paths = made.vocab.tokens(tiny_codes)
    for depth in range(3):
        start = torch.full((len(paths), 1), PAD)
        written = torch.cat([start, paths[:, :depth]], dim=1)
        expected = made.t5(
            input_ids=tokens.repeat_interleave(len(paths), dim=0),
            attention_mask=mask.long().repeat_interleave(len(paths), dim=0),
            decoder_input_ids=written.repeat(3, 1),
        ).logits[:, -1, : 1 + sum(SIZES)]
        logits = next_logits(made, pasts, paths[:, :depth].expand(3, -1, -1))
        torch.testing.assert_close(logits.flatten(0, 1), expected, atol=1e-5, rtol=1e-4)


def test_the_input_by_hand(tiny_codes: Tensor) -> None:
    past = histories([7, 0], users=[5])  # codes 1 0 1 and 0 0 0; tokens start at 1, 4 and 7
    expected = {
        (False, 0): [2, 4, 8, 1, 4, 7],
        (True, 0): [2, 4, 8, SEPARATOR, 1, 4, 7, SEPARATOR],
        (False, 3): [SEPARATOR + 2, 2, 4, 8, 1, 4, 7],  # without a separator, users come first
        (True, 3): [FIRST_USER + 2, 2, 4, 8, SEPARATOR, 1, 4, 7, SEPARATOR],
    }
    for (separator, user_tokens), tokens in expected.items():
        made = tiger(tiny_codes, separator=separator, user_tokens=user_tokens)
        assert slow_input(made, [7, 0], 5) == tokens
        found, mask = made.encoder_input(past)
        assert found.tolist() == [tokens]
        assert mask.all()
        assert made.t5.config.vocab_size == SEPARATOR + int(separator) + user_tokens


@torch.no_grad()
def test_users_matter_only_where_they_have_tokens(tiny_codes: Tensor) -> None:
    root = torch.zeros(3, 1, 0, dtype=torch.int64)
    past = histories([3, 1], [3, 1], [3, 1], users=[0, 1, 3])
    plain, with_users = tiger(tiny_codes), tiger(tiny_codes, user_tokens=3)
    logits = next_logits(plain, past, root)
    torch.testing.assert_close(logits[0], logits[1])
    logits = next_logits(with_users, past, root)
    assert not torch.allclose(logits[0], logits[1], atol=1e-5)
    torch.testing.assert_close(logits[0], logits[2])  # users 0 and 3 share a token of three


def test_it_learns_one_target_a_window(tiny_codes: Tensor) -> None:
    data = random_sequences(12, 20, longest=5)
    windows = tiger(tiny_codes).windows(data)
    assert len(windows) == data.num_targets
    assert batch_of(windows).target_row.tolist() == list(range(data.num_targets))


def test_a_causal_encoder_learns_all_targets_of_a_sequence_in_one_window(
    tiny_codes: Tensor,
) -> None:
    data = random_sequences(12, 20, longest=5)
    windows = tiger(tiny_codes, causal=True).windows(data)
    batch = batch_of(windows)
    assert len(windows) == (data.lengths > data.first_target).sum()
    assert sorted(batch.target_id.tolist()) == list(range(data.num_targets))


def one_by_one(batch: TrainBatch) -> list[TrainBatch]:
    """Each target of a batch alone, with the window up to it."""
    alone = []
    for row, pos, number in zip(batch.target_row, batch.target_pos, batch.target_id, strict=True):
        window = Histories(
            items=batch.windows.items[row : row + 1, : pos + 1],
            mask=batch.windows.mask[row : row + 1, : pos + 1],
            users=batch.windows.users[row : row + 1],
        )
        one = {"target_row": torch.zeros(1, dtype=torch.int64), "target_pos": pos[None]}
        alone.append(TrainBatch(windows=window, target_id=number[None], **one))
    return alone


@pytest.mark.parametrize("drop", [0.0, 0.4])
@pytest.mark.parametrize(("separator", "user_tokens"), [(False, 0), (True, 3)])
def test_one_pass_is_every_target_alone_after_its_own_history(
    tiny_codes: Tensor, separator: bool, user_tokens: int, drop: float
) -> None:
    made = tiger(tiny_codes, separator=separator, user_tokens=user_tokens, causal=True)
    batch = batch_of(made.windows(random_sequences(12, 9, longest=12)))  # some need two windows
    torch.manual_seed(0)
    batch = draw_contexts(batch, drop=drop, crop=drop)
    counts = batch.target_row.bincount()
    assert counts.min() < counts.max(), "rows with different numbers of targets"
    alone = one_by_one(batch)
    logits = all_logits(made, batch)
    expected = torch.cat([all_logits(made, one) for one in alone])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    gradients = []
    for each in (logits, expected):
        made.zero_grad()
        (-each.log_softmax(-1)[..., 1].sum()).backward()
        gradients.append([p.grad.clone() for p in made.parameters() if p.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_with_a_causal_encoder_no_target_reads_itself_or_later_items(tiny_codes: Tensor) -> None:
    made = tiger(tiny_codes, causal=True)
    batch = batch_of(made.windows(sequence_set([([3, 1, 4, 1, 5], 1)])))
    before = all_logits(made, batch)
    for changed in range(1, 5):
        items = batch.windows.items.clone()
        items[0, changed] = 9
        windows = dataclasses.replace(batch.windows, items=items)
        after = all_logits(made, dataclasses.replace(batch, windows=windows))
        torch.testing.assert_close(after[: changed - 1], before[: changed - 1], atol=0, rtol=0)
        torch.testing.assert_close(after[changed - 1, 0], before[changed - 1, 0], atol=0, rtol=0)
        for later in range(changed, 4):
            assert not torch.allclose(after[later], before[later], atol=1e-5)


@torch.no_grad()
def test_only_a_bidirectional_encoder_lets_early_items_see_later_ones(tiny_codes: Tensor) -> None:
    for causal in (False, True):
        made = tiger(tiny_codes, causal=causal)
        states = []
        for last in (4, 9):
            tokens, mask = made.encoder_input(histories([3, 1, last]))
            packing = Packing(mask)
            states.append(encode(made.t5.encoder, tokens, packing, made.weights_dropout)[:6])
        assert torch.allclose(states[0], states[1], atol=1e-5) == causal
