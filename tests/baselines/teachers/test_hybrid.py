"""A collaborative teacher blended with content: the definition by loops, and what follows."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import histories, random_sequences

from baselines.data.batches import Histories
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.ranking import rank_by_scores
from baselines.nn.config import EncoderConfig
from baselines.teachers.calibration import calibrate
from baselines.teachers.config import (
    HybridConfig,
    ItemKNNConfig,
    LightGCNConfig,
    MassConfig,
    SASRecConfig,
    TeacherConfig,
)
from baselines.teachers.fit import fit_teacher, read_teacher, scores_hash
from baselines.teachers.hybrid import Hybrid
from baselines.teachers.mass import mass_source
from baselines.teachers.model import TeacherModel
from baselines.teachers.sasrec import SASRec
from baselines.teachers.vectors import item_vectors
from baselines.training.config import TrainingConfig
from semid.embed import Embeddings
from semid.provenance import Provenance, ProvenanceError
from semid.trie import CodeTrie

NUM_ITEMS = 14
TRAIN = random_sequences(NUM_ITEMS - 2, 9)  # the last two items are never seen
CONFIG = HybridConfig(
    content_temperature=0.3, decay=0.7, half_items=3, half_history=2, max_history=4
)
ENCODER = EncoderConfig(dim=8, num_layers=1, num_heads=2, ff_dim=16)
PASTS = [[3, 1, 3, 5, 2, 0], [4], [12], [12, 13, 12], [12, 7, 13], [6, 6]]


class LastItem(TeacherModel):
    """Scores by the last item; what it is shown, it keeps."""

    label = "Table"
    max_history = 5

    def __init__(self) -> None:
        super().__init__()
        table = torch.randn(NUM_ITEMS, NUM_ITEMS, generator=torch.Generator().manual_seed(0))
        self.table = torch.nn.Parameter(2 * table)
        self.shown: list[list[int]] = []

    def score(self, histories: Histories) -> Tensor:
        rows = zip(histories.items, histories.mask, strict=True)
        self.shown = [items[mask].tolist() for items, mask in rows]
        return self.table[histories.items[:, -1]]


def content() -> Tensor:
    vectors = torch.randn(NUM_ITEMS, 3, generator=torch.Generator().manual_seed(1))
    vectors[5] = 0
    return vectors


def hybrid(config: HybridConfig = CONFIG, cf: TeacherModel | None = None) -> Hybrid:
    return Hybrid(config, cf or LastItem(), content(), TRAIN).eval()


def softmax(scores: list[float]) -> list[float]:
    weights = [math.exp(score) for score in scores]
    return [weight / sum(weights) for weight in weights]


def by_loops(table: Tensor, config: HybridConfig, past: list[int]) -> list[float]:
    """The probabilities of the class's docstring."""
    vectors = content().double().numpy()
    norms = np.linalg.norm(vectors, axis=1)
    unit = vectors / np.where(norms == 0, 1, norms)[:, None]
    n = [int((TRAIN.items == item).sum()) for item in range(NUM_ITEMS)]
    recent = past[-config.max_history :]

    cosines = []
    for item in range(NUM_ITEMS):
        mean = np.zeros(3)
        for age, other in enumerate(reversed(recent)):
            if other != item:
                mean += config.decay**age * unit[other]
        length = np.linalg.norm(mean)
        cosines.append(float(mean @ unit[item]) / length if length > 0 else 0.0)
    p_content = softmax([cosine / config.content_temperature for cosine in cosines])

    known = [item for item in past if n[item] > 0]
    row = table[(known or past)[-1]].tolist()
    shares = [
        math.exp(row[item] / config.cf_temperature) * (n[item] > 0) for item in range(NUM_ITEMS)
    ]
    p_cf = [share / sum(shares) for share in shares]

    m = sum(n[item] > 0 for item in recent)
    v = m / (m + config.half_history) if m else 0.0
    trusted = [v * n_i / (n_i + config.half_items) * p for n_i, p in zip(n, p_cf, strict=True)]
    return [t + (1 - sum(trusted)) * p for t, p in zip(trusted, p_content, strict=True)]


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        HybridConfig(max_history=50, decay=1.0),
        dataclasses.replace(CONFIG, half_history=0, half_items=1e-6, cf_temperature=0.4),
    ],
)
def test_scores_are_the_definition(config: HybridConfig) -> None:
    model = hybrid(config)
    scores = model.score(histories(*PASTS, padding=2))
    table = model.cf.state_dict()["table"]
    for row, past in enumerate(PASTS):
        expected = by_loops(table, config, past)
        torch.testing.assert_close(scores[row].exp(), torch.tensor(expected), rtol=1e-4, atol=1e-7)


def test_it_is_a_distribution_in_which_every_item_has_its_place() -> None:
    scores = hybrid().score(histories(*PASTS))
    torch.testing.assert_close(scores.exp().sum(dim=1), torch.ones(len(PASTS)))
    assert scores.isfinite().all()


