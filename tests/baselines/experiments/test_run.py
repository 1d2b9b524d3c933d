"""The main job: same settings, same table, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import shutil
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.cli import main
from baselines.data.loading import load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.evaluation.config import EvaluationConfig
from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison
from baselines.models.config import BackboneConfigs
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import MassConfig, SASRecConfig, TeacherConfig
from baselines.training.config import TrainingConfig
from semid.config import IdsConfig
from semid.embed import Embeddings
from semid.ids import SemanticIds
from semid.provenance import Provenance, ProvenanceError
from semid.tokenizers import SemanticIdTokenizer

ENCODER = EncoderConfig(dim=8, num_layers=1, num_heads=1, ff_dim=8)
TINY = CompareConfig(
    ids=IdsConfig(codebook_sizes=(4, 4)),
    arms=("causal:ntp", "causal:soft_ce:0.5"),
    seeds=(0, 1),
    teacher=TeacherConfig(sasrec=SASRecConfig(max_history=9, encoder=ENCODER)),
    teacher_training=TrainingConfig(epochs=2, precision="fp32"),
    backbones=BackboneConfigs(
        tiger=TigerConfig(num_layers=1, dim=8, num_heads=1, head_dim=8, ff_dim=8, max_history=4),
        causal=CausalConfig(max_history=9, encoder=ENCODER),
    ),
    training=TrainingConfig(epochs=2, precision="fp32"),
    evaluation=EvaluationConfig(beam=10, validation_beam=5, validation_targets=20),
    resamples=20,
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shop"
    write_plain_layout(synthetic_dataset(num_users=40, num_items=32, num_categories=2), folder)
    return folder


@pytest.fixture(scope="module")
def done(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    """The settings of a comparison that is finished."""
    out = tmp_path_factory.mktemp("runs") / "done"
    config = dataclasses.replace(TINY, data=str(shop), out=str(out))
    run_comparison(config)
    return config


def results(out: str | Path) -> dict[str, Any]:
    """All that ``comparison.json`` says except how long things took."""
    found: dict[str, Any] = json.loads((Path(out) / "comparison.json").read_text())
    for row in found["rows"]:
        del row["train_seconds"]
        for evaluation in row["evaluations"]:
            for name in [name for name in evaluation if name.endswith("seconds")]:
                del evaluation[name]
    return found


def trained(out: str | Path) -> dict[Path, int]:
    """When each model below a folder was written."""
    return {path: path.stat().st_mtime_ns for path in Path(out).rglob("model.safetensors")}


def test_rows_are_floor_teacher_and_arms_with_all_seeds(done: CompareConfig) -> None:
    rows = results(done.out)["rows"]
    assert [(row["arm"], row["role"], row["seeds"]) for row in rows] == [
        ("Popularity", "reference", [None]),
        ("SASRec ce (teacher)", "teacher", [0, 1]),
        ("Causal ntp", "arm", [0, 1]),
        ("Causal+TCA soft_ce alpha=0.5", "arm", [0, 1]),
    ]
    assert all(set(row["metrics"]) == {"removed", "kept"} for row in rows)
    assert [row["consistency"] is None for row in rows] == [True, True, False, False]


def test_every_result_names_what_it_depends_on(done: CompareConfig) -> None:
    settings = results(done.out)["settings"]
    assert settings["split"] == "leave_one_out"
    assert settings["candidates"] == "the whole catalogue"
    assert settings["ids"].startswith("rqkmeans, sizes 4x4")
    assert (settings["beam"], settings["ties"], settings["seeds"]) == (10, "expected", [0, 1])


def test_every_users_results_are_stored_under_both_policies(done: CompareConfig) -> None:
    table = pl.read_parquet(Path(done.out) / "per_user.parquet")
    found = results(done.out)
    mean = table.filter(pl.col("arm") == "Causal ntp", pl.col("policy") == "kept")["N@10"].mean()
    row = next(row for row in found["rows"] if row["arm"] == "Causal ntp")
    assert mean == pytest.approx(row["metrics"]["kept"]["N@10"]["mean"])
    assert set(table["policy"].unique()) == {"removed", "kept"}


def test_every_arm_has_a_certificate_of_its_search(done: CompareConfig) -> None:
    rows = {row["arm"]: row["evaluations"] for row in results(done.out)["rows"]}
    for arm in ("Causal ntp", "Causal+TCA soft_ce alpha=0.5"):
        for evaluation in rows[arm]:
            assert evaluation["certificate"]["illegal"] == 0
            recall = evaluation["certificate"]["recall"]
            assert recall[str(evaluation["certificate"]["beam"])] > 0
            assert list(recall.values()) == sorted(recall.values()), "a wider beam finds more"
    assert "certificate" not in rows["Popularity"][0]
    page = (Path(done.out) / "comparison.md").read_text()
    assert page.count(", 0.000 illegal |") == 4


def test_the_same_seeds_give_the_same_table(done: CompareConfig, tmp_path: Path) -> None:
    run_comparison(dataclasses.replace(done, out=str(tmp_path / "again")))
    assert results(tmp_path / "again") == results(done.out)


def test_another_seed_gives_another_table(done: CompareConfig, tmp_path: Path) -> None:
    run_comparison(dataclasses.replace(done, out=str(tmp_path / "other"), seeds=(2,)))
    assert results(tmp_path / "other")["rows"][1:] != results(done.out)["rows"][1:]


def test_going_on_trains_only_what_is_missing(done: CompareConfig) -> None:
    before, times = results(done.out), trained(done.out)
    assert len(times) == 6
    lost = Path(done.out) / "causal-soft_ce-0.5-1"
    shutil.rmtree(lost)
    (Path(done.out) / "comparison.json").unlink()
    run_comparison(done)
    assert results(done.out) == before
    changed = {path.parent for path, time in trained(done.out).items() if times[path] != time}
    assert changed == {lost}


def test_more_resamples_retrain_nothing(done: CompareConfig) -> None:
    times = trained(done.out)
    run_comparison(dataclasses.replace(done, resamples=40))
    assert results(done.out)["statistics"]["resamples"] == 40
    run_comparison(done)
    assert trained(done.out) == times


def test_other_metrics_and_cutoffs_on_a_finished_folder_retrain_nothing(
    done: CompareConfig,
) -> None:
    times, before = trained(done.out), results(done.out)
    ranks = {path: path.stat().st_mtime_ns for path in Path(done.out).rglob("test*.safetensors")}
    assert ranks
    evaluation = dataclasses.replace(
        done.evaluation, metrics=("ndcg", "recall", "coverage"), cutoffs=(7, 10)
    )
    run_comparison(dataclasses.replace(done, evaluation=evaluation))
    found = results(done.out)
    assert trained(done.out) == times
    assert {path: path.stat().st_mtime_ns for path in ranks} == ranks
    for row, known in zip(found["rows"], before["rows"], strict=True):
        values = row["metrics"]["removed"]
        assert list(values) == ["N@7", "N@10", "R@7", "R@10"]
        assert values["N@10"] == known["metrics"]["removed"]["N@10"]
        assert values["N@7"]["mean"] <= values["N@10"]["mean"]
        assert list(row["evaluations"][0]["lists"]) == ["coverage@7", "coverage@10"]
    assert {one["metric"] for one in found["differences"]} == {"N@7", "N@10", "R@7", "R@10"}
    table = pl.read_parquet(Path(done.out) / "per_user.parquet")
    assert table.columns == ["user", "arm", "seed", "policy", "N@7", "N@10", "R@7", "R@10"]
    assert "## Lists" in (Path(done.out) / "comparison.md").read_text()
    run_comparison(done)
    assert results(done.out) == before


def test_an_objective_of_ones_own_is_an_arm(
    done: CompareConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_objective.py").write_text(
        "from tca.losses import soft_ce\n\n\ndef doubled(*args):\n    return 2 * soft_ce(*args)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    arms = ("causal:ntp", "causal:own_objective:doubled:0.5")
    config = dataclasses.replace(done, out=str(tmp_path / "run"), seeds=(0,), arms=arms)
    found = run_comparison(config)
    assert [row.arm for row in found.rows[2:]] == [
        "Causal ntp",
        "Causal+TCA own_objective:doubled alpha=0.5",
    ]
    folder = tmp_path / "run" / "causal-own_objective.doubled-0.5-0"
    assert Provenance.read(folder).config["objective"]["name"] == "own_objective:doubled"
    absent = dataclasses.replace(config, out=str(tmp_path / "no"), arms=("causal:absent:loss:0.5",))
    with pytest.raises(ValueError, match="expected an importable objective"):
        run_comparison(absent)
    assert not (tmp_path / "no" / "config.json").exists()


def test_a_metric_that_selects_is_part_of_every_model(done: CompareConfig, tmp_path: Path) -> None:
    evaluation = dataclasses.replace(done.evaluation, selected_by="recall@3")
    with pytest.raises(ValueError, match=r"other settings \(evaluation.selected_by\)"):
        run_comparison(dataclasses.replace(done, evaluation=evaluation))
    config = dataclasses.replace(done, out=str(tmp_path), seeds=(0,), evaluation=evaluation)
    found = run_comparison(config)
    assert found.settings["checkpoint chosen by"].startswith("validation R@3, beam 5")
    teacher = next(row for row in found.rows if row.role == "teacher")
    assert "validation_R@3" in teacher.evaluations[0]
    for folder in ("causal-ntp-0", *(path.name for path in (tmp_path / "teachers").iterdir())):
        path = tmp_path / folder if folder.startswith("causal") else tmp_path / "teachers" / folder
        assert "recall@3" in json.dumps(Provenance.read(path).config)
    before = trained(tmp_path)
    run_comparison(config)
    assert trained(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--evaluation.cutoffs", "5,0"], "cutoffs must be a whole number of at least 1, got 0"),
        (["--evaluation.metrics", "recall,ndgc"], "got 'ndgc'. Did you mean ndcg?"),
        (["--evaluation.metrics", "absent:Metric"], "expected an importable metric"),
        (["--evaluation.selected_by", "ndcg@x"], "selected_by must be a metric and a cutoff"),
    ],
)
def test_metrics_that_do_not_exist_are_refused_in_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "--out", str(tmp_path / "none"), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not (tmp_path / "none").exists()


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
        expected = dataclasses.asdict(changes.get("mass", MassConfig()))
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


def test_a_folder_goes_on_with_batches_in_parts(done: CompareConfig) -> None:
    training = dataclasses.replace(done.training, accumulate=2)
    teacher = dataclasses.replace(done.teacher_training, accumulate=2)
    before = results(done.out)["rows"]
    run_comparison(dataclasses.replace(done, training=training, teacher_training=teacher))
    assert results(done.out)["rows"] == before, "nothing is trained again"


def test_a_folder_of_another_comparison_is_refused_and_left_alone(done: CompareConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(done.out).rglob("*")}
    with pytest.raises(ValueError, match=r"other settings \(tau, temperature\)"):
        run_comparison(dataclasses.replace(done, tau=0.5, temperature=2.0))
    assert {path: path.stat().st_mtime_ns for path in Path(done.out).rglob("*")} == before


@pytest.mark.parametrize("changed", ["the last test target", "the order of the items"])
def test_data_that_changed_since_is_refused(changed: str, shop: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(shop, tmp_path / "shop"))
    config = dataclasses.replace(
        TINY, data=str(data), out=str(tmp_path / "out"), arms=("causal:ntp",), seeds=(0,)
    )
    run_comparison(config)
    if changed == "the last test target":
        events = pl.read_parquet(data / "interactions.parquet")
        items = events["item_id"].to_list()
        items[-1] = next(item for item in range(1, 33) if item not in items[-10:])
        events.with_columns(item_id=pl.Series(items)).write_parquet(data / "interactions.parquet")
    else:
        pl.read_parquet(data / "items.parquet").reverse().write_parquet(data / "items.parquet")
    with pytest.raises(ValueError, match="begun on other data"):
        run_comparison(config)


def test_the_teachers_row_says_which_teacher_it_is(shop: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(
        TINY,
        data=str(shop),
        out=str(tmp_path / "out"),
        arms=("causal:soft_ce:0.5",),
        seeds=(0,),
        teacher=TeacherConfig(model="itemknn"),
    )
    teacher = run_comparison(config).rows[1]
    assert (teacher.arm, teacher.role, teacher.parameters) == ("item-kNN (teacher)", "teacher", 0)
    (folder,) = (tmp_path / "out" / "teachers").iterdir()
    assert folder.name.startswith("itemknn-0-")


def test_a_teacher_of_other_data_is_not_taken(done: CompareConfig, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done.out, tmp_path / "out"))
    record = next(out.glob("teachers/sasrec-0-*")) / "provenance.json"
    dataclasses.replace(Provenance.read(record.parent), seen="0" * 64).write(record.parent)
    with pytest.raises(ProvenanceError, match=r"the model in .* does not match"):
        run_comparison(dataclasses.replace(done, out=str(out)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": ()}, "at least one arm and one seed"),
        ({"seeds": ()}, "at least one arm and one seed"),
        ({"seeds": (1, 1)}, "every seed once"),
        ({"arms": ("tiger:soft_ce:0.5", "tiger:soft_ce:.50")}, "every arm once"),
        ({"data": "nowhere"}, "no folder nowhere"),
        ({"ids": IdsConfig(scheme="nothing")}, "expected a tokenizer out of"),
    ],
)
def test_what_cannot_be_run_leaves_no_folder(
    changes: dict[str, Any], message: str, shop: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(TINY, data=str(shop), out=str(tmp_path / "out"))
    with pytest.raises((ValueError, OSError), match=message):
        run_comparison(dataclasses.replace(config, **changes))
    assert not (tmp_path / "out").exists()


def test_a_folder_is_free_again_after_ids_that_could_not_be_made(
    shop: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        TINY, data=str(shop), out=str(tmp_path / "out"), arms=("causal:ntp",), seeds=(0,)
    )
    with pytest.raises(ValueError, match="at least as many distinct items"):
        run_comparison(dataclasses.replace(config, ids=IdsConfig(codebook_sizes=(4096,))))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["embeddings"]
    run_comparison(config)


@dataclasses.dataclass(kw_only=True, eq=False)
class CollaborativeSigns(SemanticIdTokenizer):
    codebook_sizes: tuple[int, ...] = (2,)
    uses_cf = True

    def _fit(self, embeddings: Tensor, cf_embeddings: Tensor | None) -> dict[str, Tensor]:
        assert cf_embeddings is not None
        return {"map": embeddings.T @ cf_embeddings}

    def _encode(self, embeddings: Tensor, learned: dict[str, Tensor]) -> Tensor:
        return (embeddings @ learned["map"][:, : len(self.codebook_sizes)] > 0).long()


def test_ids_that_have_seen_more_than_the_training_part_are_refused(
    shop: Path, tmp_path: Path
) -> None:
    dataset = load_dataset(str(shop))
    vectors = np.random.default_rng(0).normal(size=(len(dataset.catalog), 3))
    cf = Embeddings.of(vectors, dataset.catalog)
    ids = IdsConfig(
        scheme=f"{__name__}:CollaborativeSigns",
        codebook_sizes=(2, 2),
        cf_embeddings=str(tmp_path / "cf"),
    )
    config = dataclasses.replace(
        TINY, data=str(shop), out=str(tmp_path / "out"), ids=ids, arms=("causal:ntp",), seeds=(0,)
    )
    for seen in ("all interactions", dataset.splits.train_hash):
        provenance = dataclasses.replace(cf.provenance, seen=seen)
        dataclasses.replace(cf, provenance=provenance).save(tmp_path / "cf")
        if seen == "all interactions":
            with pytest.raises(ProvenanceError, match="semantic ids have seen"):
                run_comparison(config)
        else:
            run_comparison(config)
            assert SemanticIds.load(tmp_path / "out" / "ids").provenance.seen == seen


@pytest.mark.parametrize(
    "values", [{"temperature": 0.0}, {"temperature": math.nan}, {"resamples": 0}]
)
def test_settings_out_of_range_are_refused_before_any_work(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))} must be"):
        CompareConfig(**values)


@pytest.fixture(scope="module")
def loaded() -> ForkServerContext:
    """Starts processes from one that has loaded what the command needs and does nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["baselines.cli", "transformers.models.t5.modeling_t5"])
    return context


