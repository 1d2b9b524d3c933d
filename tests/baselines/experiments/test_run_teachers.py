"""The teachers of a comparison, and the distributions that are computed from them once."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from tiny_comparison import TINY, results, trained

from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison
from baselines.teachers.config import MassConfig, TeacherConfig
from baselines.training.config import TrainingConfig
from semid.provenance import Provenance, ProvenanceError
from semid.settings import as_json


def test_teachers_are_shared_between_comparisons(done: CompareConfig, tmp_path: Path) -> None:
    teachers = str(Path(done.out) / "teachers")
    times = trained(teachers)
    other = dataclasses.replace(
        done,
        out=str(tmp_path / "other"),
        teachers=teachers,
        arms=("tiger:soft_ntp:0.1",),
        seeds=(0,),
    )
    run_comparison(other)
    assert trained(teachers) == times
    assert not (tmp_path / "other" / "teachers").exists()
    assert results(other.out)["rows"][-1]["arm"] == "TIGER+TCA soft_ntp alpha=0.1"


def mass_files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("mass-*/mass.npy")}


def test_the_teachers_mass_is_computed_once_for_all_arms_and_comparisons(
    done: CompareConfig, tmp_path: Path
) -> None:
    written = mass_files(Path(done.out) / "mass")
    assert len(written) == 2, "one a seed"
    other = dataclasses.replace(
        done,
        out=str(tmp_path / "other"),
        teachers=str(Path(done.out) / "teachers"),
        mass_cache=str(Path(done.out) / "mass"),
        arms=("causal:soft_ce:0.5", "tiger:soft_ntp:0.1"),
    )
    run_comparison(other)
    assert mass_files(Path(done.out) / "mass") == written
    assert not (tmp_path / "other" / "mass").exists()
    rows = [
        next(row for row in results(out)["rows"] if row["arm"] == "Causal+TCA soft_ce alpha=0.5")
        for out in (done.out, other.out)
    ]
    assert rows[0]["metrics"] == rows[1]["metrics"]


def test_another_temperature_masking_and_best_items_have_their_own_mass(
    done: CompareConfig, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    base = dataclasses.replace(
        done,
        teachers=str(Path(done.out) / "teachers"),
        mass_cache=str(cache),
        arms=("causal:soft_ce:0.5",),
        seeds=(0,),
    )
    for number, changes in enumerate(
        (
            {"temperature": 2.0},
            {"mass": MassConfig(mask_history=True)},
            {"mass": MassConfig(top_k=5)},
        )
    ):
        out = tmp_path / str(number)
        run_comparison(dataclasses.replace(base, out=str(out), **changes))
        assert len(mass_files(cache)) == number + 1
        record = json.loads((out / "causal-soft_ce-0.5-0" / "provenance.json").read_text())
        mass = changes.get("mass", MassConfig())
        expected = as_json(dataclasses.replace(mass, labels="in_sample"))
        assert record["config"]["mass"] == expected
        assert record["config"]["temperature"] == changes.get("temperature", 1.0)


def test_more_best_items_than_the_catalogue_has_are_refused_before_anything_is_trained(
    shop: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        TINY, data=str(shop), out=str(tmp_path / "out"), mass=MassConfig(top_k=33)
    )
    with pytest.raises(ValueError, match="top_k must be at most the 32 items"):
        run_comparison(config)
    assert not (tmp_path / "out").exists()


def test_a_teacher_that_has_learned_nothing_cannot_be_calibrated(
    done: CompareConfig, tmp_path: Path
) -> None:
    teachers = str(Path(done.out) / "teachers")
    config = dataclasses.replace(
        done, out=str(tmp_path / "out"), teachers=teachers, temperature="auto"
    )
    with pytest.raises(ValueError, match=r"Give a temperature instead of auto\."):
        run_comparison(config)


def test_a_calibrated_temperature_is_that_of_each_seeds_teacher(
    done: CompareConfig, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        done,
        out=str(tmp_path / "out"),
        teachers=str(tmp_path / "teachers"),
        teacher_training=TrainingConfig(epochs=12, patience=12, lr=0.02),
        temperature="auto",
        arms=("causal:ntp", "causal:soft_ce:0.5"),
    )
    run_comparison(config)
    found = sorted(
        json.loads(path.read_text())["temperature"]
        for path in (tmp_path / "teachers").glob("temperature-*/calibration.json")
    )
    assert len(set(found)) == 2
    rows = {row["arm"]: row["evaluations"] for row in results(config.out)["rows"]}
    used = [own["teacher_temperature"] for own in rows["Causal+TCA soft_ce alpha=0.5"]]
    assert sorted(used) == found
    assert all("teacher_temperature" not in own for own in rows["Causal ntp"])
    assert results(config.out)["settings"]["teacher temperature"] == "auto"
    for seed, temperature in zip(config.seeds, used, strict=True):
        folder = tmp_path / "out" / f"causal-soft_ce-0.5-{seed}"
        record = json.loads((folder / "provenance.json").read_text())
        assert record["config"]["temperature"] == temperature


def test_the_teachers_row_says_which_teacher_it_is(shop: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY,
        data=str(shop),
        out=str(tmp_path / "out"),
        arms=("causal:soft_ce:0.5",),
        seeds=(0,),
        teacher=TeacherConfig(model="itemknn"),
    )
    (teacher,) = (row for row in run_comparison(config).rows if row.role == "teacher")
    assert (teacher.arm, teacher.role, teacher.parameters) == ("item-kNN (teacher)", "teacher", 0)
    (folder,) = (tmp_path / "out" / "teachers").glob("itemknn-*")
    assert folder.name.startswith("itemknn-0-")


def test_a_teacher_of_other_data_is_not_taken(done: CompareConfig, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done.out, tmp_path / "out"))
    record = next(out.glob("teachers/sasrec-0-*")) / "provenance.json"
    dataclasses.replace(Provenance.read(record.parent), seen="0" * 64).write(record.parent)
    with pytest.raises(ProvenanceError, match=r"the model in .* does not match"):
        run_comparison(dataclasses.replace(done, out=str(out)))


def test_twins_that_differ_in_their_labels_are_measured_against_each_other(
    shop: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        TINY,
        data=str(shop),
        out=str(tmp_path / "out"),
        teacher=TeacherConfig(model="rules"),
        arms=("causal:ntp", "causal:soft_ce:0.5:labelled=in_sample", "causal:soft_ce:0.5"),
        seeds=(0,),
        counted=False,
    )
    run_comparison(config)
    plain, in_sample, honest = (
        "Causal ntp",
        "Causal+TCA soft_ce alpha=0.5 labelled=in_sample",
        "Causal+TCA soft_ce alpha=0.5",
    )
    found = {(one["arm"], one["reference"]) for one in results(config.out)["differences"]}
    arms = {plain, in_sample, honest}
    among_arms = {pair for pair in found if set(pair) <= arms}
    assert among_arms == {(in_sample, plain), (honest, plain), (honest, in_sample)}
