"""ID schemes side by side: each arm on its own ids, and ids from the teacher's item vectors."""

from __future__ import annotations

import dataclasses
import json
import shutil
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import baselines.teachers.supervision
from baselines.backbones.config import CausalConfig
from baselines.data.loading import load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.arms import Arm
from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison
from baselines.experiments.schemes import schemes_of
from baselines.models.config import BackboneConfigs
from baselines.nn.config import EncoderConfig
from baselines.teachers.cache import cached_mass
from baselines.teachers.config import SASRecConfig, TeacherConfig
from baselines.teachers.fit import read_teacher
from baselines.teachers.vectors import item_vectors
from baselines.training.config import TrainingConfig
from semid.config import IdsConfig
from semid.embed import Embeddings
from semid.ids import SemanticIds
from semid.provenance import Provenance, ProvenanceError
from semid.quality import id_quality
from semid.tokenizers import SemanticIdTokenizer

ENCODER = EncoderConfig(dim=8, num_layers=1, num_heads=1, ff_dim=8)
KMEANS = IdsConfig(codebook_sizes=(4, 4))
RANDOM = IdsConfig(scheme="random", codebook_sizes=(16, 4), collisions="keep")
TINY = CompareConfig(
    ids=KMEANS,
    schemes={"random": RANDOM, "unused": IdsConfig(scheme="nothing that could be made")},
    arms=("causal@random:ntp", "causal:soft_ce:0.5", "causal@random:soft_ce:0.5", "causal:ntp"),
    seeds=(0, 1),
    counted=False,
    teacher=TeacherConfig(sasrec=SASRecConfig(max_history=9, encoder=ENCODER)),
    teacher_training=TrainingConfig(epochs=1),
    backbones=BackboneConfigs(causal=CausalConfig(max_history=9, encoder=ENCODER)),
    training=TrainingConfig(epochs=1),
    evaluation=EvaluationConfig(beam=10, validation_beam=5, validation_targets=20),
)


class MassLog(list[int]):
    """The number of slots of each mass that was computed; never two of them at a time."""

    def __init__(self) -> None:
        self.last: weakref.ref[Tensor] | None = None

    def __call__(self, source: Any, *args: Any, **kwargs: Any) -> Tensor:
        assert self.last is None or self.last() is None, "the mass before is still in memory"
        mass = cached_mass(source, *args, **kwargs)
        self.append(source.trie.max_children)
        self.last = weakref.ref(mass)
        return mass


@pytest.fixture
def masses(monkeypatch: pytest.MonkeyPatch) -> MassLog:
    log = MassLog()
    monkeypatch.setattr(baselines.teachers.supervision, "cached_mass", log)
    return log


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shop"
    write_plain_layout(synthetic_dataset(num_users=40, num_items=32, num_categories=2), folder)
    return folder


@pytest.fixture(scope="module")
def done(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CompareConfig, MassLog]:
    """The settings of a comparison of two schemes that is finished, and its masses."""
    config = dataclasses.replace(
        TINY, data=str(shop), out=str(tmp_path_factory.mktemp("runs") / "done")
    )
    log = MassLog()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines.teachers.supervision, "cached_mass", log)
        run_comparison(config)
    return config, log


def read(out: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(out) / "comparison.json").read_text())
    return found


def metrics(out: str | Path, arm: str) -> Any:
    return next(row["metrics"] for row in read(out)["rows"] if row["arm"] == arm)


def test_arms_stand_in_the_order_given_and_the_first_is_the_baseline(
    done: tuple[CompareConfig, MassLog],
) -> None:
    found = read(done[0].out)
    assert [row["arm"] for row in found["rows"][2:]] == [
        "Causal@random ntp",
        "Causal+TCA soft_ce alpha=0.5",
        "Causal@random+TCA soft_ce alpha=0.5",
        "Causal ntp",
    ]
    assert [row["seeds"] for row in found["rows"][2:]] == [[0, 1]] * 4
    assert found["baseline"] == "Causal@random ntp"


def test_every_arm_is_trained_on_the_ids_of_its_scheme_and_says_so(
    done: tuple[CompareConfig, MassLog],
) -> None:
    out = Path(done[0].out)
    assert {path.name for path in out.glob("ids*")} == {"ids", "ids-random"}, "unused ones not made"
    for ids, arms in (
        ("ids", ("causal-ntp", "causal-soft_ce-0.5")),
        ("ids-random", ("causal@random-ntp", "causal@random-soft_ce-0.5")),
    ):
        content = SemanticIds.load(out / ids).provenance.content
        for arm in arms:
            for seed in (0, 1):
                inputs = Provenance.read(out / f"{arm}-{seed}").inputs
                assert inputs["semantic_ids"] == content


