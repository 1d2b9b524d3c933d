from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.trie import CodeTrie
from tca.alignment import AlphaContext, largest_alpha, margin
from tca.candidates import Candidates, Positions, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.config import LETTER_TAU, AlphaPolicy, ObjectiveConfig
from tca.functional import log_probs_over_candidates, soft_labels, soft_ntp_loss
from tca.objective import Objective

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
        assert found.supervised[row].tolist() == [pos < len(path) for pos in range(3)]
        for pos, token in enumerate(path):
            allowed = sorted({p[pos] for p in PATHS.tolist() if p[:pos] == path[:pos]})
            assert found.tokens[row, pos][found.valid[row, pos]].tolist() == allowed
            assert allowed[found.target_slot[row, pos]] == token
    assert not found.valid[~found.supervised].any()
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
    expected = F.cross_entropy(masked[found.supervised], PATHS[TARGETS][found.supervised])
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
    for row, pos in found.supervised.nonzero().tolist():
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
@pytest.mark.parametrize("name", ["soft_ntp", "soft_ce", "aux_kl"])
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
@pytest.mark.parametrize("name", ["soft_ntp", "soft_ce", "aux_kl"])
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
    for row, pos in found.supervised.nonzero().tolist():
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
        ({"name": "kl"}, "objective must be one of .*, soft_ce, aux_kl, got 'kl'"),
        ({"name": "letter", "alpha": 0.5}, "letter has no teacher"),
        (
            {"name": "soft_ce", "alpha": 1.5},
            "alpha must be a number of at least 0",
        ),
        ({"name": "soft_ce", "alpha": float("nan")}, "alpha must be a finite number, got nan"),
        ({"name": "ntp", "alpha": 0.5}, "ntp has no teacher"),
        ({"name": "msl", "tau": 0.0}, "tau must be a number of at least 1e-06"),
        ({"name": "msl", "masked": False}, "msl is masked by definition"),
        ({"tau": "warm"}, "tau must be a finite number or one of adaptive, got 'warm'"),
        ({"tau": "adaptive", "masked": False}, "an adaptive tau needs the mask"),
        ({"labels": "uniform"}, "labels must be one of teacher, uniform_tokens, uniform_items"),
        ({"mean": "some"}, "mean must be one of all, branching"),
        ({"labels": "uniform_items"}, "ntp has no teacher, so it takes no labels"),
        ({"policy": AlphaPolicy(cap=True)}, "ntp has no teacher, so it takes no labels"),
        (
            {"name": "soft_ce", "policy": AlphaPolicy(by="learned")},
            "starts strictly between 0 and 1, got 0",
        ),
        ({"name": "aux_kl", "alpha": 0.5, "policy": AlphaPolicy(cap=True)}, "leave out the cap"),
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


OBJECTIVES = [
    {},
    {"name": "msl", "tau": 4.5},
    {"name": "letter", "tau": LETTER_TAU},
    {"name": "soft_ntp", "alpha": 0.3},
    {"name": "soft_ce", "alpha": 0.3},
    {"name": "aux_kl", "alpha": 0.3},
    {"name": "soft_ntp", "alpha": 0.3, "labels": "uniform_tokens"},
    {"name": "soft_ce", "alpha": 0.3, "labels": "uniform_items"},
    {"name": "soft_ntp", "alpha": 0.9, "policy": AlphaPolicy(cap=True, by="entropy")},
    {"name": "soft_ce", "alpha": 0.9, "policy": AlphaPolicy(by="short_history", start=0.1)},
    {"name": "aux_kl", "alpha": 0.9, "policy": AlphaPolicy(by="learned", gate=0.5)},
]
CONTEXT = AlphaContext(
    progress=0.5,
    history_length=torch.tensor([[3], [0], [9], [1]]),
    popularity=torch.tensor([[2], [7], [1], [4]]),
)


def context_at(at: Positions) -> AlphaContext:
    assert CONTEXT.history_length is not None
    assert CONTEXT.popularity is not None
    return AlphaContext(
        progress=CONTEXT.progress,
        history_length=CONTEXT.history_length[at.target, 0],
        popularity=CONTEXT.popularity[at.target, 0],
    )


@pytest.mark.parametrize("mean", ["all", "branching"])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("config", OBJECTIVES, ids=str)
def test_positions_left_out_change_neither_loss_nor_gradient(
    trie: CodeTrie,
    batch: tuple[Tensor, Candidates, Tensor],
    config: dict[str, Any],
    masked: bool,
    mean: str,
) -> None:
    logits, whole, teacher = batch
    objective = make(**config, mean=mean, masked=masked or config.get("name") == "msl")
    if objective.gate is not None:
        objective.gate.weight.data += 0.7
    masked = objective.config.masked
    logits.requires_grad_()
    expected = objective(logits, whole, teacher, CONTEXT)
    (gradient,) = torch.autograd.grad(expected.loss, logits)
    assert (gradient != 0).any(dim=-1).sum() > 4

    at = objective.positions(trie, TARGETS)
    # every position but those of the path that is over, and, where nothing competes or what is
    # forced is left out, those with one child only
    assert at.real.sum() == (7 if masked or mean == "branching" else 9)
    assert set(at.pos.bincount().tolist()) <= {0, 64}
    assert at.pos.tolist() == sorted(at.pos.tolist())
    some = candidates(trie, TARGETS, at)
    found = objective(logits[at.target, at.pos], some, teacher[at.target, at.pos], context_at(at))
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.parts, expected.parts)
    assert int(found.count) == int(expected.count) == int(at.count) == (7 if mean != "all" else 9)
    (sparse,) = torch.autograd.grad(found.loss, logits)
    torch.testing.assert_close(sparse, gradient)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("config", OBJECTIVES, ids=str)
