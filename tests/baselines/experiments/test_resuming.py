"""A comparison goes on: killed at any stage, with another number of resamples, or refused."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import shutil
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import polars as pl
import pytest
import torch
from tiny_comparison import TINY, results, trained

from baselines.cli import main
from baselines.data.loading import write_plain_layout
from baselines.data.synthetic import synthetic_dataset
from baselines.experiments.config import CompareConfig
from baselines.experiments.run import run_comparison


def test_going_on_trains_only_what_is_missing(done: CompareConfig) -> None:
    before, times = results(done.out), trained(done.out)
    assert len(times) == 9, "of two seeds, and three counted"
    lost = Path(done.out) / "causal-soft_ce-0.5-1"
    shutil.rmtree(lost)
    (Path(done.out) / "comparison.json").unlink()
    run_comparison(done)
    assert results(done.out) == before
    changed = {path.parent for path, time in trained(done.out).items() if times[path] != time}
    assert changed == {lost}


def test_resamples_of_older_settings_are_read_and_change_nothing(done: CompareConfig) -> None:
    times, before = trained(done.out), results(done.out)
    run_comparison(dataclasses.replace(done, resamples=40))
    assert results(done.out) == before
    run_comparison(done)
    assert trained(done.out) == times


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
    kill_once(loaded, any_file("teachers/sasrec-*/checkpoint.safetensors"))
    assert not any_file("teachers/sasrec-*/state.json")(), "killed while the teacher trains"
    kill_once(loaded, any_file("tiger-ntp-0/checkpoint.safetensors"))
    assert not (killed / "tiger-ntp-0" / "state.json").exists(), "killed while TIGER trains"
    teacher = trained(killed / "teachers")

    assert main(["compare", "--config", "settings.yaml"]) == 0
    assert main(["compare", "--config", "settings.yaml", "--out", "undisturbed"]) == 0
    assert trained(killed / "teachers") == teacher, "what was finished is not trained again"
    assert results(killed) == results(tmp_path / "undisturbed")
