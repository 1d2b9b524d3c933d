"""Models of two sets of IDs: lists, folder, labels, and what they refuse."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ENCODER, TRAINING, shop, spec
from torch import Tensor

from baselines.data.batches import Histories
from baselines.models.items import ModelItems
from baselines.models.new_items import with_new_items
from baselines.models.recommender import Recommender
from baselines.models.spec import ModelSpec
from baselines.models.trained import TrainedModel
from baselines.teachers.config import MassConfig, SASRecConfig, TeacherConfig
from baselines.teachers.fitted import FittedTeacher
from baselines.teachers.supervision import Supervision
from semid.build import ids_from_config
from semid.config import IdsConfig
from semid.ids import SemanticIds
from semid.provenance import ProvenanceError
from semid.scoring import score_all
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective

DATA = shop()
HISTORY = [DATA.catalog.item_ids[row] for row in (3, 7, 1)]
FIRST = IdsConfig(codebook_sizes=(4, 4))
SECOND = IdsConfig(scheme="random", codebook_sizes=(8, 3), collisions="keep")


def items_of(folder: Path, second: IdsConfig | None = SECOND) -> ModelItems:
    ids = ids_from_config(FIRST, DATA.catalog)
    if not (folder / "ids").exists():
        ids.save(folder / "ids")
    other = None if second is None else ids_from_config(second, DATA.catalog)
    return ModelItems.of(DATA, ids, folder / "ids", other)


def fit(
    folder: Path,
    items: ModelItems,
    made: ModelSpec | None = None,
    supervision: Supervision | None = None,
) -> TrainedModel:
    return TrainedModel.fit(
        made or spec(), DATA, items, supervision, folder=folder / "model", title="tiny"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two")


@pytest.fixture(scope="module")
def model(folder: Path) -> TrainedModel:
    model = fit(folder, items_of(folder))
    model.keep()
    return model


def at_weight(model: TrainedModel, weight: float) -> TrainedModel:
    evaluation = dataclasses.replace(model.spec.evaluation, item_weight=weight)
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, evaluation=evaluation))


@torch.inference_mode()
def both(model: TrainedModel) -> tuple[Tensor, Tensor]:
    """Log-probability of every item's first path, and of its first path by the second IDs."""
    backbone: Any = model.backbone
    rows = torch.from_numpy(model.items.catalog.rows(HISTORY)).unsqueeze(0)
    past = Histories(items=rows, mask=rows >= 0, users=torch.zeros(1).long())
    empty, trie = backbone.start(past), backbone.trie
    first = score_all(empty, trie)[0]
    second = score_all(dataclasses.replace(empty, ids=backbone.second), backbone.second_trie)[0]
    assert model.items.second is not None
    paths = [tuple(path) for path in model.items.second.codes.tolist()]
    p = torch.tensor([float(second[i].exp()) / paths.count(paths[i]) for i in range(len(paths))])
    leaf = trie.node_of_item.long()
    return first, torch.zeros(trie.num_nodes).index_add_(0, leaf, p)[leaf].log()


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.8])
def test_lists_are_ranked_by_the_log_probabilities_of_both_ids(
    model: TrainedModel, tmp_path: Path, weight: float
) -> None:
    first, second = both(model)
    total = ((1 - weight) * first + weight * second).tolist()  # at .5 half of their sum
    expected = dict(zip(model.items.catalog.item_ids, total, strict=True))
    best = sorted((expected[item] for item in expected if item not in HISTORY), reverse=True)[:8]
    mixed = at_weight(model, weight)
    mixed.save(tmp_path / "saved")
    for each in (mixed, TrainedModel.load(tmp_path / "saved")):
        (found,) = Recommender(each).recommend([HISTORY], k=8)
        assert [item.score for item in found] == pytest.approx(best, abs=1e-4)
        assert [expected[item.item_id] for item in found] == pytest.approx(best, abs=1e-4)


def test_validation_chooses_how_much_the_second_ids_count(model: TrainedModel) -> None:
    ranks, notes = model.evaluate(DATA, model.folder / "test", "test")
    assert notes["item_weight"]["weight"] == model.spec.evaluation.item_weight
    assert len(notes["item_weight"]["validation"]) == 6
    assert notes["certificate"]["recall"]["50"] == 1, "a beam over all items is exact"
    assert len(ranks.top) == DATA.splits.test.num_targets


