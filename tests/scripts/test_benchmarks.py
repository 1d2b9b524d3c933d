"""The benchmarks run, small, and what they compare agrees."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import fit_model

from baselines.backbones.config import TigerConfig
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import BuildContext

ROOT = Path(__file__).parents[2]
TIGER = ["--layers", "1", "--dim", "16", "--codebook", "8", "--levels", "3"]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """The scripts' folder on the path, as for a script that is run; the threads put back."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield
    torch.set_num_threads(threads)


def figures_of(script: str, out: Path, *options: str) -> dict[str, Any]:
    """What a benchmark writes; run in this process, so that torch is loaded once for all."""
    module = importlib.import_module(script)
    assert module.main(["--out", str(out), "--threads", "1", *options]) == 0
    figures: dict[str, Any] = json.loads(out.read_text())
    return figures


def test_decoding_finds_what_generate_finds(tmp_path: Path) -> None:
    sizes = ["--items", "60", "--levels", "3", "--codebook", "8", "--layers", "1", "--dim", "16"]
    runs = ["--batch", "3", "--beams", "4", "40", "--rounds", "1", "--denied", "5"]
    figures = figures_of("bench_decode", tmp_path / "decode.json", *sizes, *runs)
    assert list(figures["beams"]) == ["4", "40"]
    for beam in figures["beams"].values():
        checks = beam["moved_items_and_largest_score_difference"]
        assert len(checks) == 2
        for moved, difference in checks.values():
            assert moved == 0
            assert difference < 1e-3


def test_the_latency_grid_finds_what_generate_finds_and_skips_what_is_too_large(
    tmp_path: Path,
) -> None:
    sizes = ["--items", "60", "--levels", "2", "--codebook", "8", "--batches", "1", "3"]
    runs = ["--histories", "2", "64", "--beams", "2", "20", "--rounds", "1", "--devices", "cpu"]
    limits = ["--memory", "0.05", "--limit", "1000"]
    figures = figures_of("bench_latency", tmp_path / "latency.json", *sizes, *runs, *limits)
    rows = figures["devices"]["cpu"]
    cells = {(row["batch"], row["history"], row["beam"]): row for row in rows}
    assert len(cells) == 2 * 2 * 2
    assert [row["batch"] * row["history"] * row["beam"] for row in rows] == sorted(
        row["batch"] * row["history"] * row["beam"] for row in rows
    )
    largest = cells.pop((3, 64, 20))
    assert largest["not_run"] == {"generate": "needs 0.1 GiB"}
    assert list(largest["milliseconds"]) == ["beam search"]
    for row in cells.values():
        moved, difference = row["moved_items_and_largest_score_difference"]
        assert (row["not_run"], moved) == ({}, 0)
        assert difference < 1e-3
        assert row["generate_over_ours"] > 0


def test_latency_above_the_limit_is_foretold_from_smaller_cells(tmp_path: Path) -> None:
    sizes = ["--items", "60", "--levels", "2", "--codebook", "8", "--batches", "1"]
    runs = ["--histories", "2", "--beams", "2", "9", "--rounds", "1", "--devices", "cpu"]
    figures = figures_of(
        "bench_latency", tmp_path / "latency.json", *sizes, *runs, "--limit", "1e-6"
    )
    first, second = figures["devices"]["cpu"]
    assert first["not_run"] == {}
    assert second["milliseconds"] == {}
    assert set(second["not_run"]) == {"beam search", "generate"}


def test_a_history_of_half_an_item_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        figures_of("bench_latency", tmp_path / "latency.json", "--items", "9", "--histories", "6")
    assert ended.value.code == 2
    assert "multiples of an item's 4 tokens, got [6]" in capsys.readouterr().err