def test_a_mean_of_branching_positions_leaves_out_the_others(
    batch: tuple[Tensor, Candidates, Tensor], config: dict[str, Any], masked: bool
) -> None:
    logits, whole, teacher = batch
    masked = masked or config.get("name") == "msl"
    objective = make(**config, masked=masked, mean="branching")
    everything = make(**config, masked=masked)
    branching = whole.valid.sum(-1) > 1
    without = dataclasses.replace(whole, supervised=whole.supervised & branching)
    got = objective(logits, whole, teacher, CONTEXT)
    sum_of_branching = everything(logits, without, teacher, CONTEXT).loss * whole.count
    torch.testing.assert_close(got.loss, sum_of_branching / branching.sum())
    if masked:
        whole_sum = everything(logits, whole, teacher, CONTEXT).loss * whole.count
        torch.testing.assert_close(got.loss, whole_sum / branching.sum())


@pytest.mark.parametrize("labels", ["uniform_tokens", "uniform_items"])
@pytest.mark.parametrize("name", ["soft_ntp", "soft_ce", "aux_kl"])
def test_uniform_labels_need_no_teacher_and_are_one_that_knows_nothing(
    trie: CodeTrie, batch: tuple[Tensor, Candidates, Tensor], name: str, labels: str
) -> None:
    logits, found, _ = batch
    objective = make(name=name, alpha=0.3, labels=labels)
    assert not objective.needs_teacher
    if labels == "uniform_items":
        teacher = CollaborativeTokenizer(trie)(torch.zeros(len(TARGETS), len(PATHS)), TARGETS)
    else:
        teacher = found.valid / found.valid.sum(-1, keepdim=True).clamp_min(1)
    expected = make(name=name, alpha=0.3)(logits, found, teacher)
    torch.testing.assert_close(objective(logits, found).loss, expected.loss)


def test_the_two_uniform_labels_differ_where_children_hold_unequally_many_items(
    trie: CodeTrie,
) -> None:
    found = candidates(trie, torch.tensor([0]))
    assert found.items_below()[0, 0].tolist() == [3, 2, 1]
    assert found.items_below()[0, 1].tolist() == [2, 1, 0]


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ["soft_ntp", "soft_ce", "aux_kl"])
def test_a_single_child_makes_every_alignment_plain_next_token_prediction(
    name: str, masked: bool
) -> None:
    trie = CodeTrie.from_paths(torch.tensor([[0, 3], [1, 3]]), NUM_TOKENS)
    target = torch.tensor([0])
    logits = torch.randn(1, 2, NUM_TOKENS, generator=torch.Generator().manual_seed(0))
    found = candidates(trie, target)
    teacher = CollaborativeTokenizer(trie)(torch.zeros(1, 2), target)
    aligned = make(name=name, alpha=0.4, masked=masked, tau=2.0)
    forced = dataclasses.replace(found, supervised=torch.tensor([[False, True]]))
    got = aligned(logits, forced, teacher).loss
    if name == "aux_kl" and not masked:  # the teacher asks for the target once more
        got = got / 1.4
    expected = make(masked=masked, tau=2.0)(logits, forced).loss
    torch.testing.assert_close(got, expected)
    assert (float(got) == 0) == masked


def test_policies_multiply_and_the_cap_takes_the_least(
    batch: tuple[Tensor, Candidates, Tensor],
) -> None:
    logits, found, teacher = batch
    policy = AlphaPolicy(by="margin", start=0.25, rise=0.5, cap=True)
    objective = make(name="soft_ntp", alpha=0.9, policy=policy)
    alpha = 0.9 * margin(teacher) * 0.5  # at half of the training
    alpha = torch.minimum(alpha, largest_alpha(teacher, found.target_slot))
    labels = soft_labels(found.target_slot, teacher, alpha)
    log_p = log_probs_over_candidates(logits, found.tokens, found.valid)
    got = objective(logits, found, teacher, CONTEXT)
    torch.testing.assert_close(got.loss, soft_ntp_loss(log_p, labels, found.supervised))
    branching = found.valid.sum(-1) > 1
    torch.testing.assert_close(got.parts["alpha"], alpha[branching].mean())


