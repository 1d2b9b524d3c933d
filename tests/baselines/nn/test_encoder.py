"""The causal transformer against one position at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines.nn.config import EncoderConfig
from baselines.nn.encoder import CausalEncoder, Past
from baselines.nn.kv_cache import PrefixCache
from baselines.nn.low_pass import LowPass

SHAPES = [
    EncoderConfig(dim=8, num_layers=2, num_heads=2, ff_dim=12),
    EncoderConfig(dim=6, num_layers=1, num_heads=1, ff_dim=5),
]
FILTER = LowPass(share=0.7, length=9, num_frequencies=3)
FILTERS = [None, FILTER]


def encoder(config: EncoderConfig = SHAPES[0], low_pass: LowPass | None = None) -> CausalEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = CausalEncoder(config, low_pass=low_pass)
        for parameter in made.parameters():  # biases and norms too, or they would hide
            torch.nn.init.normal_(parameter, std=0.4)
    return made.eval()


def inputs(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slow_low(low_pass: LowPass, h: Tensor, pos: int) -> Tensor:
    """The past of ``h`` up to ``pos``, weighted by Dirichlet's kernel of at most half a period."""
    size, num = low_pass.length, low_pass.num_frequencies
    weights = {
        past: sum(math.cos(2 * math.pi * k * (pos - past) / size) for k in range(1 - num, num))
        for past in range(max(pos - size // 2, 0), pos + 1)
    }
    low = sum((weight * h[past] for past, weight in weights.items()), torch.zeros(h.shape[1]))
    return low / sum(weights.values())


def slow_encode(made: CausalEncoder, x: Tensor, low_pass: LowPass | None = None) -> Tensor:
    """States of one sequence ``(pos, dim)`` without padding: position by position, head by head."""
    block: Any
    for block in made.blocks:
        normed = block.attention_norm(x)
        query, key, value = block.query_key_value(normed).chunk(3, dim=-1)
        size = x.shape[1] // block.num_heads
        rows = []
        for pos in range(len(x)):
            mixed = torch.zeros(x.shape[1])
            for head in range(block.num_heads):
                part = slice(head * size, (head + 1) * size)
                weights = [
                    math.exp(float(query[pos, part] @ key[past, part]) / math.sqrt(size))
                    for past in range(pos + 1)
                ]
                for past, weight in enumerate(weights):
                    mixed[part] += weight / sum(weights) * value[past, part]
            update = block.project(mixed)
            if low_pass is not None:
                low = slow_low(low_pass, normed, pos)
                filtered = low + block.b**2 * (normed[pos] - low)
                update = low_pass.share * filtered + (1 - low_pass.share) * update
            row = x[pos] + update
            hidden = block.ff_in(block.ff_norm(row)).clamp_min(0)
            rows.append(row + block.ff_out(hidden))
        x = torch.stack(rows)
    states: Tensor = made.norm(x)
    return states


@torch.no_grad()
@pytest.mark.parametrize("low_pass", FILTERS)
@pytest.mark.parametrize("config", SHAPES)
def test_states_are_the_definition(config: EncoderConfig, low_pass: LowPass | None) -> None:
    made, x = encoder(config, low_pass), inputs(3, 7, config.dim)
    states, _ = made(x, torch.ones(3, 7, dtype=torch.bool))
    expected = torch.stack([slow_encode(made, row, low_pass) for row in x])
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("low_pass", FILTERS)
def test_left_padding_and_what_stands_in_it_change_nothing(low_pass: LowPass | None) -> None:
    made, x = encoder(low_pass=low_pass), inputs(4, 6, 8)
    lengths = [6, 3, 1, 5]
    mask = torch.arange(6) >= 6 - torch.tensor(lengths)[:, None]
    states, _ = made(x, mask)
    assert states.isfinite().all()
    for row, length in enumerate(lengths):
        expected = slow_encode(made, x[row, -length:], low_pass)
        torch.testing.assert_close(states[row, -length:], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("low_pass", FILTERS)
def test_a_state_does_not_see_what_comes_later(low_pass: LowPass | None) -> None:
    made, x = encoder(low_pass=low_pass), inputs(2, 6, 8)
    mask = torch.ones(2, 6, dtype=torch.bool)
    changed = x.clone()
    changed[:, 4:] = inputs(2, 2, 8, seed=2)
    before, after = made(x, mask)[0], made(changed, mask)[0]
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.isclose(before[:, 4:], after[:, 4:]).any()


@torch.no_grad()
@pytest.mark.parametrize("low_pass", FILTERS)
@pytest.mark.parametrize("config", SHAPES)
def test_extending_a_history_in_several_ways_is_encoding_each_of_them_whole(
    config: EncoderConfig, low_pass: LowPass | None
) -> None:
    made = encoder(config, low_pass)
    mask = torch.tensor([[True] * 4, [False, False, True, True]])
    history = inputs(2, 4, config.dim)
    past = Past(made(history, mask)[1], mask)
    cache = PrefixCache()
    read = [[history[row][mask[row]]] for row in range(2)]  # of each continuation
    for turn, parents in enumerate(([[0, 0, 0]] * 2, [[2, 0, 0], [1, 1, 2]], [[0, 1], [2, 0]])):
        parent = torch.tensor(parents)
        following = inputs(*parent.shape, config.dim, seed=2 + turn)
        states, cache = made.extend(following, past, cache.reorder(parent))
        read = [
            [torch.cat([read[row][of], new[None]]) for of, new in zip(*pair, strict=True)]
            for row, pair in enumerate(zip(parents, following, strict=True))
        ]
        for row in range(2):
            for beam, whole in enumerate(read[row]):
                expected = slow_encode(made, whole, low_pass)[-1]
                torch.testing.assert_close(states[row, beam], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("low_pass", FILTERS)
def test_padding_passes_no_gradient_and_no_nan(low_pass: LowPass | None) -> None:
    made, x = encoder(low_pass=low_pass), inputs(2, 4, 8).requires_grad_()
    mask = torch.tensor([[True] * 4, [False, False, True, True]])
    made(x, mask)[0][:, -1].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert torch.equal(x.grad[1, :2], torch.zeros(2, 8))
    assert (x.grad[0] != 0).all()


def test_dropout_acts_in_training_only() -> None:
    made, x = encoder(), inputs(1, 4, 8)
    mask = torch.ones(1, 4, dtype=torch.bool)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        assert torch.equal(made(x, mask)[0], made(x, mask)[0])
        made.train()
        assert not torch.equal(made(x, mask)[0], made(x, mask)[0])


def test_a_filter_adds_a_number_for_each_channel_and_layer() -> None:
    plain, filtered = (
        {n: p.shape for n, p in encoder(low_pass=f).named_parameters()} for f in FILTERS
    )
    assert {n: s for n, s in filtered.items() if n not in plain} == {
        "blocks.0.b": (8,),
        "blocks.1.b": (8,),
    }
    assert plain.items() <= filtered.items()
    assert encoder(low_pass=FILTER).state_dict().keys() == filtered.keys(), "the kernel is not kept"
