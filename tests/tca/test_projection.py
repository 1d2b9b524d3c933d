from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from largest import Largest
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import tca.projection
from semid.trie import CodeTrie
from tca.alignment import AlphaContext
from tca.candidates import Candidates, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.config import LETTER_TAU, AlphaPolicy, ObjectiveConfig
from tca.objective import Objective
from tca.projection import Projection

END, NUM_TOKENS, DIM = 5, 60, 7
OBJECTIVES = [
    {"masked": False},
    {"masked": True},
    {"name": "msl", "tau": 4.5},
    {"name": "msl", "tau": "adaptive", "mean": "branching"},
    {"name": "letter", "tau": LETTER_TAU, "masked": False},
    {"name": "soft_ntp", "alpha": 0.1, "tau": 4.5},
    {"name": "soft_ntp", "alpha": 0.7, "masked": False, "mean": "branching"},
    {"name": "soft_ce", "alpha": 0.5},
    {"name": "soft_ce", "alpha": 0.5, "masked": False, "tau": 2.0},
    {"name": "aux_kl", "alpha": 0.3},
    {"name": "aux_kl", "alpha": 0.3, "masked": False},
    {"name": "soft_ntp", "alpha": 0.3, "masked": False, "labels": "uniform_tokens"},
    {"name": "soft_ce", "alpha": 0.9, "policy": AlphaPolicy(cap=True, by="entropy")},
    {"name": "soft_ce", "alpha": 0.9, "masked": False, "policy": AlphaPolicy(by="learned")},
]


