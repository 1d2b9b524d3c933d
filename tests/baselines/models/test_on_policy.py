"""On-policy prefixes: the teacher's distribution below them, their loss, and training with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_mass import teacher_mass
from torch import Tensor
from worlds import next_logits, sequence_set

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import Backbone, BuildContext, CodeBackbone
from baselines.data.batches import ItemLabels, TrainBatch
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.models.fit import FitSettings, MoreLabels, fit_backbone
from baselines.models.on_policy import OnPolicyLoss, next_token_distribution
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import MassConfig
from baselines.teachers.distributions import StoredDistributions
from baselines.teachers.item_labels import StoredItemLabels, item_labels
from baselines.teachers.simple import Popularity
from baselines.training.checkpoint import TrainingState
from baselines.training.config import TrainingConfig
from semid.provenance import Provenance
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput

SIZES = (3, 3, 2)
ENCODER = EncoderConfig(dim=8, num_heads=2, ff_dim=16, dropout=0.0)
ALWAYS = ObjectiveConfig(name="soft_ce", alpha=0.5, on_policy=1.0)
SEQUENCES = sequence_set([([3, 1, 4, 1], 1), ([2, 7, 0], 2), ([5, 9], 1)])


def random_labels(targets: int, items: int, best: int, seed: int) -> tuple[ItemLabels, Tensor]:
    """Labels, and the distributions that they stand for, ``(target, item)``."""
    generator = torch.Generator().manual_seed(seed)
    whole = (3 * torch.randn(targets, items, generator=generator)).softmax(dim=1)
    p, chosen = whole.topk(best, dim=1)
    rest = (1 - p.sum(dim=1)) / (items - best)
    whole = rest[:, None].repeat(1, items).scatter(1, chosen, p)
    return ItemLabels(items=chosen, p=p, rest=rest), whole


def of_children(codes: Tensor, prefix: list[int], whole: Tensor) -> dict[int, float]:
    """The definition: by next code, the share of the items below it, looking at all items."""
    mass: dict[int, float] = {}
    for path, p in zip(codes.tolist(), whole.tolist(), strict=True):
        if path[: len(prefix)] == prefix:
            code = path[len(prefix)]
            mass[code] = mass.get(code, 0.0) + p
    total = sum(mass.values())
    return {code: value / total for code, value in mass.items()}


def prefixes_of(codes: Tensor, depth: int) -> list[list[int]]:
    return sorted({tuple(path[:depth]) for path in codes.tolist()})  # type: ignore[arg-type]


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("best", [1, 4, 11])
def test_the_teachers_distribution_below_every_prefix_is_the_definition(
    tiny_codes: Tensor, depth: int, best: int
) -> None:
    codes = torch.cat([tiny_codes, tiny_codes[:1]])  # two items of one path count twice
    trie = CodeTrie.from_paths(codes, max(SIZES))
    prefixes = [list(prefix) for prefix in prefixes_of(codes, depth)]
    labels, whole = random_labels(len(prefixes), len(codes), best, seed=depth)
    node = trie.walk(torch.tensor(prefixes, dtype=torch.int64).reshape(len(prefixes), depth))
    found = next_token_distribution(trie, node, labels)
    for row, (prefix, p) in enumerate(zip(prefixes, whole, strict=True)):
        expected = of_children(codes, prefix, p)
        torch.testing.assert_close(
            found[row, : len(expected)], torch.tensor([expected[code] for code in sorted(expected)])
        )
        assert not found[row, len(expected) :].any()


def test_where_the_teacher_has_nothing_below_a_prefix_its_items_are_equally_likely(
    tiny_codes: Tensor,
) -> None:
    trie = CodeTrie.from_paths(tiny_codes, max(SIZES))
    first = int(tiny_codes[0, 0])
    other = next(path[0] for path in tiny_codes.tolist() if path[0] != first)
    labels = ItemLabels(
        items=torch.tensor([[0]]), p=torch.tensor([[1.0]]), rest=torch.tensor([0.0])
    )
    found = next_token_distribution(trie, trie.walk(torch.tensor([[other]])), labels)[0]
    expected = of_children(tiny_codes, [other], torch.ones(len(tiny_codes)))
    torch.testing.assert_close(
        found[: len(expected)], torch.tensor([expected[code] for code in sorted(expected)])
    )


def causal(codes: Tensor, **settings: Any) -> CodeBackbone:
    config = CausalConfig(max_history=6, encoder=ENCODER, path_dropout=0.0, **settings)
    return CausalBackbone(config, BuildContext(codes, SIZES, seed=0))


def tiger(codes: Tensor) -> CodeBackbone:
    config = TigerConfig(num_layers=1, dim=8, num_heads=2, head_dim=4, ff_dim=16, dropout=0.0)
    return TigerBackbone(config, BuildContext(codes, SIZES, seed=0))


def labelled(backbone: Backbone) -> tuple[TrainBatch, Tensor]:
    """A batch with several targets in one window, and the teacher's distributions."""
    windows = backbone.windows(SEQUENCES)
    batch = windows.batch(np.arange(len(windows)))
    labels, p = random_labels(len(batch.target_id), len(backbone.paths), best=3, seed=1)
    return dataclasses.replace(batch, item_labels=labels), p