@pytest.mark.parametrize(("batch", "history", "beam"), [(4, 64, 50), (1, 256, 40), (2, 512, 4)])
def test_memory_of_a_cell_is_foretold(batch: int, history: int, beam: int) -> None:
    latency = importlib.import_module("bench_latency")
    measuring = importlib.import_module("measuring")
    gen = torch.Generator().manual_seed(0)
    config = TigerConfig(num_layers=2, max_history=128)
    context = BuildContext(torch.randint(16, (300, 4), generator=gen), (16,) * 4, seed=0)
    backbone = TigerBackbone(config, context).eval()
    backbone.t5.set_attn_implementation("eager")
    cell = latency.Cell(batch, history, beam)
    needed = latency.needed_memory(config, cell, backbone.vocab.num_tokens)
    ways = latency.ways(backbone, cell, gen)
    with torch.inference_mode():
        taken = {name: measuring.peak_memory(way) for name, way in ways.items()}
    assert list(needed) == list(taken)
    for name, size in taken.items():
        assert 0.9 * size < needed[name] < 3 * size, name


def test_titles_within_the_trie_are_those_of_a_dictionary_of_prefixes(tmp_path: Path) -> None:
    sizes = ["--data", "synthetic:60x40", "--vocabulary", "300", "--layers", "1", "--dim", "16"]
    runs = ["--batch", "3", "--prompt", "7", "--beams", "1", "4", "--rounds", "1"]
    figures = figures_of("bench_titles_decode", tmp_path / "titles.json", *sizes, *runs)
    assert list(figures["beams"]) == ["1", "4"]
    for beam in figures["beams"].values():
        assert beam["same_titles"]
        assert beam["share_of_items"] == 1
        assert all(spent > 0 for spent in beam["milliseconds_in_the_constraint"].values())


def test_the_collaborative_tokenizer_is_the_loop_over_dictionaries(tmp_path: Path) -> None:
    """In a process of its own, as a reader runs all of them."""
    out = tmp_path / "tca.json"
    sizes = ["--items", "120", "--larger", "300", "--levels", "3", "--codebook", "8"]
    options = ["--out", str(out), "--threads", "1", *sizes, "--repeats", "1"]
    command = [sys.executable, "scripts/bench_tca.py", *options]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    figures = json.loads(out.read_text())
    assert [row["items"] for row in figures["catalogues"]] == [120, 300]
    assert all(row["largest_error"] < 1e-6 for row in figures["catalogues"])


def test_the_best_items_are_held_against_all_of_them(tmp_path: Path) -> None:
    sizes = ["--items", "500", "--levels", "3", "--codebook", "8", "--batch", "4"]
    runs = ["--k", "20", "500", "--rounds", "1"]
    figures = figures_of("bench_top_k", tmp_path / "top_k.json", *sizes, *runs)
    assert list(figures["k"]) == ["20", "500"]
    for row in figures["k"].values():
        assert row["over_all_items_scored"]["all items scored"] == 1
    whole = figures["k"]["500"]["total_variation"]
    part = figures["k"]["20"]["total_variation"]
    assert len(whole) == 3
    for listed, error in part.items():
        assert max(whole[listed]["largest"]) < 1e-6
        assert (error["mean"][0] > 0.01) == ("alone" in listed), "all are near in a small catalogue"