@pytest.fixture(autouse=True)
def few_logits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the vocabulary is many blocks, the last of them smaller."""
    monkeypatch.setattr(tca.projection, "_LOGITS_AT_ONCE", 300)


@pytest.fixture
def titles() -> CodeTrie:
    """Ragged paths with an end token: titles that begin others, two that are the same, and more."""
    gen = torch.Generator().manual_seed(0)
    stems = [[10], [10, 20], [10, 20], [10, 20, 31, 40, 50], [7, 20]]
    for length in torch.randint(1, 6, (40,), generator=gen).tolist():
        first = 10 + torch.randint(9, (1,), generator=gen)
        rest = torch.randint(END + 1, NUM_TOKENS, (length - 1,), generator=gen)
        stems.append(torch.cat([first, rest]).tolist())
    rows = [torch.tensor([*stem, END]) for stem in stems]
    return CodeTrie.from_paths(pad_sequence(rows, True, -1), NUM_TOKENS)


class World:
    """A batch with states at every position, or at those that an objective asks for."""

    def __init__(self, trie: CodeTrie, objective: Objective, *, everywhere: bool) -> None:
        gen = torch.Generator().manual_seed(1)
        targets = torch.randint(trie.num_items, (12,), generator=gen)
        scores = 3 * torch.randn(12, trie.num_items, generator=gen)
        teacher = CollaborativeTokenizer(trie)(scores, targets)
        if everywhere:
            self.candidates: Candidates = candidates(trie, targets)
            self.teacher = teacher
        else:
            at = objective.positions(trie, targets, pad_to=4)
            self.candidates = candidates(trie, targets, at)
            self.teacher = teacher[at.target, at.pos]
        shape = self.candidates.supervised.shape
        self.states = torch.randn(*shape, DIM, generator=gen).requires_grad_()
        self.weight = torch.randn(NUM_TOKENS, DIM, generator=gen).requires_grad_()
        self.bias = torch.randn(NUM_TOKENS, generator=gen).requires_grad_()

    def projection(self, bias: Tensor | None) -> Projection:
        return Projection(states=self.states, weight=self.weight, bias=bias)


@pytest.mark.parametrize("everywhere", [True, False], ids=["all positions", "some positions"])
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("config", OBJECTIVES, ids=str)
def test_a_projection_gives_the_loss_and_the_gradients_of_its_logits(
    titles: CodeTrie, config: dict[str, Any], with_bias: bool, everywhere: bool
) -> None:
    expected, found = (Objective(ObjectiveConfig(**config)) for _ in range(2))
    world = World(titles, found, everywhere=everywhere)
    given = world.bias if with_bias else None
    inputs = [world.states, world.weight, *([world.bias] if with_bias else [])]
    logits = F.linear(world.states, world.weight, given)
    slow = expected(logits, world.candidates, world.teacher)
    fast = found(world.projection(given), world.candidates, world.teacher)
    torch.testing.assert_close(fast.loss, slow.loss)
    torch.testing.assert_close(fast.parts, slow.parts)
    assert fast.loss.dtype == torch.float32
    inputs += list(found.parameters())
    theirs = torch.autograd.grad(slow.loss, [*inputs[: 2 + with_bias], *expected.parameters()])
    ours = torch.autograd.grad(fast.loss, inputs)
    torch.testing.assert_close(ours, theirs)
    assert all(bool(gradient.any()) for gradient in ours[:2])


@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("config", OBJECTIVES, ids=str)
def test_parts_of_a_weight_are_the_whole_and_each_has_a_gradient_of_its_own(
    titles: CodeTrie, config: dict[str, Any], with_bias: bool
) -> None:
    expected, found = (Objective(ObjectiveConfig(**config)) for _ in range(2))
    world = World(titles, found, everywhere=False)
    bias = world.bias if with_bias else None
    parts = [p.detach().requires_grad_() for p in world.weight.split([17, 25, NUM_TOKENS - 42])]
    parts[0].requires_grad_(False)
    logits = F.linear(world.states, world.weight, bias)
    slow = expected(logits, world.candidates, world.teacher)
    given = Projection(states=world.states, weight=tuple(parts), bias=bias)
    torch.testing.assert_close(given.logits(), logits)
    fast = found(given, world.candidates, world.teacher)
    torch.testing.assert_close(fast.loss, slow.loss)
    of_bias = [world.bias] if with_bias else []
    states, weight, *rest = torch.autograd.grad(slow.loss, [world.states, world.weight, *of_bias])
    ours = torch.autograd.grad(fast.loss, [world.states, *parts[1:], *of_bias])
    torch.testing.assert_close(ours, (states, weight[17:42], weight[42:], *rest))
    assert bool(weight[17:42].any())
    assert bool(weight[42:].any())


def test_a_bias_may_forbid_tokens(titles: CodeTrie) -> None:
    objective = Objective(ObjectiveConfig(name="soft_ce", alpha=0.5, masked=False))
    world = World(titles, objective, everywhere=True)
    bias = torch.zeros(NUM_TOKENS).index_fill_(0, torch.arange(END), -torch.inf)
    slow = objective(
        F.linear(world.states, world.weight, bias), world.candidates, world.teacher
    ).loss
    fast = objective(world.projection(bias), world.candidates, world.teacher).loss
    torch.testing.assert_close(fast, slow)
    inputs = [world.states, world.weight]
    torch.testing.assert_close(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs))


def test_plain_ntp_is_cross_entropy_over_the_vocabulary(titles: CodeTrie) -> None:
    objective = Objective(ObjectiveConfig(masked=False))
    world = World(titles, objective, everywhere=True)
    found = world.candidates
    target = found.tokens.gather(-1, found.target_slot[..., None]).squeeze(-1)
    logits = F.linear(world.states, world.weight)
    expected = F.cross_entropy(logits[found.supervised], target[found.supervised])
    torch.testing.assert_close(objective(world.projection(None), found).loss, expected)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ["soft_ntp", "soft_ce", "aux_kl"])
def test_nothing_is_as_large_as_the_logits(titles: CodeTrie, name: str, masked: bool) -> None:
    objective = Objective(ObjectiveConfig(name=name, alpha=0.5, masked=masked))
    world = World(titles, objective, everywhere=True)
    with Largest() as largest:
        objective(world.projection(None), world.candidates, world.teacher).loss.backward()
    rows = world.candidates.supervised.numel()
    assert largest.elements < rows * NUM_TOKENS
    assert world.weight.grad is not None
    assert largest.elements >= world.candidates.valid.numel()


@pytest.mark.parametrize("masked", [True, False])
def test_frozen_weights_get_no_gradient(titles: CodeTrie, masked: bool) -> None:
    objective = Objective(ObjectiveConfig(name="soft_ce", alpha=0.5, masked=masked))
    world = World(titles, objective, everywhere=True)
    expected = objective(F.linear(world.states, world.weight), world.candidates, world.teacher)
    (theirs,) = torch.autograd.grad(expected.loss, world.states)
    frozen = Projection(states=world.states, weight=world.weight.detach())
    objective(frozen, world.candidates, world.teacher).loss.backward()
    torch.testing.assert_close(world.states.grad, theirs)


@pytest.mark.parametrize("masked", [True, False])
def test_under_autocast_only_the_products_are_coarse(titles: CodeTrie, masked: bool) -> None:
    objective = Objective(ObjectiveConfig(name="soft_ce", alpha=0.5, masked=masked))
    world = World(titles, objective, everywhere=True)
    exact = objective(world.projection(None), world.candidates, world.teacher).loss
    with torch.autocast("cpu", torch.bfloat16):
        coarse = objective(world.projection(world.bias * 0), world.candidates, world.teacher).loss
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, exact, rtol=0.02, atol=0.0)
    inputs = [world.states, world.weight]
    for ours, theirs in zip(
        torch.autograd.grad(coarse, inputs), torch.autograd.grad(exact, inputs), strict=True
    ):
        assert ours.dtype == torch.float32
        assert F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("masked", [True, False])
def test_a_model_in_bfloat16_has_gradients_in_bfloat16(titles: CodeTrie, masked: bool) -> None:
    objective = Objective(ObjectiveConfig(name="soft_ntp", alpha=0.5, masked=masked))
    world = World(titles, objective, everywhere=True)
    exact = objective(world.projection(None), world.candidates, world.teacher).loss
    theirs = torch.autograd.grad(exact, [world.states, world.weight])
    states, weight = (x.detach().bfloat16().requires_grad_() for x in (world.states, world.weight))
    coarse = objective(
        Projection(states=states, weight=weight), world.candidates, world.teacher
    ).loss
    torch.testing.assert_close(coarse, exact, rtol=0.02, atol=0.0)
    for ours, true in zip(torch.autograd.grad(coarse, [states, weight]), theirs, strict=True):
        assert ours.dtype == torch.bfloat16
        assert F.cosine_similarity(ours.float().flatten(), true.flatten(), dim=0) > 0.999


@pytest.mark.parametrize("masked", [True, False])
def test_a_batch_without_a_choice_has_no_loss(masked: bool) -> None:
    trie = CodeTrie.from_paths(torch.tensor([[3, END]]), NUM_TOKENS)
    objective = Objective(ObjectiveConfig(masked=masked, mean="branching"))
    targets = torch.tensor([0, 0])
    found = candidates(trie, targets, objective.positions(trie, targets, pad_to=1))
    states = torch.randn(0, DIM, requires_grad=True)
    projection = Projection(states=states, weight=torch.randn(NUM_TOKENS, DIM))
    loss = objective(projection, found).loss
    loss.backward()
    assert float(loss.detach()) == 0


def test_shapes_that_do_not_fit_are_refused(titles: CodeTrie) -> None:
    objective = Objective(ObjectiveConfig())
    world = World(titles, objective, everywhere=True)
    with pytest.raises(ValueError, match=r"weight must be \(token, dim\) with dim 7"):
        Projection(states=world.states, weight=world.weight.T)
    with pytest.raises(ValueError, match="bias must hold one value for each of the 60 tokens"):
        Projection(states=world.states, weight=world.weight, bias=world.bias[1:])
    with pytest.raises(ValueError, match=r"states must be .* 'dim'\), got \(12, 5, 7\)"):
        objective(Projection(states=world.states[:, 1:], weight=world.weight), world.candidates)
    with pytest.raises(ValueError, match=r"weight must be \(token, dim\) with dim 7"):
        Projection(states=world.states, weight=(world.weight, torch.zeros(3, 8)))
    few = Projection(states=world.states, weight=world.weight[:50])
    with pytest.raises(ValueError, match="the model's own vocabulary"):
        objective(few, world.candidates)


def test_alpha_policies_see_the_same_candidates(titles: CodeTrie) -> None:
    def trust(p: Tensor, num_children: Tensor, context: AlphaContext) -> Tensor:
        return p.amax(dim=-1)

    objective = Objective(ObjectiveConfig(name="soft_ce", alpha=0.5), trust=trust)
    world = World(titles, objective, everywhere=True)
    slow = objective(F.linear(world.states, world.weight), world.candidates, world.teacher)
    fast = objective(world.projection(None), world.candidates, world.teacher)
    torch.testing.assert_close(fast.parts, slow.parts)
