"""Teachers made worse on purpose: what each setting does to the scores, and what it leaves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from worlds import histories

from baselines.cli import main
from baselines.data.batches import Histories, histories_of_targets
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.ranking import rank_by_scores
from baselines.experiments.comparison import Comparison
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import LightGCNConfig, SASRecConfig, TeacherConfig
from baselines.teachers.degraded import Degraded, of_share, with_share
from baselines.teachers.degraded_config import DegradedConfig
from baselines.teachers.fit import fit_teacher, read_teacher, scores_hash
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.labels import WithoutOwn
from baselines.teachers.registry import build_teacher, teacher_class
from baselines.teachers.vectors import require_item_vectors
from baselines.testing import check_teacher
from baselines.training.config import TrainingConfig

Values = NDArray[np.floating]
TRAINING = TrainingConfig(epochs=2, lr=0.01, batch_events=256)
ENCODER = EncoderConfig(dim=8, num_layers=1, num_heads=2, ff_dim=16)
PLAIN = TeacherConfig(
    model="degraded",
    sasrec=SASRecConfig(max_history=7, encoder=ENCODER),
    lightgcn=LightGCNConfig(dim=8, num_layers=2, passes=1, max_history=7),
)
NUM_ITEMS = 40


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(num_users=60, num_items=NUM_ITEMS, num_categories=2)


@pytest.fixture(scope="module")
def past(dataset: Dataset) -> Histories:
    _, found = next(histories_of_targets(dataset.splits.test, 9, 60))
    return found


def config(of: str = "rules", **settings: Any) -> TeacherConfig:
    chosen = DegradedConfig(of=of, **settings)
    return dataclasses.replace(PLAIN, degraded=chosen)


def counted(dataset: Dataset, seed: int = 0, **settings: Any) -> Degraded:
    teacher = build_teacher(config(**settings), dataset, seed)
    assert isinstance(teacher, Degraded)
    return teacher.eval()


def hits_and_chance(dataset: Dataset, **settings: Any) -> tuple[Values, Values]:
    """R@10 of every test target whose item is new to its user, and that of a random list."""
    test = dataset.splits.test
    found = rank_by_scores(counted(dataset, **settings), test).metrics("removed", "expected")
    sequences = np.split(test.items, test.offsets[1:-1])
    unseen = np.array([NUM_ITEMS - len(set(items[:-1].tolist())) for items in sequences])
    is_new = ~test.repeated_targets()
    assert is_new.sum() > 20
    return found["R@10"][is_new], 10 / unseen[is_new]


@pytest.mark.parametrize("of", ["sasrec", "rules", "rules+content", "lightgcn", "popularity"])
def test_with_its_defaults_it_is_the_teacher_itself(
    dataset: Dataset, past: Histories, tmp_path: Path, of: str
) -> None:
    alone, alone_state, alone_lineage = fit_teacher(
        dataset, config(of).wrapped, TRAINING, seed=1, folder=tmp_path
    )
    model, state, lineage = fit_teacher(dataset, config(of), TRAINING, seed=1, folder=tmp_path)
    assert len(list(tmp_path.glob(f"{of}-1-*"))) == 1, "fitted once"
    assert lineage.inputs["teacher"] == scores_hash(alone_lineage)
    assert torch.equal(model.score(past), alone.score(past))
    assert model.label == alone.label
    assert (state.best, state.best_epoch) == (alone_state.best, alone_state.best_epoch)
    trained = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (model, alone)]
    assert trained[0] == trained[1]


def test_a_flat_teacher_hits_as_often_as_chance(dataset: Dataset) -> None:
    hits, chance = hits_and_chance(dataset, signal=0.0)
    np.testing.assert_allclose(hits, chance, rtol=1e-6)


def test_a_shuffled_teacher_hits_as_often_as_chance(dataset: Dataset) -> None:
    found = [hits_and_chance(dataset, seed=seed, shuffled=True)[0].mean() for seed in range(60)]
    hits, chance = hits_and_chance(dataset)
    assert abs(np.mean(found) - chance.mean()) < 4 * np.std(found) / len(found) ** 0.5 < 0.06
    assert hits.mean() > chance.mean() + 0.2, "the teacher itself does far better"


def test_shuffled_scores_are_those_of_another_item_the_same_for_all(
    dataset: Dataset, past: Histories
) -> None:
    plain, shuffled = counted(dataset), counted(dataset, shuffled=True, seed=3)
    places = shuffled.places
    assert sorted(places.tolist()) == list(range(NUM_ITEMS))
    assert places.tolist() != list(range(NUM_ITEMS))
    assert torch.equal(shuffled.score(past), plain.score(past)[:, places])
    assert places.tolist() != counted(dataset, shuffled=True, seed=4).places.tolist()


def test_noise_is_standard_normal_in_units_of_the_scores_of_a_history(
    dataset: Dataset, past: Histories
) -> None:
    plain = counted(dataset).score(past).double()
    noisy = counted(dataset, signal=0.5, noise=2.0).score(past).double()
    z = (noisy - 0.5 * plain) / (2 * plain.std(dim=1, correction=0, keepdim=True))
    assert len(z.flatten()) > 2000
    assert abs(float(z.mean())) < 0.1
    assert abs(float(z.std()) - 1) < 0.1
    assert abs(float(torch.corrcoef(torch.stack([z.flatten(), plain.flatten()]))[0, 1])) < 0.1
    assert len({tuple(row) for row in z.round(decimals=4).tolist()}) == len(
        {tuple(items[mask].tolist()) for items, mask in zip(past.items, past.mask, strict=True)}
    ), "each history has noise of its own"


def test_noise_is_of_the_seed_and_the_history_alone(dataset: Dataset) -> None:
    teacher = counted(dataset, noise=1.0)
    one = teacher.score(histories([4, 2, 7], [1]))
    assert torch.equal(one, teacher.score(histories([4, 2, 7], [1], padding=3, users=[9, 9])))
    assert torch.equal(one[1:], teacher.score(histories([1])))
    assert not torch.equal(
        one, counted(dataset, noise=1.0, seed=1).score(histories([4, 2, 7], [1]))
    )


def test_an_item_at_minus_infinity_stays_there() -> None:
    class Half(torch.nn.Module):
        label, max_history, needs_interactions = "Half", 3, False

        def score(self, past: Histories) -> torch.Tensor:
            row = torch.tensor([1.0, -torch.inf, 3.0, -torch.inf])
            return row.expand(len(past.items), -1)

    made = Degraded(DegradedConfig(signal=0.0, noise=1.0), Half(), 4, 0)  # type: ignore[arg-type]
    scores = made.score(histories([0], [1, 2]))
    assert scores.isneginf().tolist() == [[False, True, False, True]] * 2
    assert scores[:, ::2].isfinite().all()
    flat = Degraded(DegradedConfig(signal=0.0), Half(), 4, 0)  # type: ignore[arg-type]
    assert flat.score(histories([0])).tolist() == [[0.0, -torch.inf, 0.0, -torch.inf]]


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_is_the_teacher_of_these_users_alone(
    dataset: Dataset, past: Histories, share: float
) -> None:
    train = dataset.splits.train
    part = of_share(train, share)
    users = set(part.users.tolist())
    assert len(users) == round(share * len(set(train.users.tolist())))
    alone = train.select(np.isin(train.users, list(users)))
    assert alone.content_hash() == part.content_hash(), "all sequences of these users"
    assert users <= set(of_share(train, 0.7).users.tolist()), "shares are nested"
    splits = dataclasses.replace(dataset.splits, train=alone)
    expected = build_teacher(
        TeacherConfig(model="rules"), dataclasses.replace(dataset, splits=splits), 0
    )
    assert torch.equal(counted(dataset, share=share).score(past), expected.score(past))


def test_a_users_own_events_are_left_out_if_they_were_counted(dataset: Dataset) -> None:
    train, teacher = dataset.splits.train, counted(dataset, of="popularity", share=0.5)
    part = with_share(dataset, 0.5)
    inside = int(part.splits.train.users[0])
    outside = min(set(train.users.tolist()) - set(part.splits.train.users.tolist()))
    past = histories([3, 5], [3, 5], users=[inside, outside])
    honest = WithoutOwn(teacher, train).score(past)
    others = part.splits.train.select(part.splits.train.users != inside)
    splits = dataclasses.replace(dataset.splits, train=others)
    without = build_teacher(
        TeacherConfig(model="popularity"), dataclasses.replace(dataset, splits=splits), 0
    )
    torch.testing.assert_close(honest[:1], without.score(past)[:1])
    assert torch.equal(honest[1:], teacher.score(past)[1:])
    assert not torch.allclose(honest[0], teacher.score(past)[0])


def test_only_a_counted_teacher_leaves_events_out() -> None:
    assert hasattr(teacher_class(config("rules")), "score_without_own")
    assert not hasattr(teacher_class(config("sasrec")), "score_without_own")


@pytest.mark.parametrize("of", ["sasrec", "rules+content", "lightgcn"])
def test_it_is_read_as_it_was_fitted_with_and_without_the_data(
    dataset: Dataset, past: Histories, tmp_path: Path, of: str
) -> None:
    worse = config(of, noise=0.5, shuffled=True, share=0.5)
    fitted = FittedTeacher.fit(dataset, worse, TRAINING, seed=1, folder=tmp_path / "all")
    expected = fitted.model.score(past)
    read, _ = read_teacher(dataset, seed=1, folder=fitted.folder)
    assert torch.equal(read.score(past), expected)
    fitted.save(tmp_path / "copy")
    loaded = FittedTeacher.load(
        tmp_path / "copy", dataset.catalog, temperature=1.0, mask_history=False
    )
    assert torch.equal(loaded.model.score(past), expected)
    assert fitted.scores_hash != fit_hash(dataset, tmp_path, of, noise=0.6)


def fit_hash(dataset: Dataset, folder: Path, of: str, *, noise: float) -> str:
    other = config(of, noise=noise, shuffled=True, share=0.5)
    return FittedTeacher.fit(dataset, other, TRAINING, seed=1, folder=folder / "all").scores_hash


def test_the_record_of_a_config_makes_it_again() -> None:
    before = config("sasrec", noise=0.25, share=0.1)
    again = TeacherConfig.of_record({"seed": 3, **before.record()})
    assert again.record() == before.record()
    assert (again.degraded, again.sasrec) == (before.degraded, before.sasrec)


def test_it_keeps_the_contract_of_teachers(dataset: Dataset) -> None:
    check_teacher(
        lambda dataset, seed: build_teacher(config("rules", noise=1.0), dataset, seed),
        dataset=dataset,
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"of": "hybrid"}, "degraded.of must be one of"),
        ({"of": "degraded"}, "degraded.of must be one of"),
        ({"noise": -1.0}, "noise"),
        ({"signal": -1.0}, "signal"),
        ({"share": 0.0}, "share"),
        ({"share": 1.5}, "share"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**values)  # type: ignore[arg-type]


def test_ids_from_its_vectors_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cf_embeddings needs a teacher .* got degraded"):
        require_item_vectors(config("sasrec"), needed_by="cf_embeddings")


def test_a_comparison_has_its_row_beside_the_students(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "data": "synthetic:60x40",
        "arms": "causal:soft_ce:0.5",
        "seeds": "[0]",
        "counted": "false",
        "ids.codebook_sizes": "[4, 4]",
        "teacher.model": "degraded",
        "teacher.degraded.of": "rules",
        "teacher.degraded.shuffled": "true",
        "teacher.degraded.share": "0.5",
        "backbones.causal.encoder": "{dim: 8, num_layers: 1}",
        "training.epochs": "1",
        "evaluation.beam": "20",
        "out": str(tmp_path),
    }
    assert main(["compare", "--quiet", *(f"--{k}={v}" for k, v in options.items())]) == 0
    rows = {row.arm: row for row in Comparison.read(tmp_path / "comparison.json").rows}
    assert "Rules, shuffled, 50 % of users (teacher)" in rows
    (notes,) = rows["Causal+TCA soft_ce alpha=0.5"].evaluations
    assert notes["labels"] == "leave_own_out"
