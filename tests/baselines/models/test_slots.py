"""Reserved slots of a model: its lists, its ranks and its folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tiny_models import TRAINING, fit_model, with_teacher

from baselines.data.batches import histories_of_targets
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.metrics import MISS
from baselines.models.new_items import with_new_items
from baselines.models.other_data import rank_on
from baselines.models.recommender import Recommender
from baselines.models.slots import reserved_slots
from baselines.models.trained import TrainedModel
from baselines.teachers.config import TeacherConfig
from baselines.teachers.fitted import FittedTeacher
from semid.provenance import read_json

SLOTS = 3
DATA = synthetic_dataset(num_users=60, num_items=48, split="cold:0.5")


def with_slots(model: TrainedModel, slots: int) -> TrainedModel:
    evaluation = dataclasses.replace(model.spec.evaluation, slots=slots)
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, evaluation=evaluation))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> FittedTeacher:
    folder = tmp_path_factory.mktemp("content")
    return FittedTeacher.fit(DATA, TeacherConfig(model="content"), TRAINING, seed=0, folder=folder)


@pytest.fixture(scope="module", params=["alone", "teacher in the beam"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    folder = tmp_path_factory.mktemp("model")
    fitted = fit_model(folder, dataset=DATA)
    return fitted if request.param == "alone" else with_teacher(fitted, folder)


@pytest.fixture(scope="module")
def model(plain: TrainedModel, content: FittedTeacher) -> TrainedModel:
    return dataclasses.replace(with_slots(plain, SLOTS), content=content)


def pasts(data: Dataset) -> list[list[int]]:
    """The history of each test target, as rows, in the order of the targets."""
    test = data.splits.test
    sequence, event = test.targets()
    return [test.items[test.offsets[s] : e].tolist() for s, e in zip(sequence, event, strict=True)]


def whole_rankings(
    plain: TrainedModel, content: FittedTeacher, *, exclude_seen: bool
) -> list[list[int]]:
    """The ranking of every target's history, by the definition; the beam holds all items."""
    catalog, cold = plain.items.catalog, np.flatnonzero(plain.items.counts == 0)
    ids = [[catalog.item_ids[row] for row in past] for past in pasts(DATA)]
    found = Recommender(plain).recommend(ids, k=48, exclude_seen=exclude_seen)
    scores = np.empty((len(ids), len(catalog)))
    longest = int(DATA.splits.test.lengths.max())
    for position, histories in histories_of_targets(DATA.splits.test, longest, 16):
        scores[position] = content.model.score(histories).numpy()
    rankings = []
    for past, listed, of_content in zip(pasts(DATA), found, scores, strict=True):
        own = catalog.rows([one.item_id for one in listed]).tolist()
        front, seen = own[: 10 - SLOTS], past if exclude_seen else []
        may_place = [row for row in cold.tolist() if row not in front and row not in seen]
        best = sorted(may_place, key=lambda row: (-of_content[row], row))[:SLOTS]
        rankings.append(front + best + [row for row in own[10 - SLOTS :] if row not in best])
    return rankings


def test_lists_are_served_as_defined_and_a_folder_keeps_their_scorer(
    plain: TrainedModel, model: TrainedModel, content: FittedTeacher, tmp_path: Path
) -> None:
    catalog = model.items.catalog
    rankings = whole_rankings(plain, content, exclude_seen=True)
    model.save(tmp_path / "saved")
    loaded = TrainedModel.load(tmp_path / "saved")
    histories = [[catalog.item_ids[row] for row in past] for past in pasts(DATA)]
    for each in (model, loaded):
        found = Recommender(each).recommend(histories, k=10)
        rows = [catalog.rows([one.item_id for one in listed]).tolist() for listed in found]
        assert rows == [ranking[:10] for ranking in rankings]
    again = TrainedModel.load(tmp_path / "saved")
    again.save(tmp_path / "again")
    assert TrainedModel.load(tmp_path / "again").slots is not None


def test_test_targets_are_ranked_in_these_lists(
    plain: TrainedModel, model: TrainedModel, content: FittedTeacher, tmp_path: Path
) -> None:
    ranks, _ = rank_on(model, DATA)
    if model.partner is None:
        stored, _ = model.evaluate(DATA, tmp_path / "test", "test")
        assert stored.top.tolist() == ranks.top.tolist()
        assert {name: of.tolist() for name, of in stored.counts.items()} == {
            name: of.tolist() for name, of in ranks.counts.items()
        }
    test = DATA.splits.test
    targets = test.items[test.targets()[1]].tolist()
    for policy in ("kept", "removed"):
        rankings = whole_rankings(plain, content, exclude_seen=policy == "removed")
        expected = [
            ranking.index(target) if target in ranking else MISS
            for ranking, target in zip(rankings, targets, strict=True)
        ]
        assert ranks.better[policy].tolist() == expected
        assert not ranks.tied[policy].any()
    assert ranks.top.tolist() == [ranking[:10] for ranking in rankings]
    assert model.identity == {**plain.identity, "slots": SLOTS}
    lineages = [
        each.spec.lineage(each.backbone, DATA, each.items.ids, None) for each in (plain, model)
    ]
    assert lineages[0] == lineages[1], "weights do not depend on slots"


def test_filters_hold_in_reserved_slots(model: TrainedModel) -> None:
    ids = model.items.catalog.item_ids
    history = [ids[row] for row in pasts(DATA)[0]]
    (listed,) = Recommender(model).recommend([history], k=6)
    slots = [one.item_id for one in listed[-SLOTS:]]
    assert not model.items.counts[model.items.catalog.rows(slots)].any()
    within = [item for item in ids if item != slots[0]]
    (without,) = Recommender(model).recommend([history], k=6, within=within)
    assert [one.item_id for one in without[-SLOTS:]][: SLOTS - 1] == slots[1:]
    (boosted,) = Recommender(model).recommend([history], k=6, boosts={slots[-1]: 100.0})
    assert boosted[0].item_id == slots[-1], "the search is boosted"
    assert slots[-1] not in [one.item_id for one in boosted[1:]]


def test_no_slots_leave_the_folder_as_it_was(plain: TrainedModel, tmp_path: Path) -> None:
    with_slots(plain, 0).save(tmp_path / "saved")
    card = read_json(tmp_path / "saved" / "model.json") or {}
    assert "content" not in card["parts"]
    assert "slots" not in card["spec"]["evaluation"]
    assert not (tmp_path / "saved" / "content").exists()
    assert plain.slots is None


def test_what_cannot_be_served_is_refused(plain: TrainedModel, model: TrainedModel) -> None:
    ids = model.items.catalog.item_ids
    with pytest.raises(ValueError, match="longer than their 3 reserved slots, got k 3"):
        Recommender(model).recommend([[ids[0]]], k=SLOTS)
    with pytest.raises(ValueError, match="expected a content scorer for slots 3"):
        Recommender(with_slots(plain, SLOTS)).recommend([[ids[0]]])
    table = pl.DataFrame({"item_id": ["new"], "title": ["new"]})
    with pytest.raises(ValueError, match="reserved slots by content"):
        with_new_items(model, table)


@pytest.mark.parametrize("slots", [-1, 10])
def test_bad_slots_are_refused(slots: int) -> None:
    with pytest.raises(ValueError, match="slots must"):
        EvaluationConfig(slots=slots)


def test_a_backbone_that_scores_all_items_has_no_slots(
    model: TrainedModel, content: FittedTeacher
) -> None:
    scorer: Any = content.model
    assert reserved_slots(scorer, model.spec.evaluation, model.items, content) is None