def test_the_mass_is_computed_once_a_scheme_and_seed_and_not_kept_beside_the_next(
    done: tuple[CompareConfig, MassLog],
) -> None:
    out = Path(done[0].out)
    slots = {
        ids: max(
            level["max_children"] for level in id_quality(SemanticIds.load(out / ids))["levels"]
        )
        for ids in ("ids-random", "ids")
    }
    assert slots["ids"] != slots["ids-random"]
    assert done[1] == [slots["ids-random"], slots["ids"]] * 2


def test_an_arm_does_as_well_as_in_a_comparison_of_its_scheme_alone(
    done: tuple[CompareConfig, MassLog], tmp_path: Path
) -> None:
    config = done[0]
    alone = dataclasses.replace(
        config,
        out=str(tmp_path / "alone"),
        teachers=str(Path(config.out) / "teachers"),
        ids=RANDOM,
        schemes={},
        arms=("causal:soft_ce:0.5",),
    )
    run_comparison(alone)
    expected = metrics(config.out, "Causal@random+TCA soft_ce alpha=0.5")
    assert metrics(alone.out, "Causal+TCA soft_ce alpha=0.5") == expected


def test_the_report_lists_sizes_collisions_and_use_of_codes_by_scheme(
    done: tuple[CompareConfig, MassLog],
) -> None:
    out = Path(done[0].out)
    found = read(out)
    ids = SemanticIds.load(out / "ids")
    sizes = "x".join(map(str, ids.sizes))
    assert found["settings"]["ids"] == f"random: random, sizes 16x4; rqkmeans, sizes {sizes}"
    cards = {card["name"]: card for card in found["schemes"]}
    assert list(cards) == ["random", None]
    for name, folder in (("random", "ids-random"), (None, "ids")):
        quality = id_quality(SemanticIds.load(out / folder))
        assert {key: cards[name][key] for key in quality} == quality
    assert cards["random"]["collisions"]["strategy"] == "keep"
    before = ids.provenance.config["collisions"]["colliding_items"]
    used = ", ".join(f"{level['utilisation']:.1%}" for level in cards[None]["levels"])
    line = f"| — | rqkmeans | {sizes} | extra_level | {before} | 0 | {used} |"
    assert before > 0
    assert line in (out / "comparison.md").read_text().splitlines()


def test_collisions_gain_only_by_id(done: tuple[CompareConfig, MassLog]) -> None:
    out = Path(done[0].out)
    ids = SemanticIds.load(out / "ids-random")
    assert len(ids.codes.unique(dim=0)) < len(ids.codes)
    shared = 0
    for row in read(out)["rows"]:
        by_id = [one["by_id"] for one in row["evaluations"] if "by_id" in one]
        assert len(by_id) == (len(row["seeds"]) if "@random" in row["arm"] else 0)
        for policy, metrics in row["metrics"].items():
            for metric, item in metrics.items():
                means = [values[policy][metric] for values in by_id]
                assert not means or np.mean(means) >= item["mean"]
                shared += bool(means) and np.mean(means) > item["mean"]
    assert shared > 0
    assert "## By item and by ID" in (out / "comparison.md").read_text()


def test_going_on_trains_what_is_missing_with_the_mass_of_its_scheme_alone(
    done: tuple[CompareConfig, MassLog], masses: MassLog, tmp_path: Path
) -> None:
    config = dataclasses.replace(done[0], out=str(tmp_path / "out"))
    out = Path(shutil.copytree(done[0].out, config.out))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    shutil.rmtree(out / "causal@random-soft_ce-0.5-1")
    run_comparison(config)
    assert masses == done[1][:1]
    for row, expected in zip(read(out)["rows"], read(done[0].out)["rows"], strict=True):
        assert row["metrics"] == expected["metrics"]
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    changed = {path.parent.name for path in after if after[path] != before[path]}
    assert changed == {"causal@random-soft_ce-0.5-1"}


def test_another_scheme_under_the_same_name_is_another_comparison(
    done: tuple[CompareConfig, MassLog],
) -> None:
    other = dataclasses.replace(RANDOM, settings={"seed": 1})
    with pytest.raises(ValueError, match=r"other settings \(schemes.random.settings.seed\)"):
        run_comparison(dataclasses.replace(done[0], schemes={**TINY.schemes, "random": other}))


def test_ids_that_were_exchanged_are_not_taken_for_those_of_a_trained_arm(
    done: tuple[CompareConfig, MassLog], tmp_path: Path
) -> None:
    config = dataclasses.replace(done[0], out=str(tmp_path / "out"))
    out = Path(shutil.copytree(done[0].out, config.out))
    shutil.rmtree(out / "ids-random")
    shutil.copytree(out / "ids", out / "ids-random")
    with pytest.raises(ValueError, match=r"ids-random were made from other scheme than now"):
        run_comparison(config)


def test_an_arm_of_an_unknown_scheme_is_refused_with_the_way_out(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, out=str(tmp_path / "out"), arms=("causal@letter:ntp",))
    with pytest.raises(ValueError, match=r"out of those in schemes \(random, unused\), got 'lett"):
        run_comparison(config)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "a:b", "@a"])