def compare_alone(threads: int) -> None:
    """Compare in a process of one's own."""
    torch.set_num_threads(threads)
    sys.exit(main(["compare", "--config", "settings.yaml"]))


def kill_once(context: ForkServerContext, reached: Callable[[], bool]) -> None:
    """Start a comparison and end it with SIGKILL the moment a stage is reached."""
    process = context.Process(target=compare_alone, args=(torch.get_num_threads(),))
    process.start()
    try:
        deadline = time.monotonic() + 120
        while not reached():
            assert process.is_alive(), f"ended with {process.exitcode}"
            assert time.monotonic() < deadline, "the stage was never reached"
            time.sleep(0.005)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()


@pytest.mark.slow
def test_killed_at_any_stage_the_same_command_ends_with_the_same_table(
    loaded: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    world = synthetic_dataset(num_users=300, num_items=96, num_categories=4)
    write_plain_layout(world, tmp_path / "shop")
    settings = {
        "data": "shop",
        "out": "killed",
        "ids": {"scheme": "rqvae", "codebook_sizes": [8, 8], "settings": {"epochs": 100}},
        "arms": ["tiger:ntp", "causal:soft_ce:0.5"],
        "seeds": [0],
        "teacher_training": {"epochs": 3, "batch_events": 128, "precision": "fp32"},
        "backbones": {
            "tiger": {"num_layers": 1, "dim": 16, "num_heads": 2, "head_dim": 8, "ff_dim": 32}
        },
        "training": {"epochs": 3, "batch_events": 640, "precision": "fp32"},
        "evaluation": {"beam": 10, "validation_targets": 100},
        "resamples": 20,
    }
    (tmp_path / "settings.yaml").write_text(json.dumps(settings))
    killed = tmp_path / "killed"

    def any_file(pattern: str) -> Callable[[], bool]:
        return lambda: next(killed.glob(pattern), None) is not None

    kill_once(loaded, any_file("embeddings/*/provenance.json"))
    assert not (killed / "ids").exists(), "killed while the tokenizer is fitted"
    kill_once(loaded, any_file("teachers/*/checkpoint.safetensors"))
    assert not any_file("teachers/*/state.json")(), "killed while the teacher trains"
    kill_once(loaded, any_file("tiger-ntp-0/checkpoint.safetensors"))
    assert not (killed / "tiger-ntp-0" / "state.json").exists(), "killed while TIGER trains"
    teacher = trained(killed / "teachers")

    assert main(["compare", "--config", "settings.yaml"]) == 0
    assert main(["compare", "--config", "settings.yaml", "--out", "undisturbed"]) == 0
    assert trained(killed / "teachers") == teacher, "what was finished is not trained again"
    assert results(killed) == results(tmp_path / "undisturbed")
