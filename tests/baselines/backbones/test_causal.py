"""The causal backbone: every position of a sequence learns, and none sees what comes later."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import all_logits, random_sequences, sequence_set

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import TrainBatch, Windows
from baselines.nn.config import EncoderConfig

SIZES = (3, 3, 2)
Input = Literal["item", "code"]
INPUTS: list[Input] = ["item", "code"]
SHARES = [0.0, 0.7]


def causal(codes: Tensor, form: Input, share: float = 0.0) -> CausalBackbone:
    encoder = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
    config = CausalConfig(
        input=form, max_history=6, encoder=encoder, filter_share=share, filter_cutoff=3
    )
    made = CausalBackbone(config, BuildContext(codes, SIZES, seed=0))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return made.eval()


def batch_of(windows: Windows) -> TrainBatch:
    return windows.batch(np.arange(len(windows)))


@torch.no_grad()
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("form", INPUTS)
def test_the_logits_of_a_target_do_not_depend_on_later_items(
    tiny_codes: Tensor, form: Input, share: float
) -> None:
    made = causal(tiny_codes, form, share)
    first = batch_of(made.windows(sequence_set([([3, 1, 4, 1, 5, 9], 1)])))
    other = batch_of(made.windows(sequence_set([([3, 1, 4, 1, 11, 2], 1)])))
    before, after = all_logits(made, first), all_logits(made, other)
    assert first.target_pos.tolist() == [1, 2, 3, 4, 5]
    assert torch.equal(before[:3], after[:3]), "targets 1, 4 and 1 stand before the change"
    # the item at position 4 is new: its own path differs after the root, the next target all over
    torch.testing.assert_close(before[3, 0], after[3, 0])
    assert not torch.allclose(before[4, 0, :3], after[4, 0, :3], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("form", INPUTS)
def test_a_level_sees_the_true_codes_before_it_and_not_its_own(
    tiny_codes: Tensor, form: Input
) -> None:
    made = causal(tiny_codes, form)
    by_item = {
        item: all_logits(made, batch_of(made.windows(sequence_set([([3, 1, item], 2)]))))[0]
        for item in (0, 1, 2, 6)  # codes 000, 001, 010 and 100
    }
    torch.testing.assert_close(by_item[0], by_item[1])
    torch.testing.assert_close(by_item[0][:2], by_item[2][:2])
    assert not torch.allclose(by_item[0][2, :2], by_item[2][2, :2], atol=1e-4)
    torch.testing.assert_close(by_item[0][:1], by_item[6][:1])
    assert not torch.allclose(by_item[0][1], by_item[6][1], atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("form", INPUTS)
def test_the_last_target_of_a_window_has_the_logits_of_a_window_of_its_own(
    tiny_codes: Tensor, form: Input, share: float
) -> None:
    made = causal(tiny_codes, form, share)
    data = random_sequences(12, 8, longest=7)  # all fit into one window
    together = batch_of(made.windows(data))
    alone = batch_of(Windows.per_target(data, 6))
    logits, expected = all_logits(made, together), all_logits(made, alone)
    last = together.target_pos == together.windows.items.shape[1] - 1
    assert int(last.sum()) == len(data)
    for row in last.nonzero().squeeze(1).tolist():
        (same,) = (alone.target_id == together.target_id[row]).nonzero().squeeze(1).tolist()
        torch.testing.assert_close(logits[row], expected[same], atol=1e-5, rtol=1e-4)


def test_an_item_in_no_history_is_read_from_its_codes_alone(tiny_codes: Tensor) -> None:
    config = CausalConfig(max_history=6, encoder=EncoderConfig(dim=8, num_heads=2, ff_dim=16))
    made = CausalBackbone(config, BuildContext(tiny_codes, SIZES, seed=0)).train()
    optimizer = torch.optim.AdamW(made.parameters(), lr=0.1)
    batch = batch_of(made.windows(sequence_set([([3, 1, 4, 1, 5, 9], 1)] * 8)))
    for _ in range(3):
        all_logits(made, batch)[:, 0, : SIZES[0]].logsumexp(dim=-1).sum().backward()
        optimizer.step()
    moved = made.path_embedding.weight.abs().sum(dim=1)[made.path_of_item] > 0
    assert moved.nonzero().squeeze(1).tolist() == [1, 3, 4, 5], "item 9 is a target only"


@torch.no_grad()
@pytest.mark.parametrize("form", INPUTS)
def test_only_the_codes_of_a_level_are_possible(tiny_codes: Tensor, form: Input) -> None:
    made = causal(tiny_codes, form)
    logits = all_logits(made, batch_of(made.windows(random_sequences(12, 4))))
    for level, size in enumerate(SIZES):
        assert logits[:, level, :size].isfinite().all()
        assert (logits[:, level, size:] == -torch.inf).all()


def test_all_targets_of_a_sequence_share_a_window(tiny_codes: Tensor) -> None:
    made = causal(tiny_codes, "item")
    data = random_sequences(12, 8, longest=7)
    assert len(made.windows(data)) == len(data)
    assert data.num_targets > len(data)


@pytest.mark.parametrize("form", INPUTS)
def test_a_filter_of_the_past_is_learned_and_changes_the_logits(
    tiny_codes: Tensor, form: Input
) -> None:
    plain, filtered = (causal(tiny_codes, form, share) for share in SHARES)
    numbers = [sum(p.numel() for p in made.parameters()) for made in (plain, filtered)]
    assert numbers[1] - numbers[0] == 2 * 8, "one for each channel of each layer"
    batch = batch_of(plain.windows(sequence_set([([3, 1, 4, 1, 5, 9], 1)])))
    logits = all_logits(filtered, batch)[:, 0, : SIZES[0]]
    logits[:, 0].sum().backward()
    for block in filtered.encoder.blocks:
        assert (block.b.grad != 0).all()
    with torch.no_grad():
        filtered.load_state_dict(plain.state_dict(), strict=False)
        before = all_logits(plain, batch)[:, 0, : SIZES[0]]
        after = all_logits(filtered, batch)[:, 0, : SIZES[0]]
    assert not torch.isclose(before, after).any()


def test_a_filter_keeps_no_more_frequencies_than_a_history_has() -> None:
    assert CausalConfig(max_history=3).filter_cutoff == 5, "unused"
    with pytest.raises(ValueError, match=r"filter_cutoff must be .*3, got 5"):
        CausalConfig(max_history=3, filter_share=0.5)
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="filter_share"):
            CausalConfig(filter_share=share)