def no_loss() -> ObjectiveOutput:
    return ObjectiveOutput(loss=torch.zeros(()), parts={}, count=torch.tensor(7))


@pytest.mark.parametrize("made_by", [causal, lambda codes: causal(codes, input="code"), tiger])
@pytest.mark.parametrize("tau", [1.0, 2.0])
@torch.no_grad()
def test_the_loss_is_the_cross_entropy_where_the_path_has_left_the_targets(
    tiny_codes: Tensor, made_by: Any, tau: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = made_by(tiny_codes)
    batch, p = labelled(backbone)
    drawn: list[Tensor] = []

    def spy(weights: Tensor, num: int) -> Tensor:
        slot = torch.zeros_like(weights[:, :1], dtype=torch.int64)  # always the first child
        drawn.append(weights)
        return slot

    monkeypatch.setattr(torch, "multinomial", spy)
    found = OnPolicyLoss(backbone, dataclasses.replace(ALWAYS, tau=tau))(batch, no_loss())
    trie, total, past = backbone.trie, torch.zeros(()), batch.histories()
    written = torch.zeros(len(p), 0, dtype=torch.int64)
    gold = backbone.paths[batch.target_items]
    for depth in range(3):
        logits = next_logits(backbone, past, written[:, None])[:, 0]
        chosen = []
        for row, prefix in enumerate(written.tolist()):
            expected = of_children(backbone.paths, prefix, p[row])
            tokens = sorted(expected)
            log_p = (logits[row, tokens] / tau).log_softmax(dim=0)
            torch.testing.assert_close(drawn[depth][row, : len(tokens)], log_p.exp())
            if prefix != gold[row, :depth].tolist():
                total -= (torch.tensor([expected[token] for token in tokens]) * log_p).sum()
            chosen.append(tokens[0])
        written = torch.cat([written, torch.tensor(chosen)[:, None]], dim=1)
    assert (trie.walk(written) >= 0).all()
    assert total > 0
    torch.testing.assert_close(found.loss, total / 7)
    torch.testing.assert_close(found.parts["on_policy"], total / 7)


def test_the_history_of_a_target_is_what_is_before_it(tiny_codes: Tensor) -> None:
    batch, _ = labelled(causal(tiny_codes))
    past = batch.histories()
    found = [items[mask].tolist() for items, mask in zip(past.items, past.mask, strict=True)]
    assert found == [[3], [3, 1], [3, 1, 4], [2, 7], [5]]
    assert past.mask[:, -1].all()
    some = batch.select_targets(torch.tensor([4, 1]))
    assert some.target_items.tolist() == [9, 4]
    assert some.item_labels is not None
    assert batch.item_labels is not None
    assert torch.equal(some.item_labels.p, batch.item_labels.p[[4, 1]])


@pytest.mark.parametrize("made_by", [causal, tiger])
def test_it_teaches_the_student_below_prefixes_that_no_target_has(
    tiny_codes: Tensor, made_by: Any
) -> None:
    torch.manual_seed(0)
    backbone = made_by(tiny_codes)
    batch, p = labelled(backbone)
    loss = OnPolicyLoss(backbone, ALWAYS)
    optimizer = torch.optim.AdamW(backbone.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        loss(batch, no_loss()).loss.backward()
        optimizer.step()
    row, gold = 3, backbone.paths[batch.target_items[3]].tolist()
    for prefix in prefixes_of(backbone.paths, 1):
        expected = of_children(backbone.paths, list(prefix), p[row])
        if list(prefix) == gold[:1] or len(expected) < 2:
            continue
        one = batch.select_targets(torch.tensor([row])).histories()
        logits = next_logits(backbone.eval(), one, torch.tensor([[prefix]]))[0, 0]
        tokens = sorted(expected)
        probabilities = logits[tokens].softmax(dim=0)
        assert int(probabilities.argmax()) == int(np.argmax([expected[t] for t in tokens]))


NUM_ITEMS = 48
CODES = torch.cartesian_prod(torch.arange(6), torch.arange(8))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(num_users=150, num_items=NUM_ITEMS, num_categories=4, seed=0)


def fit(
    dataset: Dataset,
    folder: Path,
    *,
    on_policy: float,
    labelled: bool = True,
) -> tuple[CausalBackbone, TrainingState]:
    config = CausalConfig(encoder=EncoderConfig(dim=8, num_heads=2, ff_dim=16))
    backbone, train = CausalBackbone(config, BuildContext(CODES, (6, 8))), dataset.splits.train
    scorer = Popularity(train, NUM_ITEMS)
    labels: StoredItemLabels = item_labels(scorer, train, temperature=1.0, config=MassConfig())
    state = fit_backbone(
        backbone,
        FitSettings(
            objective=dataclasses.replace(ALWAYS, on_policy=on_policy),
            training=TrainingConfig(epochs=2, lr=0.01, precision="fp32"),
            evaluation=EvaluationConfig(validation_beam=20, validation_targets=50),
            seed=0,
        ),
        StoredDistributions(teacher_mass(scorer, CollaborativeTokenizer(backbone.trie), train)),
        dataset.splits,
        folder=folder,
        lineage=Provenance(kind="backbone", content=""),
        title="test",
        more_labels=MoreLabels(items=labels if labelled else None),
    )
    return backbone, state


class Killed(Exception):
    """What a test raises in the middle of an epoch."""


def test_training_draws_the_same_paths_after_a_kill(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, state = fit(dataset, tmp_path / "whole", on_policy=0.5)
    assert 0 < state.history[1]["on_policy"] < state.history[0]["on_policy"]
    steps = whole.windows(dataset.splits.train).num_batches(TrainingConfig().batch_events)
    forward, calls = Objective.forward, iter(range(10_000))

    def killed(self: Objective, *args: Any) -> ObjectiveOutput:
        if next(calls) == steps + 2:  # in the second epoch
            raise Killed
        return forward(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "forward", killed)
        with pytest.raises(Killed):
            fit(dataset, tmp_path / "killed", on_policy=0.5)
    resumed, again = fit(dataset, tmp_path / "killed", on_policy=0.5)
    assert state.history == again.history
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_share_of_0_trains_without_it(dataset: Dataset, tmp_path: Path) -> None:
    plain, state = fit(dataset, tmp_path / "plain", on_policy=0.0, labelled=False)
    other, _ = fit(dataset, tmp_path / "share", on_policy=0.5)
    assert "on_policy" not in state.history[0]
    one, two = (each.heads[1].weight for each in (plain, other))
    assert not torch.equal(torch.as_tensor(one), torch.as_tensor(two))


def test_it_is_refused_without_item_labels(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the teacher's distributions over items"):
        fit(dataset, tmp_path, on_policy=0.5, labelled=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "ntp"},
        {"name": "soft_ce", "alpha": 0.0},
        {"name": "soft_ce", "alpha": 0.5, "labels": "uniform_items"},
        {"name": "soft_ce", "alpha": 0.5, "tau": "adaptive", "mean": "branching"},
    ],
)
def test_it_needs_a_teacher_and_a_fixed_temperature(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="on_policy needs a teacher's labels"):
        ObjectiveConfig(**settings, on_policy=0.5)


def test_its_share_lies_in_0_to_1() -> None:
    with pytest.raises(ValueError, match="on_policy must be"):
        ObjectiveConfig(name="soft_ce", alpha=0.5, on_policy=1.5)
