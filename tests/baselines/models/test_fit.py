"""Training a backbone with every objective, from data to ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_mass import teacher_mass
from safetensors.torch import load_file
from torch import Tensor

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig
from baselines.contracts.backbone import BuildContext
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import rank_by_beam
from baselines.models.fit import FitSettings, fit_backbone
from baselines.nn.config import EncoderConfig
from baselines.teachers.distributions import StoredDistributions
from baselines.teachers.simple import Popularity
from baselines.training.checkpoint import TrainingState, read_trained
from baselines.training.config import TrainingConfig
from semid.provenance import Provenance
from tca.alignment import AlphaContext
from tca.candidates import Candidates, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.config import AlphaPolicy, ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput

NUM_ITEMS = 48
CODES = torch.cartesian_prod(torch.arange(6), torch.arange(8))
EVALUATION = EvaluationConfig(validation_beam=20, validation_targets=50)
ADAPTIVE = ObjectiveConfig(name="msl", tau="adaptive", mean="branching")
LEARNED = ObjectiveConfig(name="soft_ce", alpha=0.3, policy=AlphaPolicy(by="learned", start=0.3))
LINEAGE = Provenance(kind="backbone", content="")


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(num_users=150, num_items=NUM_ITEMS, num_categories=4, seed=0)


def fit(
    dataset: Dataset, objective: ObjectiveConfig, folder: Path, *, precision: str = "fp32"
) -> tuple[CausalBackbone, TrainingState]:
    config = CausalConfig(encoder=EncoderConfig(dim=8, num_heads=2, ff_dim=16))
    backbone = CausalBackbone(config, BuildContext(CODES, (6, 8), seed=0))
    train = dataset.splits.train
    scorer = Popularity(train, NUM_ITEMS)
    teacher = None
    if objective.needs_teacher:
        tokenizer = CollaborativeTokenizer(backbone.trie)
        teacher = StoredDistributions(teacher_mass(scorer, tokenizer, train))
    state = fit_backbone(
        backbone,
        FitSettings(
            objective=objective,
            training=TrainingConfig(epochs=2, lr=0.01, precision=precision),  # type: ignore[arg-type]
            evaluation=EVALUATION,
            seed=0,
        ),
        teacher,
        dataset.splits,
        folder=folder,
        lineage=LINEAGE,
        title="test",
    )
    return backbone, state


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveConfig(),
        ObjectiveConfig(masked=False),
        ObjectiveConfig(name="msl", tau=2.0),
        ObjectiveConfig(name="soft_ntp", alpha=0.3),
        ObjectiveConfig(name="soft_ce", alpha=0.3, masked=False),
        ObjectiveConfig(name="aux_kl", alpha=0.3, mean="branching"),
        ObjectiveConfig(name="soft_ce", alpha=0.3, labels="uniform_items"),
        ObjectiveConfig(name="soft_ntp", alpha=0.3, policy=AlphaPolicy(by="entropy", cap=True)),
        ObjectiveConfig(name="soft_ce", alpha=0.3, policy=AlphaPolicy(by="rarity", rise=0.5)),
        ADAPTIVE,
        LEARNED,
    ],
    ids=lambda objective: f"{objective.name}, masked {objective.masked}, {objective.policy.by}",
)
def test_every_objective_learns(
    dataset: Dataset, objective: ObjectiveConfig, precision: str, tmp_path: Path
) -> None:
    backbone, state = fit(dataset, objective, tmp_path, precision=precision)
    assert state.epoch == 2
    assert state.history[1]["loss"] < state.history[0]["loss"]
    assert not backbone.training


class Killed(Exception):
    """What a test raises in the middle of an epoch."""


@pytest.mark.parametrize("objective", [ADAPTIVE, LEARNED], ids=lambda objective: objective.name)
def test_what_an_objective_has_learned_survives_a_kill(
    dataset: Dataset,
    objective: ObjectiveConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undisturbed, state = fit(dataset, objective, tmp_path / "undisturbed")
    forward, calls = Objective.forward, iter(range(10_000))
    folder = tmp_path / "killed"
    steps = undisturbed.windows(dataset.splits.train).num_batches(TrainingConfig().batch_events)

    def killed(self: Objective, *args: Any) -> ObjectiveOutput:
        if next(calls) == steps + 2:  # in the second epoch
            raise Killed
        return forward(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Objective, "forward", killed)
        with pytest.raises(Killed):
            fit(dataset, objective, folder)
    assert (folder / "checkpoint.safetensors").exists()
    resumed, state_resumed = fit(dataset, objective, folder)
    files = [load_file(tmp_path / name / "model.safetensors") for name in ("undisturbed", "killed")]
    assert files[0].keys() == files[1].keys()
    for name, value in files[0].items():
        assert torch.equal(value, files[1][name]), name
    kept = {name for name in files[0] if name.startswith("objective.")}
    if objective is ADAPTIVE:
        assert kept == {"objective.temperature.tau"}
    else:
        assert kept == {"objective.gate.weight", "objective.gate.bias"}
        assert files[0]["objective.gate.weight"].any()
    assert state.history == state_resumed.history
    fresh = CausalBackbone(undisturbed.config, BuildContext(CODES, (6, 8), seed=9))
    read_trained(folder, fresh)  # who only wants the model asks for no objective
    assert torch.equal(next(fresh.parameters()), next(resumed.parameters()))
    again, _ = fit(dataset, objective, folder)
    assert torch.equal(next(again.parameters()), next(resumed.parameters()))


def test_the_policy_sees_history_popularity_and_progress(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = dataset.splits.train
    seen: list[tuple[int, int, int]] = []
    shares: list[float] = []

    def spy(
        self: Objective,
        logits: Tensor,
        choices: Candidates,
        teacher: Tensor,
        context: AlphaContext,
    ) -> ObjectiveOutput:
        assert context.history_length is not None
        assert context.popularity is not None
        assert context.progress is not None
        first = choices.supervised & (choices.pos == 0)
        code = choices.tokens.gather(-1, choices.target_slot[:, None]).squeeze(1)[first]
        counts = (code, context.history_length[first], context.popularity[first])
        seen.extend(zip(*(column.tolist() for column in counts), strict=True))
        shares.append(context.progress)
        loss = logits[logits.isfinite()].square().mean()
        return ObjectiveOutput(loss=loss, parts={}, count=choices.count)

    monkeypatch.setattr(Objective, "forward", spy)
    backbone, _ = fit(dataset, LEARNED, tmp_path)
    trie = backbone.trie
    expected = []
    for sequence in range(len(train)):
        items = train.items[train.offsets[sequence] : train.offsets[sequence + 1]].tolist()
        for before in range(int(train.first_target[sequence]), len(items)):
            item = items[before]
            code = int(trie.token_of_node[trie.path(torch.tensor([item]))[0, 1]])
            expected.append((code, before, int((train.items == item).sum())))
    assert sorted(seen) == sorted(expected * 2)  # of two epochs
    steps = len(shares)
    assert shares == pytest.approx([step / steps for step in range(steps)])


def test_an_objective_without_its_teacher_is_refused_in_one_line(
    dataset: Dataset, tmp_path: Path
) -> None:
    backbone = CausalBackbone(CausalConfig(), BuildContext(CODES, (6, 8), seed=0))
    with pytest.raises(ValueError, match="needs the teacher's token distributions") as error:
        fit_backbone(
            backbone,
            FitSettings(
                objective=LEARNED,
                training=TrainingConfig(),
                evaluation=EVALUATION,
                seed=0,
            ),
            None,
            dataset.splits,
            folder=tmp_path / "new",
            lineage=LINEAGE,
            title="test",
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_the_best_value_is_that_of_a_fixed_subset_of_the_validation_targets(
    dataset: Dataset, tmp_path: Path
) -> None:
    backbone, state = fit(dataset, ObjectiveConfig(), tmp_path)
    valid = dataset.splits.valid
    assert valid.num_targets > 50
    ranks = rank_by_beam(backbone, valid, beam=20)
    chosen = np.random.default_rng(0).permutation(valid.num_targets)[:50]
    values = ranks.metrics("removed", "expected")["N@10"]
    assert values[chosen].mean() == pytest.approx(state.best, rel=1e-9)
    assert values.mean() != pytest.approx(state.best)


def test_a_teacher_without_weight_is_plain_training(dataset: Dataset, tmp_path: Path) -> None:
    plain, state = fit(dataset, ObjectiveConfig(), tmp_path / "plain")
    aligned, aligned_state = fit(
        dataset, ObjectiveConfig(name="soft_ce", alpha=0.0), tmp_path / "aligned"
    )
    for name, value in plain.named_parameters():
        assert torch.equal(value, aligned.get_parameter(name))
    times = {"seconds": 0.0, "validation_seconds": 0.0}
    assert dataclasses.replace(state, **times) == dataclasses.replace(aligned_state, **times)


def test_each_target_meets_the_teacher_of_its_own_past(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = dataset.splits.train
    backbone = CausalBackbone(
        CausalConfig(encoder=EncoderConfig(dim=8, ff_dim=8)), BuildContext(CODES, (6, 8))
    )
    # the "mass" of a target is its own number, which the objective's input must then show
    mass = torch.arange(train.num_targets).float()[:, None, None].expand(-1, 2, 8)
    item_of_target = torch.from_numpy(train.items[train.targets()[1]])
    met: list[int] = []

    def spy(
        self: Objective,
        logits: Tensor,
        choices: Candidates,
        teacher: Tensor,
        context: AlphaContext,
    ) -> ObjectiveOutput:
        numbers = teacher[choices.supervised][:, 0].long()
        items = item_of_target[numbers]
        at_both = candidates(backbone.trie, items).target_slot
        slots = choices.target_slot[choices.supervised]
        assert (slots.unsqueeze(1) == at_both).any(dim=1).all()
        met.extend(numbers.tolist())
        loss = logits[logits.isfinite()].square().mean()
        return ObjectiveOutput(loss=loss, parts={}, count=choices.supervised.sum())

    monkeypatch.setattr(Objective, "forward", spy)
    fit_backbone(
        backbone,
        FitSettings(
            objective=ObjectiveConfig(name="soft_ce", alpha=0.5),
            training=TrainingConfig(epochs=1),
            evaluation=EVALUATION,
            seed=0,
        ),
        StoredDistributions(mass),
        dataset.splits,
        folder=tmp_path,
        lineage=LINEAGE,
        title="test",
    )
    assert sorted(set(met)) == list(range(train.num_targets))
