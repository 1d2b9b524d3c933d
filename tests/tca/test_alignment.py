"""What alpha depends on: each function against its definition, and the laws of the cap."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tca.alignment import (
    AlphaContext,
    AlphaGate,
    entropy_confidence,
    largest_alpha,
    margin,
    saturation,
    schedule,
    trust_of,
)
from tca.config import AlphaPolicy
from tca.functional import soft_labels, soft_ntp_loss

CHILDREN = 6


def distributions(seed: int, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """Distributions over 0 to all slots, float32 ``(20, child)``, and their numbers of children."""
    gen = torch.Generator().manual_seed(seed)
    num_children = torch.randint(1, CHILDREN + 1, (20,), generator=gen)
    num_children[:2] = torch.tensor([0, 1])
    valid = torch.arange(CHILDREN) < num_children[:, None]
    scores = scale * torch.randn(20, CHILDREN, generator=gen)
    p = scores.masked_fill(~valid, -math.inf).softmax(dim=-1).nan_to_num()
    return p, num_children


@pytest.mark.parametrize("scale", [0.1, 2.0, 40.0])
def test_confidences_are_their_definitions(scale: float) -> None:
    p, num_children = distributions(0, scale)
    by_entropy, by_margin = entropy_confidence(p, num_children), margin(p)
    for row, number in enumerate(num_children.tolist()):
        masses = p[row, :number].tolist()
        entropy = -sum(mass * math.log(mass) for mass in masses if mass > 0)
        confidence = 1 - entropy / math.log(number) if number > 1 else 1.0
        first, second = (*sorted(masses, reverse=True), 0.0, 0.0)[:2]
        assert float(by_entropy[row]) == pytest.approx(confidence, abs=1e-5)
        assert float(by_margin[row]) == pytest.approx(first - second, abs=1e-6)


def test_confidences_reach_both_ends() -> None:
    p = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0]])
    for confidence in (entropy_confidence(p, torch.tensor([4, 4])), margin(p)):
        torch.testing.assert_close(confidence, torch.tensor([0.0, 1.0]), atol=1e-6, rtol=0)
    assert margin(torch.ones(3, 1)).tolist() == [1.0, 1.0, 1.0]


def test_saturation_is_one_half_at_half() -> None:
    share = saturation(torch.tensor([0, 5, 15]), 5.0)
    torch.testing.assert_close(share, torch.tensor([0.0, 0.5, 0.75]))


def test_a_schedule_is_plain_then_rises_then_stays() -> None:
    found = [schedule(t, 0.2, 0.4) for t in (0.0, 0.2, 0.3, 0.4, 0.6, 1.0)]
    assert found == pytest.approx([0, 0, 0.25, 0.5, 1, 1])
    assert [schedule(t, 0.5, 0.0) for t in (0.0, 0.49, 0.5, 1.0)] == [0, 0, 1, 1]


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 30), alpha=st.floats(0, 1))
def test_up_to_the_cap_the_target_is_the_mode_of_the_label_and_above_it_is_not(
    seed: int, scale: float, alpha: float
) -> None:
    p, num_children = distributions(seed, scale)
    p, num_children = p[num_children > 0], num_children[num_children > 0]
    slot = (torch.rand(len(p), generator=torch.Generator().manual_seed(seed)) * num_children).long()
    largest = largest_alpha(p, slot)
    assert ((largest >= 0.5) & (largest <= 1)).all()
    labels = soft_labels(slot, p, torch.full_like(largest, alpha))
    own = labels.gather(-1, slot[:, None]).squeeze(-1)
    behind = labels.amax(dim=-1) - own
    assert (behind[alpha <= largest] <= 1e-6).all()
    assert (behind[alpha > largest + 1e-5] > 0).all()


def test_soft_ntp_moves_all_mass_to_the_targets_rival_just_above_the_cap() -> None:
    p, slot = torch.tensor([[0.1, 0.7, 0.2]]), torch.tensor([0])
    largest = float(largest_alpha(p, slot))
    assert largest == pytest.approx(1 / 1.6)
    for alpha, mode in ((largest - 0.02, 0), (largest + 0.02, 1)):
        logits = torch.zeros(1, 3, requires_grad=True)
        optimizer = torch.optim.Adam([logits], lr=0.1)
        labels = soft_labels(slot, p, alpha)
        for _ in range(1000):
            optimizer.zero_grad()
            loss = soft_ntp_loss(logits.log_softmax(-1), labels, torch.tensor([True]))
            loss.backward()
            optimizer.step()
        assert float(logits.detach().softmax(-1)[0, mode]) > 0.97
        assert float(loss.detach()) == pytest.approx(-math.log(float(labels.max())), abs=0.02)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("constant", 1.0),
        ("history", 3 / 5),
        ("short_history", 2 / 5),
        ("popularity", 8 / 10),
        ("rarity", 2 / 10),
    ],
)
def test_counts_give_their_share(by: str, expected: float) -> None:
    policy = AlphaPolicy(by=by, **({} if by == "constant" else {"half": 2.0}))  # type: ignore[arg-type]
    p, num_children = distributions(1)
    context = AlphaContext(history_length=torch.tensor([3]), popularity=torch.tensor([8]))
    assert float(trust_of(policy, p, num_children, context)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("by", "name"), [("short_history", "history_length"), ("rarity", "popularity")]
)
def test_a_context_without_what_the_policy_looks_at_is_refused(by: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"alpha by {by} needs the context's {name}, got none"):
        trust_of(AlphaPolicy(by=by), *distributions(1), AlphaContext())  # type: ignore[arg-type]


def test_a_gate_begins_at_the_number_without_a_penalty() -> None:
    alpha, penalty = AlphaGate(0.3)(*distributions(2))
    torch.testing.assert_close(alpha, torch.full((20,), 0.3))
    torch.testing.assert_close(penalty, torch.zeros(20), atol=1e-6, rtol=0)


def test_a_gates_penalty_is_the_divergence_from_the_number() -> None:
    gate = AlphaGate(0.3)
    gate.weight.data = torch.tensor([1.0, -2.0, 0.5])
    gate.bias.data = torch.tensor(0.4)
    p, num_children = distributions(3)
    with torch.no_grad():
        alphas, penalties = gate(p, num_children)
    for row in range(20):
        confidence = [
            float(entropy_confidence(p, num_children)[row]),
            float(margin(p)[row]),
            float(p[row].max()),
        ]
        logit = math.log(0.3 / 0.7) + 0.4
        logit += sum(w * x for w, x in zip((1.0, -2.0, 0.5), confidence, strict=True))
        alpha = 1 / (1 + math.exp(-logit))
        divergence = 0.3 * math.log(0.3 / alpha) + 0.7 * math.log(0.7 / (1 - alpha))
        assert float(alphas[row]) == pytest.approx(alpha, abs=1e-6)
        assert float(penalties[row]) == pytest.approx(divergence, abs=1e-6)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"by": "mood"}, "an alpha policy must be one of constant, entropy, .* got 'mood'"),
        ({"start": -0.1}, r"together lie in \[0, 1\], got start -0.1 and rise 0.0"),
        ({"start": 0.6, "rise": 0.6}, r"together lie in \[0, 1\]"),
        ({"start": math.nan}, "start must be a finite number, got nan"),
        ({"by": "history", "half": 0.0}, "half must be a number above 0, got 0.0"),
        ({"by": "learned", "gate": -1.0}, "gate must be a number of at least 0"),
        ({"by": "entropy", "half": 2.0}, "half belongs to history, .* not to entropy"),
        ({"by": "entropy", "gate": 2.0}, "gate belongs to learned, not to entropy"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(policy: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AlphaPolicy(**policy)