def test_a_scheme_is_named_like_a_folder_and_unlike_an_arm(name: str) -> None:
    with pytest.raises(ValueError, match="schemes must have names of letters"):
        CompareConfig(schemes={name: IdsConfig()})


def test_schemes_stand_in_the_order_of_their_first_arms(tmp_path: Path) -> None:
    texts = ("causal@b:ntp", "causal:ntp", "causal@a:ntp", "causal@b:msl")
    arms = [Arm.parse(text, masked=True, tau=1.0) for text in texts]
    found = schemes_of(arms, KMEANS, {"a": RANDOM, "b": KMEANS, "c": KMEANS}, tmp_path)
    assert [(scheme.name, scheme.config, scheme.folder.name) for scheme in found] == [
        ("b", KMEANS, "ids-b"),
        (None, KMEANS, "ids"),
        ("a", RANDOM, "ids-a"),
    ]


@dataclass(kw_only=True, eq=False)
class Companions(SemanticIdTokenizer):
    """The signs of what the embeddings say about two of an item's collaborative dimensions."""

    codebook_sizes: tuple[int, ...] = (2, 2)
    fails: bool = False

    uses_cf: ClassVar[bool] = True
    given: ClassVar[list[Tensor]] = []

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        assert cf_embeddings is not None
        self.given.append(cf_embeddings)
        if self.fails:
            raise ValueError("these settings do not work")
        return {"map": torch.linalg.pinv(embeddings) @ cf_embeddings[:, :2]}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return (embeddings @ learned["map"] > 0).long()


@pytest.fixture
def given() -> Iterator[list[Tensor]]:
    """The collaborative vectors that ``Companions`` are fitted on."""
    yield Companions.given
    Companions.given.clear()


FRIENDS = IdsConfig(scheme=f"{__name__}:Companions", cf_embeddings="teacher", codebook_sizes=(2, 2))


def test_a_scheme_learns_from_the_item_vectors_of_the_first_seeds_teacher(
    shop: Path, tmp_path: Path, given: list[Tensor]
) -> None:
    out = tmp_path / "out"
    config = dataclasses.replace(
        TINY,
        data=str(shop),
        out=str(out),
        schemes={"friends": FRIENDS},
        arms=("causal@friends:ntp",),
        seeds=(1, 0),
    )
    run_comparison(config)
    dataset = load_dataset(shop)
    teacher, lineage = read_teacher(dataset, seed=1, folder=out / "teachers")
    expected = item_vectors(teacher, dataset, lineage)
    assert len(given) == 1
    np.testing.assert_array_equal(given[0].numpy(), expected.vectors)
    kept = Embeddings.load(out / "teacher_vectors")
    np.testing.assert_array_equal(kept.vectors, expected.vectors)
    assert kept.provenance.seen == dataset.splits.train_hash
    assert not (out / "ids").exists()

    before = (out / "ids-friends" / "semantic_ids.parquet").stat().st_mtime_ns
    run_comparison(config)
    assert len(given) == 1, "what is made is read"
    assert (out / "ids-friends" / "semantic_ids.parquet").stat().st_mtime_ns == before


def test_a_teacher_is_kept_where_ids_could_not_be_made_from_it(
    shop: Path, tmp_path: Path, given: list[Tensor]
) -> None:
    out = tmp_path / "out"
    config = dataclasses.replace(
        TINY,
        data=str(shop),
        out=str(out),
        ids=dataclasses.replace(FRIENDS, settings={"fails": True}),
        arms=("causal:ntp",),
        seeds=(0,),
    )
    with pytest.raises(ValueError, match="these settings do not work"):
        run_comparison(config)
    (trained,) = out.glob("teachers/*/model.safetensors")
    before = trained.stat().st_mtime_ns
    assert {path.name for path in out.iterdir()} == {"embeddings", "teachers", "teacher_vectors"}
    run_comparison(dataclasses.replace(config, ids=FRIENDS))
    assert trained.stat().st_mtime_ns == before
    torch.testing.assert_close(given[0], given[1])


def test_ids_that_learned_from_test_targets_are_refused(
    shop: Path, tmp_path: Path, given: list[Tensor]
) -> None:
    dataset = load_dataset(shop)
    leaked = Embeddings.of(
        np.eye(32, dtype=np.float32), dataset.catalog, seen=dataset.splits.test.content_hash()
    )
    leaked.save(tmp_path / "leaked")
    config = dataclasses.replace(
        TINY,
        data=str(shop),
        out=str(tmp_path / "out"),
        schemes={"friends": dataclasses.replace(FRIENDS, cf_embeddings=str(tmp_path / "leaked"))},
        arms=("causal@friends:ntp",),
        seeds=(0,),
    )
    with pytest.raises(ProvenanceError, match="interactions that the semantic ids friends have"):
        run_comparison(config)
    assert len(given) == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["embeddings"]
