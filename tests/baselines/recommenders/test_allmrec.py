"""A-LLMRec's two stages: the alignment written slowly, and what each trains."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_lm import TITLES, write_model
from tiny_recommenders import (
    CATALOG,
    WITH_USER,
    recommender,
    some_batch,
    some_splits,
    state_of,
    teacher,
)
from torch import Tensor
from worlds import sequence_set

import baselines.recommenders.allmrec as module
from baselines.evaluation.ranking import rank_by_scores
from baselines.recommenders.config import AllmrecConfig
from semid.embed import Embeddings, LsaEncoder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_autoencoders_first_then_projectors_and_never_the_language_model(
    llama: Path, tiny_codes: Tensor, items: str
) -> None:
    made = recommender("allmrec", llama, tiny_codes, items=items)
    fresh = made.trainable_names()
    assert not any(name.startswith("lm.") for name in fresh)
    made.begin_stage("alignment")
    assert {name.split(".")[0] for name in made.trainable_names()} == {"of_vectors", "of_texts"}
    made.begin_stage("answers")
    expected = {"user_projector", "item_projector"} | ({"added"} if items == "codes" else set())
    assert {name.split(".")[0] for name in made.trainable_names()} == expected
    made.begin_stage(None)
    assert made.trainable_names() == fresh


def test_an_epoch_of_both_stages_may_be_the_last_target_of_each_user(
    llama: Path, tiny_codes: Tensor
) -> None:
    own = AllmrecConfig(template=WITH_USER, targets="last")
    made = recommender("allmrec", llama, tiny_codes, own=own)
    data = sequence_set([([5, 1, 2], 1), ([4, 3], 1), ([7, 8, 9, 0], 1)])
    data = dataclasses.replace(data, users=np.array([1, 0, 1]))  # of one user two sequences
    windows = made.windows(data)
    batch = windows.batch(np.arange(len(windows)))
    items, users = batch.target_items.tolist(), batch.windows.users.tolist()
    assert sorted(zip(users, items, strict=True)) == [(0, 3), (1, 0)]
    every = recommender("allmrec", llama, tiny_codes).windows(data)
    assert len(every) == 6
    of_all = every.batch(np.arange(6))
    number = dict(zip(of_all.target_items.tolist(), of_all.target_id.tolist(), strict=True))
    assert batch.target_id.tolist() == [number[item] for item in items], "as the teacher counts"


def test_targets_that_are_neither_are_refused() -> None:
    with pytest.raises(ValueError, match="targets must be one of all, last, got 'first'"):
        AllmrecConfig(targets="first")  # type: ignore[arg-type]


def mean_squared(a: Tensor, b: Tensor) -> float:
    numbers = zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)
    return sum((x - y) ** 2 for x, y in numbers) / a.numel()


@torch.no_grad()
def test_the_first_loss_is_the_papers_written_slowly(
    llama: Path, tiny_codes: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, batch, taught_by = recommender("allmrec", llama, tiny_codes), some_batch(), teacher()
    negatives = [(3 * item + 5) % 12 for item in batch.target_items.tolist()]
    monkeypatch.setattr(
        module, "draw_outside", lambda windows, num_items, count: torch.tensor(negatives)[:, None]
    )
    table = taught_by.item_vectors()
    size = table.square().mean().sqrt()
    texts = torch.from_numpy(LsaEncoder().encode(CATALOG.texts()))
    text_size = texts.square().mean().sqrt()
    recommendation, joints, vectors, text_pairs = [], [], [], []
    for row, (target, negative) in enumerate(
        zip(batch.target_items.tolist(), negatives, strict=True)
    ):
        past = batch.windows.items[row][batch.windows.mask[row]].tolist()[:-1]
        state = state_of(past, taught_by)
        for item, sign in ((target, 1.0), (negative, -1.0)):
            vector, text = table[item] / size, texts[item] / text_size
            joint, again = made.of_vectors(vector)
            joint_text, text_again = made.of_texts(text)
            assert ((joint > 0) & (joint < 1)).all()
            score = float(state @ (again * size))
            recommendation.append(math.log(1 + math.exp(-sign * score)))
            joints.append((joint, joint_text))
            vectors.append((again, vector))
            text_pairs.append((text_again, text))
    pairs = {"matching": joints, "vectors": vectors, "texts": text_pairs}
    expected = {
        name: mean_squared(*map(torch.stack, zip(*found, strict=True)))
        for name, found in pairs.items()
    }
    expected["recommendation"] = 2 * float(np.mean(recommendation))
    output = made.alignment_loss(batch)
    assert {name: part.item() for name, part in output.parts.items()} == pytest.approx(
        expected, rel=1e-4
    )
    total = expected["recommendation"] + expected["matching"]
    total += 0.5 * expected["vectors"] + 0.2 * expected["texts"]
    assert output.loss.item() == pytest.approx(total, rel=1e-4)
    assert output.count.item() == len(negatives)


def test_vectors_given_back_whole_rank_as_the_teacher_does(llama: Path, tiny_codes: Tensor) -> None:
    made, valid = recommender("allmrec", llama, tiny_codes, max_history=9), some_splits().valid
    scorer = made.stages[0].scorer
    ours = rank_by_scores(scorer, valid).metrics("removed", "expected")["N@10"]
    theirs = rank_by_scores(teacher(), valid).metrics("removed", "expected")["N@10"]
    assert not np.array_equal(ours, theirs)
    made.of_vectors.forward = lambda vectors: (None, vectors)
    whole = rank_by_scores(scorer, valid).metrics("removed", "expected")["N@10"]
    np.testing.assert_allclose(whole, theirs)


def test_texts_are_embedded_as_asked(llama: Path, tiny_codes: Tensor, tmp_path: Path) -> None:
    own = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    np.save(tmp_path / "own.npy", own)

    def made(**options: str) -> AllmrecConfig:
        return AllmrecConfig(template=WITH_USER, **options)

    asked = made(embeddings=str(tmp_path / "own.npy"))
    found = recommender("allmrec", llama, tiny_codes, own=asked)
    own_texts = torch.from_numpy(own)
    torch.testing.assert_close(found.texts, own_texts / own_texts.square().mean().sqrt())
    other = recommender("allmrec", llama, tiny_codes)
    assert found.input_hashes["texts"] != other.input_hashes["texts"]
    Embeddings.of(own, CATALOG, inputs={}, config={}, seen="some interactions").save(
        tmp_path / "seen"
    )
    with pytest.raises(ValueError, match="trained on interactions"):
        recommender("allmrec", llama, tiny_codes, own=made(embeddings=str(tmp_path / "seen")))


def test_a_catalogue_no_larger_than_a_window_is_refused(llama: Path, tiny_codes: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"window of 12 items, so the catalogue must hold more, got 12"
    ):
        recommender("allmrec", llama, tiny_codes, max_history=11)


@pytest.mark.parametrize("options", [{"template": "{history}"}, {"item": "{item}"}])
def test_prompts_without_a_slot_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="must contain"):
        AllmrecConfig(**options)
