from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from semid.trie import CodeTrie
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective

WIDE = CodeTrie.from_paths(torch.cartesian_prod(torch.arange(8), torch.arange(8, 10)), 10)


def make(**config: Any) -> Objective:
    """MSL, at an adaptive temperature unless told otherwise."""
    return Objective(ObjectiveConfig(**{"name": "msl", "tau": "adaptive", **config}))


def wide_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    gen = torch.Generator().manual_seed(seed)
    targets = torch.randint(16, (12,), generator=gen)
    logits = torch.randn(12, 2, 10, generator=gen)
    logits[torch.arange(12), 0, targets // 2] += 6
    return logits, targets


def test_an_adaptive_temperature_follows_the_first_positions_and_multiplies_the_loss() -> None:
    objective = make(mean="branching")
    running = 1.5
    for seed in range(3):
        logits, targets = wide_batch(seed)
        first = logits[:, 0, :8]
        own = first.gather(-1, targets[:, None] // 2).squeeze(-1)
        gap, c = float(own.mean() - first.mean()), math.log(0.25 * 8)
        best = (gap + math.sqrt(max(0.0, gap**2 - 2 * c * float(first.var())))) / (2 * c)
        running += 0.05 * (min(max(best, 1.5), 5.0) - running)
        output = objective(logits.requires_grad_(), candidates(WIDE, targets))
        fixed = make(tau=running)(logits, candidates(WIDE, targets))
        assert float(output.parts["tau"]) == pytest.approx(running, rel=1e-5)
        torch.testing.assert_close(output.loss, running * fixed.loss)
        torch.testing.assert_close(output.parts["ntp"], fixed.loss)
        (gradient,) = torch.autograd.grad(output.loss, logits)
        p = torch.zeros_like(logits)
        p[:, 0, :8] = (logits[:, 0, :8] / running).softmax(-1)
        p[:, 1, 8:] = (logits[:, 1, 8:] / running).softmax(-1)
        p[torch.arange(12), 0, targets // 2] -= 1
        p[torch.arange(12), 1, 8 + targets % 2] -= 1
        torch.testing.assert_close(gradient, p.detach() / 24)
    assert running > 1.52


def test_an_adaptive_temperature_sees_the_same_at_some_positions() -> None:
    whole, some = make(), make()
    logits, targets = wide_batch()
    expected = whole(logits, candidates(WIDE, targets))
    at = some.positions(WIDE, targets)
    got = some(logits[at.target, at.pos], candidates(WIDE, targets, at))
    torch.testing.assert_close(got.loss, expected.loss)
    torch.testing.assert_close(got.parts, expected.parts)


def test_an_adaptive_temperature_rests_in_evaluation_and_is_part_of_the_state() -> None:
    objective, other = (make() for _ in range(2))
    logits, targets = wide_batch()
    objective(logits, candidates(WIDE, targets))
    assert objective.state_dict()["temperature.tau"] > 1.5
    other.load_state_dict(objective.state_dict())
    expected = objective.eval()(logits, candidates(WIDE, targets))
    assert torch.equal(other.eval()(logits, candidates(WIDE, targets)).loss, expected.loss)
    assert torch.equal(
        objective.state_dict()["temperature.tau"], other.state_dict()["temperature.tau"]
    )


@pytest.mark.parametrize("paths", [[[0, 3], [1, 3], [2, 3]], [[0, 1], [0, 2]]])
def test_a_batch_that_says_nothing_leaves_the_temperature_alone(paths: list[list[int]]) -> None:
    trie = CodeTrie.from_paths(torch.tensor(paths), 4)  # at the root at most three, below 1 / eta
    targets = torch.arange(len(paths))
    logits = torch.randn(len(paths), 2, 4, generator=torch.Generator().manual_seed(0))
    output = make()(logits, candidates(trie, targets))
    assert output.parts["tau"] == 1.5
    assert output.loss.isfinite()
