from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.objective import (
    LETTER_TAU,
    Candidates,
    Objective,
    ObjectiveConfig,
    candidates,
)

PATHS = torch.tensor([[0, 3, 5], [0, 3, 6], [0, 4, -1], [1, 3, 5], [2, -1, -1], [1, 3, 5]])
TARGETS = torch.tensor([0, 4, 5, 2])
NUM_TOKENS = 8


@pytest.fixture
def trie() -> CodeTrie:
    return CodeTrie.from_paths(PATHS, NUM_TOKENS)


@pytest.fixture
def batch(trie: CodeTrie) -> tuple[Tensor, Candidates, Tensor]:
    gen = torch.Generator().manual_seed(0)
    logits = torch.randn(len(TARGETS), 3, NUM_TOKENS, generator=gen)
    scores = torch.randn(len(TARGETS), len(PATHS), generator=gen)
    teacher = CollaborativeTokenizer(trie)(scores, TARGETS)
    return logits, candidates(trie, TARGETS), teacher


def make(**config: Any) -> Objective:
    return Objective(ObjectiveConfig(**config))


def test_candidates_are_the_tokens_that_may_follow(trie: CodeTrie) -> None:
    found = candidates(trie, TARGETS)
    for row, item in enumerate(TARGETS.tolist()):
        path = [token for token in PATHS[item].tolist() if token != -1]
        assert found.counted[row].tolist() == [pos < len(path) for pos in range(3)]
        for pos, token in enumerate(path):
            allowed = sorted({p[pos] for p in PATHS.tolist() if p[:pos] == path[:pos]})
            assert found.tokens[row, pos][found.valid[row, pos]].tolist() == allowed
            assert allowed[found.target_slot[row, pos]] == token
    assert not found.valid[~found.counted].any()
    assert not found.tokens[~found.valid].any()


def test_unmasked_ntp_is_cross_entropy(batch: tuple[Tensor, Candidates, Tensor]) -> None:
    logits, found, _ = batch
    targets = PATHS[TARGETS]
    expected = F.cross_entropy(logits.flatten(0, 1) / 2, targets.flatten(), ignore_index=-1)
    got = make(name="ntp", masked=False, tau=2.0)(logits, found)
    torch.testing.assert_close(got.loss, expected)


def test_msl_is_masked_ntp_with_a_temperature(batch: tuple[Tensor, Candidates, Tensor]) -> None:
    logits, found, _ = batch
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    for row, pos, slot in found.valid.nonzero().tolist():
        allowed[row, pos, found.tokens[row, pos, slot]] = True
    masked = (logits / 4.5).masked_fill(~allowed, -torch.inf)
    expected = F.cross_entropy(masked[found.counted], PATHS[TARGETS][found.counted])
    for name in ("msl", "ntp"):
        torch.testing.assert_close(make(name=name, tau=4.5)(logits, found).loss, expected)


@pytest.mark.parametrize("masked", [True, False])
def test_letters_gradient_is_what_is_probable_minus_the_target_over_tau(
    batch: tuple[Tensor, Candidates, Tensor], masked: bool
) -> None:
    logits, found, _ = batch
    tau = LETTER_TAU
    expected = torch.zeros_like(logits)
    losses = []
    for row, pos in found.counted.nonzero().tolist():
        children = found.tokens[row, pos][found.valid[row, pos]].tolist()
        pool = children if masked else range(NUM_TOKENS)
        weight = {v: math.exp(float(logits[row, pos, v]) / tau) for v in pool}
        target = int(PATHS[TARGETS[row], pos])
        losses.append(-math.log(weight[target] / sum(weight.values())))
        for token, mass in weight.items():
            p = mass / sum(weight.values())
            expected[row, pos, token] = (p - (token == target)) / tau
    output = make(name="letter", tau=tau, masked=masked)(logits.requires_grad_(), found)
    torch.testing.assert_close(output.loss, torch.tensor(losses).mean())
    (gradient,) = torch.autograd.grad(output.loss, logits)
    torch.testing.assert_close(gradient, expected / len(losses))


@pytest.mark.parametrize("masked", [True, False])
def test_letter_at_the_released_temperature_is_plain_ntp(
    batch: tuple[Tensor, Candidates, Tensor], masked: bool
) -> None:
    logits, found, _ = batch
    got = make(name="letter", tau=1.0, masked=masked)(logits, found)
    assert torch.equal(got.loss, make(name="ntp", masked=masked)(logits, found).loss)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ["soft_ntp", "soft_ce"])
def test_alpha_zero_is_ntp_and_needs_no_teacher(
    batch: tuple[Tensor, Candidates, Tensor], name: str, masked: bool
) -> None:
    logits, found, teacher = batch
    objective = make(name=name, alpha=0.0, masked=masked)
    assert not objective.needs_teacher
    expected = make(name="ntp", masked=masked)(logits, found).loss
    for given in (None, teacher):
        assert torch.equal(objective(logits, found, given).loss, expected)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ["soft_ntp", "soft_ce"])
