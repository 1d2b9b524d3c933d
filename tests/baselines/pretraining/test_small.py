"""A small language model trained from nothing: what it is, what it learns, and that it resumes."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

from baselines.cli import main
from baselines.data.dataset import Dataset
from baselines.data.synthetic import synthetic_dataset
from baselines.lm.fluency import fluency
from baselines.pretraining.config import (
    NextTokenConfig,
    SmallLMConfig,
    SmallModelConfig,
    TextsConfig,
)
from baselines.pretraining.small import (
    BOS,
    EOS,
    PAD,
    SmallLMReport,
    train_small_lm,
    train_tokenizer,
)
from baselines.pretraining.texts import make_texts
from semid.provenance import Provenance, ProvenanceError
from semid.titles import title_paths

CONFIG = SmallLMConfig(
    texts=TextsConfig(held_out=0.1),
    model=SmallModelConfig(
        vocab_size=300, dim=32, num_layers=1, num_heads=2, ff_dim=64, context=128
    ),
    training=NextTokenConfig(epochs=3, batch_blocks=1, lr=1e-2),
)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return synthetic_dataset(num_users=100, num_items=200)


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "lm"
    train_small_lm(dataset, CONFIG, seed=0, folder=folder)
    return folder


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    del found["seal"]
    return found


def test_transformers_loads_the_folder_as_any_other(trained: Path, dataset: Dataset) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    model = AutoModelForCausalLM.from_pretrained(trained)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.config.use_cache
    assert model.config.vocab_size == len(tokenizer) == 300
    assert [tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token] == [PAD, BOS, EOS]
    ids = ["pad_token_id", "bos_token_id", "eos_token_id"]
    assert [getattr(model.config, name) for name in ids] == [
        getattr(tokenizer, name) for name in ids
    ]
    for text in [dataset.catalog.texts("{title}")[0], "Größe\t42, ☕  twice"]:
        tokens = tokenizer(text)["input_ids"]
        assert tokens[0] == tokenizer.bos_token_id
        assert tokens[1:] == tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(tokens, skip_special_tokens=True) == text
    assert title_paths(dataset.catalog.texts("{title}"), tokenizer).end_token == 2
    prompts = tokenizer(["a", "abc abc"], return_tensors="pt", padding=True)
    assert len(model.generate(**prompts, max_new_tokens=2)) == 2
    assert not trained.with_name("lm.training").exists(), "checkpoints are gone"


def test_it_predicts_titles_it_has_not_read_better_than_guesses(
    trained: Path, dataset: Dataset
) -> None:
    report = SmallLMReport(**report_of(trained))
    assert report.uniform == 300
    assert report.perplexity < report.unigram < report.uniform
    texts = make_texts(dataset, CONFIG.texts, seed=0)
    tokenizer = AutoTokenizer.from_pretrained(trained)
    model = AutoModelForCausalLM.from_pretrained(trained)
    assert fluency(model, tokenizer, texts.held_out).perplexity == pytest.approx(report.perplexity)
    chosen = report.history[report.best_epoch - 1]["held_out"]
    assert chosen == min(entry["held_out"] for entry in report.history)
    assert math.exp(chosen) == pytest.approx(report.perplexity, rel=0.05), "means over blocks"

    def tokens(titles: list[str]) -> list[int]:
        rows = tokenizer(titles, add_special_tokens=False)["input_ids"]
        return [token for row in rows for token in [*row, tokenizer.eos_token_id]]

    counts, held_out = Counter(tokens(texts.titles)), tokens(texts.held_out)
    total = sum(counts.values()) + 300
    mean = sum(math.log((counts[token] + 1) / total) for token in held_out) / len(held_out)
    assert report.unigram == pytest.approx(math.exp(-mean))


def test_its_record_says_what_it_has_seen(trained: Path, dataset: Dataset, tmp_path: Path) -> None:
    record = Provenance.read(trained)
    assert (record.kind, record.items) == ("language_model", dataset.catalog.order_hash)
    assert record.seen == dataset.splits.train_hash
    assert record.inputs["texts"] == make_texts(dataset, CONFIG.texts, seed=0).content_hash
    assert record.config["texts"]["held_out"] == 0.1
    alone = dataclasses.replace(
        CONFIG,
        texts=TextsConfig(held_out=0.1, lists=0.0),
        training=NextTokenConfig(epochs=1, batch_blocks=2),
    )
    train_small_lm(dataset, alone, seed=0, folder=tmp_path / "alone")
    unseen = Provenance.read(tmp_path / "alone")
    assert unseen.seen is None, "titles alone tell nothing of what users did"
    assert unseen.content != record.content


class Killed(Exception):
    """What ends a training in the middle of an epoch."""


@pytest.mark.parametrize("after", [0.5, 2.5])
def test_killed_it_goes_on_and_ends_with_the_same_weights(
    after: float,
    trained: Path,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, work = tmp_path / "lm", tmp_path / "lm.training"
    made = 0
    step = Trainer.training_step

    def killed_step(self: Trainer, *args: Any, **settings: Any) -> Any:
        nonlocal made
        if made >= after * self.state.max_steps / CONFIG.training.epochs:
            raise Killed
        made += 1
        return step(self, *args, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", killed_step)
        with pytest.raises(Killed):
            train_small_lm(dataset, CONFIG, seed=0, folder=folder)
    assert not folder.exists()
    assert len(list(work.glob("checkpoint-*"))) == min(int(after), 1), "the best and the last"
    unfinished = work / "checkpoint-99999"
    unfinished.mkdir()
    (unfinished / "trainer_state.json").write_text('{"global_step": 99')
    train_small_lm(dataset, CONFIG, seed=0, folder=folder)
    assert report_of(folder) == report_of(trained)
    expected, found = (load_file(path / "model.safetensors") for path in (trained, folder))
    assert all(found[name].equal(value) for name, value in expected.items())
    assert Provenance.read(folder) == Provenance.read(trained)
    assert not work.exists()


def test_after_the_end_the_report_is_read_and_other_settings_refused(
    trained: Path, dataset: Dataset, tmp_path: Path
) -> None:
    made = (trained / "model.safetensors").stat().st_mtime_ns
    report = train_small_lm(dataset, CONFIG, seed=0, folder=trained)
    assert dataclasses.asdict(report) == report_of(trained)
    with pytest.raises(ProvenanceError, match="Name another folder"):
        train_small_lm(dataset, CONFIG, seed=1, folder=trained)
    assert (trained / "model.safetensors").stat().st_mtime_ns == made
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="expected an artefact folder"):
        train_small_lm(dataset, CONFIG, seed=0, folder=tmp_path / "theirs")
    assert not (tmp_path / "theirs.training").exists()


def test_the_states_of_others_are_left_as_they_are(dataset: Dataset, tmp_path: Path) -> None:
    from transformers.utils import logging

    def states() -> tuple[Any, ...]:
        numpys = np.random.get_state()[1]
        return random.getstate(), tuple(numpys), torch.get_rng_state().tolist()

    before = (*states(), logging.get_verbosity(), logging.is_progress_bar_enabled())
    short = dataclasses.replace(CONFIG, training=NextTokenConfig(epochs=1, batch_blocks=8))
    train_small_lm(dataset, short, seed=0, folder=tmp_path / "lm")
    assert (*states(), logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_a_loss_that_is_no_number_stops(dataset: Dataset, tmp_path: Path) -> None:
    wild = dataclasses.replace(CONFIG, training=NextTokenConfig(lr=100.0, clip=1e30))
    with pytest.raises(ValueError, match=r"became nan in epoch 1\. Lower the learning rate"):
        train_small_lm(dataset, wild, seed=0, folder=tmp_path / "lm")
    assert not (tmp_path / "lm").exists()


def test_the_vocabulary_is_as_large_as_asked_or_as_there_is_to_merge() -> None:
    assert len(train_tokenizer(["abc"], 4096)) == 256 + 3 + 2
    assert len(train_tokenizer(["abc abd"], 260)) == 260
    again = [train_tokenizer(["red lipstick", "pink lipstick"] * 9, 270) for _ in range(2)]
    assert again[0].get_vocab() == again[1].get_vocab()


def test_longer_texts_are_cut_and_counted(dataset: Dataset, tmp_path: Path) -> None:
    short = dataclasses.replace(
        CONFIG,
        model=dataclasses.replace(CONFIG.model, context=40),
        training=NextTokenConfig(epochs=1, batch_blocks=8),
    )
    report = train_small_lm(dataset, short, seed=0, folder=tmp_path / "lm")
    assert 0 < report.cut <= report.lists


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 258}, "from 259 to"),
        ({"dim": 30, "num_heads": 4}, "multiple of twice num_heads"),
        ({"num_layers": 0}, "num_layers must be a whole number from 1 to 1024"),
        ({"context": 4}, "context must be a whole number from 8 to"),
    ],
)
def test_shapes_that_cannot_be_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmallModelConfig(**settings)


def test_the_command_says_what_came_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That two processes make the steps of one is in ``test_parallel``."""
    options = ["lm", "train", "--data", "synthetic:100x64", "--texts.held_out", "0.1"]
    options += ["--model.vocab_size", "300", "--model.dim", "16", "--model.num_layers", "1"]
    options += ["--model.ff_dim", "32", "--model.context", "128", "--training.epochs", "2"]
    monkeypatch.chdir(tmp_path)
    assert main([*options, "--out", "one"]) == 0
    printed = capsys.readouterr().out
    for text in ("uniform", "unigram", "model", "best epoch 2 of 2", "language model: one"):
        assert text in printed
