"""The contract of objectives: what keeps it passes, and each clause is named when it is broken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from baselines.testing import ContractError, check_objective
from semid.trie import CodeTrie
from tca.candidates import candidates
from tca.collaborative import CollaborativeTokenizer
from tca.config import OBJECTIVES, ObjectiveConfig
from tca.losses import LossFunction, load_loss, next_token, soft_ce
from tca.objective import Objective

DOCS = Path(__file__).parents[3] / "docs"
PATHS = torch.tensor([[0, 3, 5], [0, 3, 6], [0, 4, -1], [1, 3, 5], [2, -1, -1]])


@pytest.fixture
def _documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of docs/tca.md in a file outside of the packages."""
    page = (DOCS / "tca.md").read_text()
    block = re.search(r"`my_objective.py`:\n\n```python\n(.*?)```", page, re.DOTALL)
    assert block
    assert len(block[1].splitlines()) <= 40
    (tmp_path / "my_objective.py").write_text(block[1])
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_built_in_objectives_keep_the_contract(name: str) -> None:
    check_objective(name)


@pytest.mark.usefixtures("_documented")
def test_the_documented_objective_keeps_the_contract_and_trains() -> None:
    check_objective("my_objective:power_loss")
    trie = CodeTrie.from_paths(PATHS, 8)
    targets = torch.tensor([0, 3])
    logits = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    found = candidates(trie, targets)
    teacher = CollaborativeTokenizer(trie)(torch.tensor([[0.0, 2, 1, -1, 0]] * 2), targets)
    config = ObjectiveConfig(name="my_objective:power_loss", alpha=0.25)
    output = Objective(config)(logits, found, teacher)
    output.loss.backward()

    expected, count = 0.0, 0
    for row in range(2):
        for pos in range(3):
            tokens = found.tokens[row, pos][found.valid[row, pos]]
            model = logits[row, pos, tokens].softmax(dim=0)
            for slot, p in enumerate(model.tolist()):
                own = float(slot == found.target_slot[row, pos])
                expected -= (0.75 * own + 0.25 * float(teacher[row, pos, slot])) * p**0.5
            count += 1
            expected += 1
    assert float(output.loss.detach()) == pytest.approx(expected / count, rel=1e-5)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.any()


def test_without_alpha_an_objective_of_ones_own_is_called_without_a_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seen_alpha.py").write_text(
        "calls = []\n"
        "def loss(log_p, slot, p, alpha, supervised):\n"
        "    calls.append((alpha, float(p.sum())))\n"
        "    return -log_p.gather(-1, slot.unsqueeze(-1)).squeeze(-1)[supervised].mean()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config = ObjectiveConfig(name="seen_alpha:loss")
    assert config.is_aligned
    assert not config.needs_teacher
    trie, targets = CodeTrie.from_paths(PATHS, 8), torch.tensor([0, 1])
    logits = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    output = Objective(config)(logits, candidates(trie, targets))
    torch.testing.assert_close(output.loss, output.parts["ntp"])
    import seen_alpha  # type: ignore[import-not-found]

    assert seen_alpha.calls == [(0.0, 0.0)]


def test_without_alpha_every_built_in_objective_is_next_token() -> None:
    assert {load_loss(ObjectiveConfig(name=name)) for name in OBJECTIVES} == {next_token}


def per_position(log_p: Tensor, slot: Tensor, p: Tensor, alpha: object, on: Tensor) -> Tensor:
    return torch.where(on, -log_p.gather(-1, slot.unsqueeze(-1)).squeeze(-1), 0.0)


def times_nothing(log_p: Tensor, slot: Tensor, p: Tensor, alpha: object, on: Tensor) -> Tensor:
    return -(p * log_p).sum(dim=-1)[on].mean()  # 0 * -inf in padding


def root_of_zero(log_p: Tensor, slot: Tensor, p: Tensor, alpha: object, on: Tensor) -> Tensor:
    return 1 - (p * log_p.exp().sqrt()).sum(dim=-1)[on].mean()  # its slope at 0 is infinite


def detached(*args: Tensor) -> Tensor:
    return soft_ce(*args).detach()


def teacher_always(log_p: Tensor, slot: Tensor, p: Tensor, alpha: object, on: Tensor) -> Tensor:
    return soft_ce(log_p, slot, p, 0.5, on)


def first_child(log_p: Tensor, slot: Tensor, p: Tensor, alpha: float, on: Tensor) -> Tensor:
    return soft_ce(log_p, slot, p, alpha, on) - 0.1 * (log_p[..., 0].clamp_min(-9) * on).mean()


def everywhere(log_p: Tensor, slot: Tensor, p: Tensor, alpha: float, on: Tensor) -> Tensor:
    return soft_ce(log_p, slot, p, alpha, torch.ones_like(on))


def summed(log_p: Tensor, slot: Tensor, p: Tensor, alpha: float, on: Tensor) -> Tensor:
    return soft_ce(log_p, slot, p, alpha, on) * on.sum()


def of_targets(log_p: Tensor, slot: Tensor, p: Tensor, alpha: float, on: Tensor) -> Tensor:
    return soft_ce(log_p, slot, p, alpha, on) * (1 + on.dim())


def rounded(log_p: Tensor, slot: Tensor, p: Tensor, alpha: float, on: Tensor) -> Tensor:
    size = 1.01 if log_p.dtype == torch.float64 else 1.0
    return soft_ce(log_p, slot, p, alpha, on) * size


@pytest.mark.parametrize(
    ("loss", "clause"),
    [
        (per_position, "scalar"),
        (times_nothing, "finite"),
        (root_of_zero, "finite"),
        (detached, "gradient"),
        (teacher_always, "alpha"),
        (first_child, "children"),
        (everywhere, "supervised"),
        (summed, "mean"),
        (of_targets, "positions"),
        (rounded, "precision"),
    ],
)
def test_a_broken_clause_is_named(loss: LossFunction, clause: str) -> None:
    with pytest.raises(ContractError, match="breaks the contract of objectives") as caught:
        check_objective(loss)
    assert caught.value.clause == clause
    assert loss.__name__ in str(caught.value)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "message"),
    [("soft_cee", "soft_ce"), ("absent:loss", "expected an importable objective")],
)
def test_an_objective_that_does_not_exist_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Objective(ObjectiveConfig(name=name))
