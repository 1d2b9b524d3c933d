"""Results are bound to what they were made from: what was changed is never in a table."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from baselines import training
from baselines.cli import main
from baselines.experiments.claim import claimed
from semid.provenance import hash_arrays

ENCODER = {"dim": 8, "num_layers": 1, "num_heads": 1, "ff_dim": 8}
SETTINGS: dict[str, Any] = {
    "data": "synthetic:40x32",
    "arms": ["causal:ntp", "causal:soft_ce:0.5"],
    "seeds": [0],
    "ids": {"scheme": "rqkmeans", "codebook_sizes": [4, 4]},
    "teacher": {"model": "sasrec", "sasrec": {"max_history": 9, "encoder": ENCODER}},
    "teacher_training": {"epochs": 1, "precision": "fp32"},
    "training": {"epochs": 2, "precision": "fp32"},
    "backbones": {"causal": {"max_history": 9, "encoder": ENCODER}},
    "evaluation": {"beam": 10, "validation_beam": 5, "validation_targets": 20, "certified": 2},
    "fusion": {"arms": ["all"], "weights": [0.3, 0.7]},
    "resamples": 20,
}
NTP, SOFT = "causal-ntp-0", "causal-soft_ce-0.5-0"


def compare(out: Path, **changes: Any) -> int:
    settings = out.with_name(f"{out.name}.json")
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({**SETTINGS, **changes}))
    return main(["compare", "--config", str(settings), "--out", str(out)])


def table(out: Path) -> Any:
    text = (out / "comparison.json").read_text()
    return json.loads(re.sub(r'"\w*seconds\w*": [\d.]+', '"seconds": 0', text))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("lineage") / "run"
    assert compare(out) == 0
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def scale(path: Path) -> None:
    """Three times every number, under the metadata of the time."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({k: v * 3 for k, v in load_file(path).items()}, path, metadata=metadata)


def test_ranks_of_another_arm_are_not_taken(run: Path, finished: Path) -> None:
    shutil.copy(run / SOFT / "test.safetensors", run / NTP)
    shutil.copy(run / SOFT / "test.json", run / NTP)
    for fused in (run / SOFT).glob("fused-*"):
        shutil.copytree(fused, run / NTP / fused.name, dirs_exist_ok=True)
    assert compare(run) == 0
    assert table(run) == table(finished)