def test_before_its_start_alpha_is_nothing(batch: tuple[Tensor, Candidates, Tensor]) -> None:
    logits, found, teacher = batch
    policy = AlphaPolicy(start=0.5)
    plain = make()(logits, found).loss
    for progress, alpha in ((0.0, 0.0), (0.49, 0.0), (0.5, 0.6), (1.0, 0.6)):
        context = AlphaContext(progress=progress)
        got = make(name="soft_ce", alpha=0.6, policy=policy)(logits, found, teacher, context)
        expected = make(name="soft_ce", alpha=alpha)(logits, found, teacher).loss
        torch.testing.assert_close(got.loss, expected)
        assert torch.allclose(got.loss, plain) == (alpha == 0)
        assert float(got.parts["alpha"]) == pytest.approx(alpha)


def test_a_learned_alpha_gets_gradients_and_a_penalty(
    batch: tuple[Tensor, Candidates, Tensor],
) -> None:
    logits, found, teacher = batch
    objective = make(name="soft_ntp", alpha=0.4, policy=AlphaPolicy(by="learned", gate=0.5))
    begun = objective(logits, found, teacher)
    fixed = make(name="soft_ntp", alpha=0.4)(logits, found, teacher)
    torch.testing.assert_close(begun.loss, fixed.loss)
    begun.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in objective.parameters())
    assert objective.gate is not None
    objective.gate.bias.data += 1.0
    alpha, penalty = objective.gate(teacher, found.num_children)
    labels = soft_labels(found.target_slot, teacher, alpha)
    log_p = log_probs_over_candidates(logits, found.tokens, found.valid)
    expected = soft_ntp_loss(log_p, labels, found.supervised)
    branching = found.valid.sum(-1) > 1
    expected = expected + 0.5 * penalty[branching].sum() / found.count
    torch.testing.assert_close(objective(logits, found, teacher).loss, expected)


def test_a_heavy_regulariser_keeps_a_learned_alpha_near_its_number(
    batch: tuple[Tensor, Candidates, Tensor],
) -> None:
    logits, found, teacher = batch
    alphas = []
    for gate in (0.0, 100.0):
        objective = make(name="soft_ce", alpha=0.4, policy=AlphaPolicy(by="learned", gate=gate))
        optimizer = torch.optim.Adam(objective.parameters(), lr=0.1)
        for _ in range(100):
            optimizer.zero_grad()
            output = objective(logits, found, teacher)
            output.loss.backward()
            optimizer.step()
        alphas.append(float(output.parts["alpha"]))
    assert abs(alphas[1] - 0.4) < 0.02
    assert abs(alphas[0] - 0.4) > 0.1


def test_a_trust_of_ones_own_multiplies_alpha(batch: tuple[Tensor, Candidates, Tensor]) -> None:
    logits, found, teacher = batch
    config = ObjectiveConfig(name="soft_ce", alpha=0.8)

    def half(p: Tensor, num_children: Tensor, context: AlphaContext) -> Tensor:
        assert p.shape[:-1] == num_children.shape
        assert context is CONTEXT
        return torch.full(num_children.shape, 0.5)

    got = Objective(config, trust=half)(logits, found, teacher, CONTEXT).loss
    torch.testing.assert_close(got, make(name="soft_ce", alpha=0.4)(logits, found, teacher).loss)


@pytest.mark.parametrize("value", [1.25, -0.5, float("nan")])
def test_a_policy_that_leaves_its_range_is_refused_in_one_line(
    batch: tuple[Tensor, Candidates, Tensor], value: float
) -> None:
    config = ObjectiveConfig(name="soft_ce", alpha=0.1)

    def leaves(p: Tensor, num_children: Tensor, context: AlphaContext) -> Tensor:
        return torch.where(num_children > 2, value, 1.0)

    objective = Objective(config, trust=leaves)
    with pytest.raises(ValueError, match=r"an alpha policy must stay in \[0, 1\], got") as error:
        objective(*batch)
    assert "\n" not in str(error.value)


def test_a_trust_of_another_shape_or_beside_another_is_refused(
    batch: tuple[Tensor, Candidates, Tensor],
) -> None:
    def one(p: Tensor, num_children: Tensor, context: AlphaContext) -> Tensor:
        return torch.ones(2)

    objective = Objective(ObjectiveConfig(name="soft_ce", alpha=0.1), trust=one)
    with pytest.raises(
        ValueError, match=r"trust must have the shape of the candidates' positions, \(4, 3\)"
    ):
        objective(*batch)
    policy = AlphaPolicy(by="entropy")
    for config in (
        ObjectiveConfig(),
        ObjectiveConfig(name="soft_ce", alpha=0.1, policy=policy),
    ):
        with pytest.raises(ValueError, match="a custom trust multiplies a constant alpha"):
            Objective(config, trust=one)


def test_a_schedule_without_progress_is_refused(batch: tuple[Tensor, Candidates, Tensor]) -> None:
    objective = make(name="soft_ce", alpha=0.1, policy=AlphaPolicy(rise=0.5))
    with pytest.raises(ValueError, match="needs the context's progress, got none"):
        objective(*batch)