def test_a_small_alpha_is_almost_ntp(
    batch: tuple[Tensor, Candidates, Tensor], name: str, masked: bool
) -> None:
    logits, found, teacher = batch
    got = make(name=name, alpha=1e-7, masked=masked)(logits, found, teacher)
    expected = make(name="ntp", masked=masked)(logits, found)
    torch.testing.assert_close(got.loss, expected.loss, rtol=1e-5, atol=1e-5)
    assert torch.equal(got.parts["ntp"], expected.parts["ntp"])


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ["soft_ntp", "soft_ce"])
def test_the_two_soft_losses_are_their_equations(
    batch: tuple[Tensor, Candidates, Tensor], name: str, masked: bool
) -> None:
    logits, found, teacher = batch
    losses = []
    for row, pos in found.counted.nonzero().tolist():
        tokens = found.tokens[row, pos][found.valid[row, pos]]
        scores = logits[row, pos] / 1.5
        pool = scores[tokens] if masked else scores
        p = scores[tokens].exp() / pool.exp().sum()
        y = 0.3 * teacher[row, pos][: len(tokens)]
        y[found.target_slot[row, pos]] += 0.7
        losses.append(-(y * p).sum().log() if name == "soft_ntp" else -(y * p.log()).sum())
    got = make(name=name, alpha=0.3, tau=1.5, masked=masked)(logits, found, teacher)
    torch.testing.assert_close(got.loss, torch.stack(losses).mean())


def test_the_loss_carries_gradients_and_the_parts_do_not(
    batch: tuple[Tensor, Candidates, Tensor],
) -> None:
    logits, found, teacher = batch
    output = make(name="soft_ce", alpha=0.5)(logits.requires_grad_(), found, teacher)
    assert output.loss.requires_grad
    assert output.loss.dtype == torch.float32
    assert not any(part.requires_grad for part in output.parts.values())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "kl"}, "objective must be one of ntp, msl, letter, soft_ntp, soft_ce, got 'kl'"),
        ({"name": "letter", "alpha": 0.5}, "letter has no teacher"),
        ({"name": "soft_ce", "alpha": 1.5}, r"alpha must lie in \[0, 1\], got 1.5"),
        ({"name": "soft_ce", "alpha": float("nan")}, "alpha must lie in"),
        ({"name": "ntp", "alpha": 0.5}, "ntp has no teacher"),
        ({"name": "msl", "tau": 0.0}, "tau must be above 0"),
        ({"name": "msl", "masked": False}, "msl is masked by definition"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**config)


def test_a_missing_teacher_is_refused(batch: tuple[Tensor, Candidates, Tensor]) -> None:
    logits, found, _ = batch
    with pytest.raises(ValueError, match="needs the teacher's token distributions"):
        make(name="soft_ce", alpha=0.5)(logits, found)


def test_a_teacher_of_another_trie_is_refused(batch: tuple[Tensor, Candidates, Tensor]) -> None:
    logits, found, teacher = batch
    with pytest.raises(ValueError, match="the same trie and targets"):
        make(name="soft_ntp", alpha=0.5)(logits, found, teacher[..., 1:])


def test_logits_of_other_positions_are_refused(batch: tuple[Tensor, Candidates, Tensor]) -> None:
    logits, found, _ = batch
    with pytest.raises(ValueError, match="logits must be"):
        make()(logits[:, 1:], found)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ["ntp", "soft_ntp", "soft_ce"])
def test_positions_left_out_change_neither_loss_nor_gradient(
    trie: CodeTrie, batch: tuple[Tensor, Candidates, Tensor], name: str, masked: bool
) -> None:
    logits, whole, teacher = batch
    objective = make(name=name, alpha=0.0 if name == "ntp" else 0.3, masked=masked)
    logits.requires_grad_()
    expected = objective(logits, whole, teacher)
    (gradient,) = torch.autograd.grad(expected.loss, logits)

    at = objective.positions(trie, TARGETS)
    # every position but those of the path that is over, and, masked, those with one child only
    assert at.real.sum() == (7 if masked else 9)
    assert set(at.pos.bincount().tolist()) <= {0, 64}
    assert at.pos.tolist() == sorted(at.pos.tolist())
    some = candidates(trie, TARGETS, at)
    found = objective(logits[at.target, at.pos], some, teacher[at.target, at.pos])
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.parts, expected.parts)
    assert torch.equal(found.count, expected.count)
    (sparse,) = torch.autograd.grad(found.loss, logits)
    torch.testing.assert_close(sparse, gradient)
