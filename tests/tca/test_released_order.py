"""What is done as in TCA4Rec's released code where a config's ``reference`` says so."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.trie import CodeTrie
from tca.candidates import candidates
from tca.collaborative import CollaborativeTokenizer
from tca.config import ObjectiveConfig
from tca.functional import linear_soft_ntp_loss, log_probs_over_candidates, soft_ntp_loss
from tca.objective import Objective
from tca.projection import Projection

PATHS = torch.tensor([[0, 3, 5], [0, 3, 6], [0, 4, -1], [1, 3, 5], [2, -1, -1], [1, 3, 5]])
TARGETS = torch.tensor([0, 4, 5, 2])  # of 3, 1, 3 and 2 tokens
NUM_TOKENS, DIM = 8, 4
CONFIGS: list[dict[str, Any]] = [
    {"name": "ntp"},
    {"name": "ntp", "masked": False, "mean": "branching"},
    {"name": "msl", "tau": 4.5},
    {"name": "soft_ntp", "alpha": 0.3, "tau": 4.5},
    {"name": "soft_ntp", "alpha": 0.3, "mean": "branching"},
    {"name": "soft_ntp", "alpha": 0.3, "masked": False},
    {"name": "soft_ntp", "alpha": 1.0, "labels": "uniform_items"},
]


class World:
    """A batch with states at every position, and a teacher."""

    def __init__(self) -> None:
        gen = torch.Generator().manual_seed(0)
        self.trie = CodeTrie.from_paths(PATHS, NUM_TOKENS)
        self.states = torch.randn(len(TARGETS), 3, DIM, generator=gen).requires_grad_()
        self.weight = torch.randn(NUM_TOKENS, DIM, generator=gen)
        scores = torch.randn(len(TARGETS), len(PATHS), generator=gen)
        self.teacher = CollaborativeTokenizer(self.trie)(scores, TARGETS)

    @property
    def logits(self) -> Tensor:
        return F.linear(self.states, self.weight)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_linear_sums_give_the_same_loss_and_gradients(world: World, config: dict[str, Any]) -> None:
    found = candidates(world.trie, TARGETS)
    ours = Objective(ObjectiveConfig(**config))(world.logits, found, world.teacher)
    linear = Objective(ObjectiveConfig(**config, reference=("linear",)))
    (expected,) = torch.autograd.grad(ours.loss, world.states)
    for logits in (world.logits, Projection(states=world.states, weight=world.weight)):
        theirs = linear(logits, found, world.teacher)
        torch.testing.assert_close(theirs.loss, ours.loss)
        torch.testing.assert_close(theirs.parts, ours.parts)
        (gradient,) = torch.autograd.grad(theirs.loss, world.states)
        torch.testing.assert_close(gradient, expected)


def test_forced_positions_count_in_msls_mean_with_a_fixed_tau(world: World) -> None:
    """arXiv:2504.04178, released code: mean over tokens of the loss over what may follow."""
    tau, losses, forced = 4.5, [], 0
    for row, item in enumerate(TARGETS.tolist()):
        path = [token for token in PATHS[item].tolist() if token >= 0]
        for pos, token in enumerate(path):
            alike = [p for p in PATHS.tolist() if p[:pos] == path[:pos] and p[pos] >= 0]
            children = sorted({p[pos] for p in alike})
            scores = {child: float(world.logits[row, pos, child].detach()) for child in children}
            total = sum(math.exp(score / tau) for score in scores.values())
            losses.append(math.log(total) - scores[token] / tau)
            forced += len(children) == 1
    assert forced, "each of them has the loss 0"
    found = candidates(world.trie, TARGETS)
    every = Objective(ObjectiveConfig(name="msl", tau=tau))(world.logits, found)
    assert every.loss.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    few = Objective(ObjectiveConfig(name="msl", tau=tau, mean="branching"))(world.logits, found)
    assert few.loss.item() == pytest.approx(sum(losses) / (len(losses) - forced), rel=1e-5)


def test_linear_sums_underflow_where_log_space_goes_on() -> None:
    logits = torch.tensor([[[0.0, 200.0, 0.0]]])
    tokens, labels = torch.tensor([[[0, 1]]]), torch.tensor([[[1.0, 0.0]]])
    supervised = torch.tensor([[True]])
    log_p = log_probs_over_candidates(logits, tokens, torch.ones(1, 1, 2, dtype=torch.bool))
    assert float(soft_ntp_loss(log_p, labels, supervised)) == 200
    assert float(linear_soft_ntp_loss(log_p, labels, supervised, log_p.amax(-1))) == torch.inf


@pytest.mark.parametrize(("end_token", "counts"), [(False, [2, 0, 2, 1]), (True, [1, 0, 1, 0])])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_last_tokens_of_a_path_have_no_loss(
    world: World, config: dict[str, Any], end_token: bool, counts: list[int]
) -> None:
    objective = Objective(ObjectiveConfig(**config, reference=("end",)), end_token=end_token)
    whole = candidates(world.trie, TARGETS)
    dense = objective(world.logits, whole, world.teacher)
    kept = torch.arange(3) < torch.tensor(counts)[:, None]
    branching = kept & (whole.num_children > 1)
    of_mean = branching if config.get("mean") == "branching" else kept
    assert int(dense.count) == int(of_mean.sum())

    losses = []
    for row, pos in of_mean.nonzero().tolist():
        item = TARGETS[row : row + 1]
        alone = candidates(world.trie, item)
        only = (torch.arange(3) == pos)[None]
        alone = type(alone)(
            **{**vars(alone), "supervised": only, "on_paths": alone.on_paths * only}
        )
        plain = Objective(ObjectiveConfig(**{**config, "mean": "all"}))
        losses.append(plain(world.logits[row][None], alone, world.teacher[row][None]).loss)
    torch.testing.assert_close(dense.loss, torch.stack(losses).mean())
    (expected,) = torch.autograd.grad(dense.loss, world.states)
    assert not expected[~kept].any()

    at = objective.positions(world.trie, TARGETS, pad_to=1)
    assert int(at.count) == int(dense.count)
    assert not (~kept)[at.target, at.pos].any()
    some = candidates(world.trie, TARGETS, at)
    few = objective(world.logits[at.target, at.pos], some, world.teacher[at.target, at.pos])
    torch.testing.assert_close(few.loss, dense.loss)
    torch.testing.assert_close(few.parts, dense.parts)
    assert int(few.count) == int(dense.count)
    (sparse,) = torch.autograd.grad(few.loss, world.states)
    torch.testing.assert_close(sparse, expected)


@pytest.mark.parametrize("reference", [("end",), ("end", "linear")], ids="+".join)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("everywhere", [True, False])
def test_a_batch_without_a_counted_token_has_no_loss(
    world: World, config: dict[str, Any], reference: Any, everywhere: bool
) -> None:
    objective = Objective(ObjectiveConfig(**config, reference=reference), end_token=True)
    short = torch.tensor([4, 2])
    at = None if everywhere else objective.positions(world.trie, short, pad_to=1)
    states, p = world.states[:2], torch.zeros(2, 3, world.trie.max_children)
    if at is not None:
        assert len(at.pos) == int(at.count) == 0
        states, p = states[at.target, at.pos], p[at.target, at.pos]
    projection = Projection(states=states, weight=world.weight)
    output = objective(projection, candidates(world.trie, short, at), p)
    output.loss.backward()
    assert float(output.loss.detach()) == float(output.parts["ntp"]) == int(output.count) == 0
    assert world.states.grad is not None
    assert not world.states.grad.any()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"reference": ("fp16",)}, "each one of bfloat16, end, linear, got .'fp16'"),
        ({"reference": ("bfloat16",)}, "reference bfloat16 rounds a teacher's scores, and ntp"),
        (
            {
                "name": "soft_ntp",
                "alpha": 0.1,
                "labels": "uniform_items",
                "reference": ("bfloat16",),
            },
            "with labels of uniform_items takes none",
        ),
        (
            {"name": "soft_ce", "alpha": 0.1, "reference": ("linear",)},
            "reference linear applies to ntp, msl, soft_ntp, got soft_ce",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**config)