def test_the_rows_of_untrained_items_count_for_nothing() -> None:
    model = hybrid()
    before = model.score(histories(*PASTS))
    with torch.no_grad():
        model.cf.state_dict()["table"][12:] = 1e6
        model.cf.state_dict()["table"][:, 12:] = 1e6
    torch.testing.assert_close(model.score(histories(*PASTS)), before)


def test_the_teacher_is_shown_known_items_in_their_order() -> None:
    model = hybrid()
    model.score(histories([12, 7, 13, 3, 1], [13, 2], [12, 13]))
    assert isinstance(model.cf, LastItem)
    assert model.cf.shown[:2] == [[7, 3, 1], [2]]
    assert len(model.cf.shown[2]) == 1, "a history it is not trusted for, but it has to have one"


def test_without_trust_it_is_content_and_with_all_of_it_the_teacher() -> None:
    known = [past for past in PASTS if set(past).isdisjoint({12, 13})]
    content_alone = hybrid(dataclasses.replace(CONFIG, half_items=1e9)).score(histories(*known))
    other = hybrid(dataclasses.replace(CONFIG, half_items=1e9))
    with torch.no_grad():
        other.cf.state_dict()["table"].mul_(-3)
    torch.testing.assert_close(other.score(histories(*known)), content_alone, atol=1e-5, rtol=0)

    trusted = hybrid(dataclasses.replace(CONFIG, half_items=1e-9, half_history=0))
    of_cf = trusted.cf.score(histories(*known))[:, :12].log_softmax(dim=1)
    torch.testing.assert_close(trusted.score(histories(*known))[:, :12], of_cf, atol=1e-4, rtol=0)


def test_more_events_and_longer_histories_are_trusted_more() -> None:
    def distance(config: HybridConfig, past: list[int]) -> float:
        """Between the blend and the teacher, in total variation."""
        model = hybrid(config)
        p = model.score(histories(past)).exp()
        cf = model.cf.score(histories(past))[:, :12].softmax(dim=1)
        return float(((p[:, :12] - cf).abs().sum() + p[:, 12:].sum()).detach())

    shorter, longer = distance(CONFIG, [2]), distance(CONFIG, [0, 1, 3, 2])
    assert shorter > longer
    halves = [distance(dataclasses.replace(CONFIG, half_items=half), [2]) for half in (9, 3, 1)]
    assert halves == sorted(halves, reverse=True)


def test_how_far_it_looks_back_is_the_longer_of_both() -> None:
    assert hybrid().max_history == 5
    assert hybrid(dataclasses.replace(CONFIG, max_history=9)).max_history == 9
    long = [1, 2, 3, 4, 5, 6, 7, 8]
    model = hybrid()
    torch.testing.assert_close(model.score(histories(long)), model.score(histories(long[-5:])))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"half_items": 0.0}, "half_items must be a number above 0"),
        ({"content_temperature": -1.0}, "content_temperature must be a number of at least 1e-06"),
        ({"cf_temperature": float("nan")}, "cf_temperature must be a finite number"),
        ({"decay": 0.0}, "decay must be a number above 0 and of at most 1"),
        ({"half_history": -1.0}, "half_history must be a number of at least 0"),
        ({"max_history": 0}, "max_history must be a whole number from 1"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridConfig(**values)  # type: ignore[arg-type]


TEACHERS = TeacherConfig(
    model="hybrid",
    sasrec=SASRecConfig(max_history=7, encoder=ENCODER),
    lightgcn=LightGCNConfig(dim=8, num_layers=2, passes=1, max_history=7),
    itemknn=ItemKNNConfig(neighbours=9, max_history=7),
)
TRAINING = TrainingConfig(epochs=2, lr=0.01, batch_events=256)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(num_users=60, num_items=40, num_categories=2)


def with_cf(name: str, **settings: object) -> TeacherConfig:
    chosen = HybridConfig(cf=name, **settings)  # type: ignore[arg-type]
    return dataclasses.replace(TEACHERS, hybrid=chosen)


@pytest.mark.parametrize("cf", ["sasrec", "lightgcn", "itemknn", "popularity"])
def test_its_teacher_is_an_artefact_of_its_own_that_is_taken_where_it_is(
    dataset: Dataset, tmp_path: Path, cf: str
) -> None:
    config = with_cf(cf)
    alone, cf_state, cf_lineage = fit_teacher(
        dataset, config.wrapped, TRAINING, seed=1, folder=tmp_path
    )
    model, state, lineage = fit_teacher(dataset, config, TRAINING, seed=1, folder=tmp_path)
    assert len(list(tmp_path.glob(f"{cf}-1-*"))) == 1
    assert lineage.inputs["collaborative"] == scores_hash(cf_lineage)
    (vectors,) = (tmp_path / "embeddings").iterdir()
    assert lineage.inputs["content"] == Provenance.read(vectors).content
    assert lineage.config["content"]["encoder"] == "lsa"
    assert (state.best_epoch, state.seconds) == (cf_state.best_epoch, cf_state.seconds)
    assert isinstance(model, Hybrid)
    for name, value in alone.state_dict().items():
        assert torch.equal(model.cf.state_dict()[name].to_dense(), value.to_dense())
    trained = [sum(p.numel() for p in m.parameters() if p.requires_grad) for m in (model, alone)]
    assert trained[0] == trained[1] or cf in ("itemknn", "popularity")
    (own,) = tmp_path.glob("hybrid-1-*")
    read, _ = read_teacher(dataset, seed=1, folder=own)
    ranks = rank_by_scores(read, dataset.splits.valid).metrics("removed", "expected")
    assert ranks["N@10"].mean() == state.best


def test_the_record_of_a_config_makes_it_again() -> None:
    config = with_cf("itemknn", half_items=7.0, embeddings="somewhere.npy")
    again = TeacherConfig.of_record({"seed": 3, **config.record(), "dim": 128})
    assert again.record() == config.record()
    assert again.itemknn == config.itemknn
    assert "somewhere" not in str(config.record()), "vectors are told by their hash"


def test_the_same_vectors_are_the_same_teacher_and_others_are_not(
    dataset: Dataset, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(40, 4)))
    (tmp_path / "copy.npy").write_bytes((tmp_path / "a.npy").read_bytes())

    def content_of(name: str) -> str:
        config = with_cf("popularity", embeddings=str(tmp_path / f"{name}.npy"))
        return fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path / "all")[2].content

    assert content_of("a") == content_of("copy")
    assert len(list((tmp_path / "all").glob("hybrid-*"))) == 1
    assert content_of("b") != content_of("a")