@pytest.mark.parametrize("options", [[], ["--top_k", "20"]], ids=["all items", "best items"])
def test_what_the_mass_takes_is_a_part_of_the_step(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench_step._WEIGHED", 1)  # to weigh a step takes longer than to train
    sizes = [*TIGER, "--items", "120", "--events", "96", *options]
    figures = figures_of("bench_step", tmp_path / "step.json", *sizes, "--steps", "1")
    assert set(figures["backbones"]) == {"TIGER", "Causal"}
    for found in figures["backbones"].values():
        assert set(found["step_over_ntp"]) == set(found["step_milliseconds"])
        assert found["step_over_ntp"]["ntp"] == found["memory_over_ntp"]["ntp"] == 1
        assert all(1 <= ratio < 1.5 for ratio in found["memory_over_ntp"].values())
        assert all(0 < share < 1 for share in found["share_of_the_step"].values())
        assert found["cache_bytes_of_a_target"] == 3 * 8 * 2


def test_titles_are_held_against_plain_training(tmp_path: Path) -> None:
    sizes = ["--vocab", "4000", "--titles", "200", "--length", "4", "--dim", "64", "--layers", "1"]
    runs = ["--targets", "30", "--batch", "2", "--history", "4", "--rounds", "1"]
    sizes += ["--codebook", "8", "--levels", "3"]
    figures = figures_of("bench_titles", tmp_path / "titles.json", *sizes, *runs)
    parts = [("output_layer", "plain ntp"), ("titles", "labels="), ("codes", "labels=")]
    for part, plain in parts:
        rows = figures[part]
        (base,) = [name for name in rows if plain in name]
        assert rows[base]["time_over_plain"] == rows[base]["memory_over_plain"] == 1
        assert len(rows) > 6
        for name, row in rows.items():
            if "made" not in name and name != base:
                assert row["memory_over_plain"] < 1, name


def test_changed_tries_are_those_built_anew(tmp_path: Path) -> None:
    sizes = ["--items", "500", "--levels", "3", "--codebook", "8", "--changed", "50"]
    figures = figures_of("bench_trie", tmp_path / "trie.json", *sizes, "--rounds", "1")
    assert figures["as_built_anew"] == {"add": True, "remove": True}
    assert list(figures["costs"]) == ["build", "save", "load", "add", "remove"]


def test_exact_scoring_is_held_against_the_arithmetic_of_the_nodes(tmp_path: Path) -> None:
    sizes = [*TIGER, "--items", "60", "--batch", "3", "--chunks", "8"]
    figures = figures_of("bench_exact", tmp_path / "exact.json", *sizes)
    assert figures["limit_seconds"] > 0
    for name in ("all tokens", "the children"):
        assert figures[f"relative to {name}, chunk 8"]["seconds"] > 0


def test_memory_of_a_size_is_foretold_from_smaller_ones() -> None:
    expected = importlib.import_module("bench_memory").expected
    libraries = {"peak_mib": 1024, "processor_seconds": 2}
    row = {10: {"peak_mib": 2048, "processor_seconds": 3}}
    assert expected({}, 10, libraries) == (0, 0)
    assert expected(row, 100, libraries) == (11, 12)
    row |= {100: {"peak_mib": 3 * 1024, "processor_seconds": 12}, 200: {"not_run": "about 9 s"}}
    assert expected(row, 1000, libraries) == (13, 102)


@pytest.mark.slow
def test_every_stage_is_weighed_or_foretold_to_be_too_large(tmp_path: Path) -> None:
    few = ["libraries", "trie", "training step, causal"]
    sizes = [*TIGER, "--sizes", "200", "200000", "--users", "20", "--folder", str(tmp_path)]
    limits = ["--memory", "0.5", "--stages", *few]
    figures = figures_of("bench_memory", tmp_path / "memory.json", *sizes, *limits)
    assert list(figures["stages"]) == few
    base = figures["stages"]["libraries"]["200"]["peak_mib"]
    for row in figures["stages"].values():
        assert row["200"]["peak_mib"] > 0.9 * base > 50
    assert "GiB" in figures["stages"]["training step, causal"]["200000"]["not_run"]
    assert list(tmp_path.iterdir()) == [tmp_path / "memory.json"]


@pytest.mark.slow
def test_all_stages_of_a_small_catalogue_end_well(tmp_path: Path) -> None:
    sizes = [*TIGER, "--sizes", "300", "--users", "20"]
    figures = figures_of("bench_memory", tmp_path / "memory.json", *sizes)
    assert len(figures["stages"]) == 10
    for row in figures["stages"].values():
        assert row["300"]["peak_mib"] > 50


def test_catalogues_are_held_against_the_smallest(tmp_path: Path) -> None:
    sizes = [*TIGER, "--sizes", "50", "200", "--batch", "3", "--beam", "4", "--rounds", "1"]
    figures = figures_of("bench_scale", tmp_path / "scale.json", *sizes)
    assert list(figures["over_the_smallest"]) == ["50 items", "200 items"]
    assert figures["over_the_smallest"]["50 items"] == 1


def test_recommending_gives_the_lists_of_the_search_by_hand(tmp_path: Path) -> None:
    fit_model(tmp_path, "causal")
    sizes = ["--model", str(tmp_path / "model"), "--histories", "40", "--batch", "7"]
    figures = figures_of("bench_recommend", tmp_path / "figures.json", *sizes, "--rounds", "1")
    assert list(figures["milliseconds"]) == ["beam_search by hand", "Recommender.recommend"]


@pytest.mark.slow
def test_batches_are_held_against_one_request_at_a_time(tmp_path: Path) -> None:
    sizes = ["--items", "60", "--levels", "3", "--codebook", "8", "--clients", "1", "3"]
    runs = ["--requests", "12", "--rounds", "2", "--soak", "0.4"]
    figures = figures_of("bench_serve", tmp_path / "serve.json", *sizes, *runs)
    soak = figures.pop("soak")
    assert soak["requests"] > 100
    assert (soak["unexpected"], soak["lost"], soak["exit_code"]) == ({}, 0, 0)
    assert (soak["models_taken"] >= 1, soak["models_refused"]) == (True, 1)
    assert soak["answered_after_stop"] == soak["in_flight_at_stop"] == 32
    assert 0.5 < soak["memory_ratio"] < 2
    for clients in ("1", "3"):
        assert 0 < min(figures[clients]["gains"]) <= figures[clients]["gain"]
        for way in ("dynamic batching", "one at a time"):
            assert 0 < figures[clients][way]["p50_ms"] <= figures[clients][way]["p99_ms"]


def test_training_is_held_against_a_plain_loop(tmp_path: Path) -> None:
    sizes = [*TIGER, "--items", "60", "--events", "64", "--targets", "8"]
    figures = figures_of(
        "bench_train", tmp_path / "train.json", *sizes, "--seconds", "0.1", "--rounds", "1"
    )
    assert all(rate > 0 for rate in figures["targets_a_second"].values())
    assert figures["over_plain_float32"]["plain T5, float32"] == 1


def test_encoding_is_held_against_faiss_and_the_products(tmp_path: Path) -> None:
    sizes = ["--items", "400", "--sample", "300", "--dim", "8", "--levels", "3", "--codebook", "8"]
    runs = ["--beams", "1", "3", "--rounds", "1", "--iterations", "3"]
    figures = figures_of("bench_encode", tmp_path / "encode.json", *sizes, *runs)
    assert figures["fit"]["data_MB"] == 400 * 8 * 4 / 1e6
    assert list(figures["beams"]) == ["1", "3"]
    for beam in figures["beams"].values():
        assert beam["same_codes"] > 0.99
        assert abs(beam["error_over_that_of_faiss"] - 1) < 1e-3
        assert beam["faiss_over_ours"] > 0


def test_starts_of_kmeans_are_held_against_each_other(tmp_path: Path) -> None:
    vectors = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "vectors.npy", vectors.numpy())
    sizes = ["--embeddings", str(tmp_path / "vectors.npy"), "--sizes", "16", "16", "--seeds", "0"]
    figures = figures_of("bench_starts", tmp_path / "starts.json", *sizes)
    assert list(figures["starts"]) == ["random", "kmeans++", "greedy_kmeans++"]
    for (run,) in figures["starts"].values():
        assert 0 < run["error"] < 1
        assert run["seconds"] > 0


def test_rules_of_a_random_world_are_counted_and_scored(tmp_path: Path) -> None:
    sizes = ["--users", "50", "--items", "30", "--length", "6", "--scored", "20"]
    figures = figures_of("bench_rules", tmp_path / "rules.json", *sizes)
    assert 50 < figures["entries"] <= 30 * 30
    assert figures["histories_per_second"] > 0


def test_ids_of_a_large_catalogue_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    sizes = ["--sizes", "40000", "--dim", "4", "--levels", "2", "--codebook", "8"]
    runs = ["--fit-items", "500", "--other-batch", "999"]
    figures = figures_of("bench_ids", tmp_path / "ids.json", *sizes, *runs)
    (row,) = figures["catalogues"].values()
    assert row["equal"]
    assert row["peak_mib"] > row["vectors_mib"] > 0