def test_a_trained_model_is_read_again_and_other_ids_are_refused(
    model: TrainedModel, folder: Path
) -> None:
    weights = model.folder / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = fit(folder, items_of(folder))
    assert weights.stat().st_mtime_ns == before
    assert again.identity == model.identity
    for second in (None, dataclasses.replace(SECOND, codebook_sizes=(7, 3))):
        with pytest.raises(ProvenanceError):
            fit(folder, items_of(folder, second))


def test_training_moves_every_table_of_both_ids(model: TrainedModel) -> None:
    items = model.items
    fresh = model.spec.build(items.ids, items.catalog, second=items.second).state_dict()
    for name, weights in model.backbone.state_dict().items():
        assert not torch.equal(weights, fresh[name]), name
    assert sum(name.startswith("second.") for name in fresh) == 1 + 1 + 2 * 2


def test_a_folder_without_its_second_ids_or_with_others_is_refused(
    model: TrainedModel, tmp_path: Path
) -> None:
    shutil.copytree(model.folder, tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone" / "second_ids")
    with pytest.raises(FileNotFoundError, match="second_ids"):
        TrainedModel.load(tmp_path / "gone")
    other = ids_from_config(dataclasses.replace(SECOND, codebook_sizes=(7, 3)), DATA.catalog)
    other.save(tmp_path / "gone" / "second_ids")
    with pytest.raises(ProvenanceError, match="second_ids of the model"):
        TrainedModel.load(tmp_path / "gone")


def test_a_folder_that_was_left_unfinished_is_completed(model: TrainedModel) -> None:
    card = model.folder / "model.json"
    before = card.read_text()
    card.unlink()
    model.keep()
    assert card.read_text() == before
    assert TrainedModel.load(model.folder).identity == model.identity


def test_new_items_are_refused_by_name(model: TrainedModel) -> None:
    with pytest.raises(ValueError, match="second set of semantic IDs, which new items have none"):
        with_new_items(model, [{"item_id": 9001, "title": "red lipstick"}])


@pytest.mark.parametrize("on_policy", [0.0, 0.5])
def test_a_teacher_labels_both_ids(tmp_path: Path, on_policy: float) -> None:
    items = items_of(tmp_path)
    config = TeacherConfig(model="sasrec", sasrec=SASRecConfig(max_history=9, encoder=ENCODER))
    teacher = FittedTeacher.fit(
        DATA, config, TRAINING, seed=0, folder=tmp_path / "teachers", temperature=1.0
    )

    def none(_: Any) -> FittedTeacher:
        raise AssertionError("labels are in sample")

    cache = tmp_path / "mass"
    supervision = Supervision(teacher, none, DATA, items.ids, MassConfig(), cache)
    objective = ObjectiveConfig(name="soft_ce", alpha=0.5, on_policy=on_policy)
    model = fit(tmp_path, items, dataclasses.replace(spec(), objective=objective), supervision)
    assert len(list(cache.glob("mass-*"))) == 2
    assert items.second is not None
    require_labels(model, supervision, items.second)


@torch.inference_mode()
def require_labels(model: TrainedModel, supervision: Supervision, ids: SemanticIds) -> None:
    """The labels of some IDs are the teacher's probability below each child, by definition."""
    trie = model.backbone.second_trie
    assert trie is not None
    batch = model.backbone.windows(DATA.splits.train).batch(torch.arange(2).numpy())
    at = Objective(ObjectiveConfig(name="ntp")).positions(trie, batch.target_items)
    choices = candidates(trie, batch.target_items, at)
    found = supervision.of_codes(ids)(batch, at)
    paths = [tuple(path) for path in ids.codes.tolist()]
    for row in at.real.nonzero().squeeze(1).tolist()[:40]:
        target, depth = int(at.target[row]), int(at.pos[row])
        window, place = int(batch.target_row[target]), int(batch.target_pos[target])
        kept = batch.windows.mask[window, :place]
        past = batch.windows.items[window, :place][kept][None, -9:]
        history = Histories(items=past, mask=past >= 0, users=torch.zeros(1).long())
        p = supervision.teacher.model.score(history)[0].softmax(dim=0).tolist()
        prefix = paths[int(batch.target_items[target])][:depth]
        mass: dict[int, float] = {}
        for path, share in zip(paths, p, strict=True):
            if path[:depth] == prefix:
                mass[path[depth]] = mass.get(path[depth], 0.0) + share
        tokens = choices.tokens[row][choices.valid[row]].tolist()
        expected = [mass[token] / sum(mass.values()) for token in tokens]
        assert found[row][: len(tokens)].tolist() == pytest.approx(expected, abs=2e-3)