def test_vectors_that_have_seen_other_interactions_are_refused(
    dataset: Dataset, tmp_path: Path
) -> None:
    vectors = np.random.default_rng(0).normal(size=(40, 4))
    for seen in (dataset.splits.train_hash, dataset.splits.test.content_hash()):
        Embeddings.of(vectors, dataset.catalog, seen=seen).save(tmp_path / seen)
        config = with_cf("popularity", embeddings=str(tmp_path / seen))
        if seen == dataset.splits.train_hash:
            fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path / "all")
            continue
        with pytest.raises(
            ProvenanceError, match="training interactions of the hybrid's item vectors"
        ):
            fit_teacher(dataset, config, TRAINING, seed=0, folder=tmp_path / "all")


def test_what_held_out_or_other_graphs_taught_its_teacher_is_refused_as_of_any(
    dataset: Dataset, tmp_path: Path
) -> None:
    splits = dataset.splits
    more = dataclasses.replace(dataset, splits=dataclasses.replace(splits, train=splits.test))
    for cf in ("itemknn", "lightgcn"):
        fit_teacher(more, with_cf(cf), TRAINING, seed=0, folder=tmp_path / cf)
        (own,) = (tmp_path / cf).glob("hybrid-*")
        with pytest.raises(ProvenanceError, match="may have seen held-out targets"):
            read_teacher(dataset, seed=0, folder=own)
    taken, _ = read_teacher(
        dataset,
        seed=0,
        folder=next((tmp_path / "itemknn").glob("hybrid-*")),
        other_interactions=True,
    )
    assert taken.state_dict()["counts"].sum() == len(splits.test.items), "those that it was made of"
    with pytest.raises(ProvenanceError, match="needs the interactions it was trained on"):
        read_teacher(dataset, seed=0, folder=own, other_interactions=True)


def test_it_has_no_vectors_to_be_exported_or_searched(dataset: Dataset, tmp_path: Path) -> None:
    model, _, lineage = fit_teacher(
        dataset, with_cf("popularity"), TRAINING, seed=0, folder=tmp_path
    )
    with pytest.raises(ValueError, match="Popularity has no item vectors"):
        item_vectors(model, dataset, lineage)
    trie = CodeTrie.from_paths(torch.arange(40)[:, None], 40)
    with pytest.raises(ValueError, match="top_k needs a teacher whose scores are dot products"):
        mass_source(model, trie, config=MassConfig(top_k=3))


def test_a_temperature_is_found_for_it(dataset: Dataset) -> None:
    cf = SASRec(SASRecConfig(max_history=7, encoder=ENCODER), 40, seed=0).eval()
    vectors = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    model = Hybrid(HybridConfig(half_items=1e-3), cf, vectors, dataset.splits.train).eval()
    with torch.no_grad():
        cf.item_embedding.weight.mul_(30)  # sure of itself, for no reason
    assert calibrate(model, dataset.splits.valid).temperature > 1.5