@pytest.mark.parametrize("name", ["test.safetensors", "model.safetensors"])
def test_scaled_numbers_are_refused_and_the_cure_that_is_named_works(
    run: Path, finished: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    scale(run / NTP / name)
    assert compare(run) == 2
    said = capsys.readouterr().err
    assert f"{run / NTP / name} was changed after it was written" in said
    if name == "test.safetensors":
        assert "Remove it" in said
        (run / NTP / name).unlink()
    else:
        assert f"Remove {run / NTP} to train again" in said
        shutil.rmtree(run / NTP)
    assert compare(run) == 0
    assert table(run) == table(finished)


@pytest.mark.parametrize(
    ("name", "text", "cure"),
    [
        (f"{NTP}/test.json", "", "Remove it"),
        (f"{NTP}/state.json", "{}", "Remove .* to train again"),
        (f"{NTP}/state.json", "[]", "Remove .* to train again"),
        (f"{NTP}/provenance.json", None, "Remove .* and run the command that made it again"),
        ("config.json", "", "Remove it and run the same command again"),
        ("config.json", "[]", "Remove it and run the same command again"),
        ("data.json", '{"name', "Remove it and run the same command again"),
    ],
)
def test_a_damaged_record_is_one_line_with_its_name_and_a_cure_that_works(
    run: Path,
    finished: Path,
    name: str,
    text: str | None,
    cure: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = run / name
    path.unlink() if text is None else path.write_text(text)
    assert compare(run) == 2
    said = capsys.readouterr().err
    assert str(path.parent if text is None else path) in said
    assert re.search(cure, said)
    assert len(said.strip().splitlines()) == 1
    shutil.rmtree(path.parent) if path.parent != run else path.unlink()
    assert compare(run) == 0
    assert table(run) == table(finished)


def test_results_without_a_seal_are_made_again_and_weights_are_kept(
    run: Path, finished: Path
) -> None:
    """As version 0.1 wrote them."""
    for path in run.rglob("*.json"):
        values = json.loads(path.read_text())
        values.pop("seal", None)
        values.pop("files", None)
        path.write_text(json.dumps(values))
    for path in run.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            metadata = {k: v for k, v in (file.metadata() or {}).items() if k != "seal"}
        save_file(load_file(path), path, metadata=metadata)
    weights = {path: path.read_bytes() for path in run.rglob("model.safetensors")}
    ranks = run / NTP / "test.safetensors"
    save_file({k: v * 0 for k, v in load_file(ranks).items()}, ranks, metadata={"seconds": "1"})
    assert compare(run) == 0
    assert table(run) == table(finished)
    assert weights == {path: path.read_bytes() for path in weights}


def test_weights_of_a_checkpoint_that_were_changed_are_refused(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = training._save_checkpoint, []

    def stop(folder: Path, *arguments: Any, **more: Any) -> None:
        save(folder, *arguments, **more)
        saved.append(folder.name)
        if saved.count(SOFT) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_save_checkpoint", stop)
        assert compare(tmp_path / "run") == 130
    for name in ("checkpoint.safetensors", "model.safetensors"):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        scale(tmp_path / "copy" / SOFT / name)
        assert compare(tmp_path / "copy") == 2
        shutil.rmtree(tmp_path / "copy")
    assert compare(tmp_path / "run") == 0
    assert table(tmp_path / "run") == table(finished)


def remake(run: Path) -> None:
    """Leave of a run only what its models are trained on."""
    for folder in [*run.glob("causal*"), run / "mass"]:
        shutil.rmtree(folder)


def test_ids_of_other_settings_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path / "other", ids={"scheme": "random", "codebook_sizes": [4, 4]}) == 0
    remake(run)
    shutil.rmtree(run / "ids")
    shutil.copytree(tmp_path / "other" / "ids", run / "ids")
    assert compare(run) == 2
    said = capsys.readouterr().err
    assert "other scheme than now: expected rqkmeans, got random" in said


def test_cached_vectors_of_something_else_are_made_again(run: Path, finished: Path) -> None:
    remake(run)
    shutil.rmtree(run / "ids")
    (cached,) = (run / "embeddings").iterdir()
    record = json.loads((cached / "provenance.json").read_text())
    record["inputs"] = {"texts": "of others"}
    for name in ("seal", "files"):
        del record[name]
    vectors = np.load(cached / "vectors.npy")[::-1].copy()
    np.save(cached / "vectors.npy", vectors)
    record["content"] = hash_arrays(vectors)
    (cached / "provenance.json").write_text(json.dumps(record))
    assert compare(run) == 0
    assert table(run) == table(finished)


def shop(folder: Path, word: str) -> None:
    folder.mkdir(exist_ok=True)
    items = range(10, 40)
    titles = [f"{word}{item % 3} beta{item % 4} g{item}" for item in items]
    pl.DataFrame({"item_id": items, "title": titles}).write_csv(folder / "items.csv")
    events = [(user, 10 + (user * 7 + at * 3) % 30, at) for user in range(20) for at in range(6)]
    columns = ["user_id", "item_id", "timestamp"]
    pl.DataFrame(events, schema=columns, orient="row").write_csv(folder / "interactions.csv")


def codes(path: Path, turn: int) -> None:
    path.write_text(
        json.dumps({str(i): [i * turn % 4, i // 4 % 4, i // 16] for i in range(10, 40)})
    )


def vectors(path: Path, seed: int) -> None:
    np.save(path, np.random.default_rng(seed).normal(size=(30, 6)).astype(np.float32))


@pytest.mark.parametrize("what", ["codes_file", "embeddings", "texts"])
def test_ids_whose_inputs_have_changed_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    changes: dict[str, tuple[dict[str, Any], Callable[[int], None]]] = {
        "codes_file": ({"scheme": "file:codes.json"}, lambda n: codes(Path("codes.json"), 1 + n)),
        "embeddings": (
            {"codebook_sizes": [4, 4], "embeddings": "items.npy"},
            lambda n: vectors(Path("items.npy"), n),
        ),
        "texts": ({"codebook_sizes": [4, 4]}, lambda n: shop(Path("shop"), f"word{n}")),
    }
    ids, change = changes[what]
    settings = {"data": "shop", "ids": ids, "arms": ["causal:ntp"], "fusion": {}}
    shop(Path("shop"), "alpha")
    change(0)
    assert compare(Path("run"), **settings) == 0
    whole = table(Path("run"))
    assert compare(Path("run"), **settings) == 0
    for folder in Path("run").glob("causal*"):
        shutil.rmtree(folder)
    change(2)
    assert compare(Path("run"), **settings) == 2
    said = capsys.readouterr().err
    assert f"the semantic ids in run/ids were made from other {what} than now" in said
    change(0)
    assert compare(Path("run"), **settings) == 0
    assert table(Path("run")) == whole


def test_what_a_killed_command_left_is_no_hindrance_and_goes(
    run: Path, tmp_path: Path, finished: Path
) -> None:
    for name in (".config.json.tmp-0123abcd", f"{NTP}/.checkpoint.safetensors.tmp-0123abcd"):
        (run / name).write_text("{")
        (tmp_path / "new" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "new" / NTP).rmdir()
    (tmp_path / "new" / ".config.json.tmp-0123abcd").write_text("{")
    (tmp_path / "new" / ".teacher_vectors.tmp-0123abcd").mkdir()
    for out in (run, tmp_path / "new"):
        assert compare(out) == 0
        assert table(out) == table(finished)
        assert not list(out.rglob(".*"))


def test_a_finished_folder_that_is_not_ours_is_printed_and_not_written(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in [run, *run.rglob("*")]}

    before = state()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert compare(run) == 0
    assert "Causal ntp" in capsys.readouterr().out
    assert state() == before


def test_another_command_is_refused_while_one_is_at_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with claimed(tmp_path / "run", {"seeds": [1], "data": "other"}):
        assert compare(tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "another command is at work in" in said
    assert "seeds" in said
    assert not (tmp_path / "run").exists(), "neither has written anything"


def test_a_command_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert compare(tmp_path / "runs" / "new" / "run", arms=["causal:none"]) == 2
    assert not (tmp_path / "runs" / "new" / "run").exists()


def test_a_file_and_a_loop_of_links_are_no_folder_for_results(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for name in ("file", "file/below", "loop", "loop/below"):
        expected = pytest.raises(ValueError, match=f"folder for the results, got .*{name}")
        with expected, claimed(tmp_path / name, {}):
            pass


def test_equal_commands_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with claimed(out, {"seeds": [0]}):
        with claimed(out, {"seeds": [0]}):
            pass
        with pytest.raises(ValueError, match=r"settings \(seeds\)"), claimed(out, {"seeds": [1]}):
            pass
    with claimed(out, {"seeds": [1]}):
        assert [path.name for path in out.iterdir()] == [".claim.json"]
    assert not out.exists()


def test_a_claim_that_a_killed_process_left_binds_nobody(tmp_path: Path) -> None:
    (tmp_path / ".claim.json").write_text('{"seeds": [0]}')
    with claimed(tmp_path, {"seeds": [1]}):
        pass
    assert not list(tmp_path.iterdir())


def test_a_flipped_bit_of_a_rank_asks_for_no_memory(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / NTP / "test.safetensors"
    tensors = load_file(path)
    tensors["better/kept"][0] = torch.tensor(1 << 40)
    with safe_open(path, framework="pt") as file:
        save_file(tensors, path, metadata=file.metadata())
    assert compare(run) == 2
    assert "test.safetensors was changed" in capsys.readouterr().err
