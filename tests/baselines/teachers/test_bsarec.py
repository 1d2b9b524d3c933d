"""BSARec: its pass written slowly, what each filter may see, and how it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from worlds import histories, random_sequences

from baselines.contracts.scorer import DotProductScorer
from baselines.data.batches import TrainBatch, Windows
from baselines.data.synthetic import synthetic_dataset
from baselines.nn.config import EncoderConfig
from baselines.teachers.bsarec import BSARec
from baselines.teachers.config import BSARecConfig, TeacherConfig
from baselines.teachers.fit import fit_teacher, read_teacher
from baselines.teachers.registry import build_teacher
from baselines.testing import check_teacher
from baselines.training.config import TrainingConfig
from semid.settings import as_json

ITEMS, DIM, HEADS, LONGEST, CUTOFF, ALPHA = 12, 8, 2, 7, 3, 0.6
ENCODER = EncoderConfig(dim=DIM, num_layers=2, num_heads=HEADS, ff_dim=16, dropout=0.5)
PASTS = [[3], [4, 1], [0, 11, 5, 5, 2, 8, 1], [9, 8, 7]]
BOTH = pytest.mark.parametrize("kind", ["fft", "causal"])


def config_of(kind: str, **settings: Any) -> BSARecConfig:
    shape = {"max_history": LONGEST, "cutoff": CUTOFF, "alpha": ALPHA, "encoder": ENCODER}
    return BSARecConfig(filter=kind, **{**shape, **settings})  # type: ignore[arg-type]


def bsarec(kind: str, **settings: Any) -> BSARec:
    """A model whose weights are large enough for every part of it to matter."""
    made = BSARec(config_of(kind, **settings), ITEMS, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return made


def batch_of(windows: Windows) -> TrainBatch:
    return windows.batch(np.arange(len(windows)))


def norm(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True))
    return np.asarray(scaled * w[f"{name}.weight"] + w[f"{name}.bias"])


def linear(x: np.ndarray, w: dict[str, np.ndarray], name: str) -> np.ndarray:
    return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])


def smoothed(x: np.ndarray, kind: str, real: list[bool]) -> np.ndarray:
    """The low-pass part: by NumPy's FFT, or as weighted means of each position's past."""
    spectrum = np.fft.rfft(x, axis=0, norm="ortho")
    spectrum[CUTOFF // 2 + 1 :] = 0
    if kind == "fft":
        return np.fft.irfft(spectrum, n=LONGEST, axis=0, norm="ortho")
    impulse = np.fft.rfft(np.eye(LONGEST)[0], norm="ortho")
    impulse[CUTOFF // 2 + 1 :] = 0
    kernel = np.fft.irfft(impulse, n=LONGEST, norm="ortho")
    low = x.copy()
    for pos in range(LONGEST):
        past = [p for p in range(pos + 1) if real[p] and pos - p <= LONGEST // 2]
        if past:
            weights = np.array([kernel[pos - p] for p in past])
            low[pos] = weights @ x[past] / weights.sum()
    return low


def attended(x: np.ndarray, w: dict[str, np.ndarray], name: str, real: list[bool]) -> np.ndarray:
    """What each position reads from its real past, or from itself where it has none."""
    query = linear(x, w, f"{name}.query")
    key, value = np.split(linear(x, w, f"{name}.key_value"), 2, axis=-1)
    size = DIM // HEADS
    mixed = np.zeros(x.shape)
    for pos in range(len(x)):
        past = [p for p in range(pos + 1) if real[p]] or [pos]
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            scores = np.array([query[pos, own] @ key[p, own] / math.sqrt(size) for p in past])
            weights = np.exp(scores - scores.max())
            mixed[pos, own] = weights @ value[past][:, own] / weights.sum()
    return norm(x + linear(mixed, w, f"{name}.project"), w, f"{name}.norm")


def slow_scores(made: BSARec, past: list[int], kind: str) -> Tensor:
    """The whole pass over a padded history, in float64."""
    w = {name: value.double().numpy() for name, value in made.state_dict().items()}
    missing = LONGEST - len(past)
    real = [False] * missing + [True] * len(past)
    items = np.concatenate([np.zeros((missing, DIM)), w["item_embedding.weight"][past]])
    x = norm(items + w["position_embedding.weight"], w, "embedding_norm")
    for number in range(ENCODER.num_layers):
        name = f"layers.{number}"
        low = smoothed(x, kind, real)
        mixed = low + w[f"{name}.filter.b"] ** 2 * (x - low)
        y = norm(x + mixed, w, f"{name}.filter.norm")
        z = ALPHA * y + (1 - ALPHA) * attended(x, w, f"{name}.attention", real)
        hidden = torch.from_numpy(linear(z, w, f"{name}.feed_forward.ff_in"))
        out = linear(F.gelu(hidden).numpy(), w, f"{name}.feed_forward.ff_out")
        x = norm(z + out, w, f"{name}.feed_forward.norm")
    return torch.from_numpy(w["item_embedding.weight"] @ x[-1]).float()


@BOTH
def test_scores_are_those_of_the_pass_written_slowly(kind: str) -> None:
    made = bsarec(kind)
    together = made.score(histories(*PASTS, padding=2))
    for row, past in enumerate(PASTS):
        expected = slow_scores(made, past, kind)
        torch.testing.assert_close(together[row], expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(made.score(histories(past))[0], expected, rtol=1e-3, atol=1e-4)


@BOTH
def test_it_keeps_the_contract_of_teachers(kind: str) -> None:
    world = synthetic_dataset(num_users=30, num_items=40, num_categories=2)
    teacher = build_teacher(TeacherConfig(model="bsarec", bsarec=config_of(kind)), world, 0)
    assert isinstance(teacher, DotProductScorer)
    check_teacher(teacher.eval(), dataset=world)


def test_it_has_as_many_parameters_as_the_released_model_on_beauty() -> None:
    made = BSARec(BSARecConfig(), 12_101, seed=0)
    layer = 4 * (64 * 64 + 64) + 64 + (64 * 256 + 256) + (256 * 64 + 64) + 3 * 2 * 64
    expected = 12_101 * 64 + 50 * 64 + 2 * 64 + 2 * layer
    assert sum(weight.numel() for weight in made.parameters()) == expected == 878_144


@torch.no_grad()
@pytest.mark.parametrize("changed", range(1, LONGEST))
def test_earlier_states_read_a_changed_item_only_through_the_fourier_transform(
    changed: int,
) -> None:
    past = PASTS[2]
    other = [*past[:changed], 10, *past[changed + 1 :]]
    for kind, reads_later in (("causal", False), ("fft", True)):
        made = bsarec(kind)
        before, after = (made.states(histories(items)) for items in (past, other))
        same = torch.isclose(before, after, rtol=0, atol=1e-6).all(dim=-1)[0]
        assert same[:changed].all() != reads_later
        assert not same[changed:].any()


def test_with_the_fourier_transform_it_learns_from_the_last_position_of_each_window() -> None:
    made, data = bsarec("fft"), random_sequences(ITEMS, 5)
    windows = made.windows(data)
    batch = batch_of(windows)
    assert len(windows) == data.num_targets
    assert batch.windows.items.shape == (data.num_targets, LONGEST + 1)
    assert (batch.target_pos == LONGEST).all()
    scores = made.score(batch.windows.without_last())
    torch.testing.assert_close(made.loss(batch), F.cross_entropy(scores, batch.target_items))
    with pytest.raises(ValueError, match="expected windows that end with their only target"):
        made.loss(batch_of(Windows.per_sequence(data, LONGEST)))


def test_with_the_causal_filter_it_learns_all_targets_of_a_window_at_once() -> None:
    made, data = bsarec("causal"), random_sequences(ITEMS, 5, longest=LONGEST + 1)
    batch = batch_of(made.windows(data))
    assert len(batch.windows.items) == 5 < len(batch.target_id) == data.num_targets
    states = made.states(batch.windows.without_last())[batch.target_row, batch.target_pos - 1]
    expected = F.cross_entropy(states @ made.item_vectors().T, batch.target_items)
    torch.testing.assert_close(made.loss(batch), expected)


@BOTH
@torch.no_grad()
def test_the_user_vector_is_the_last_of_all_states(kind: str) -> None:
    made, pasts = bsarec(kind), histories(*PASTS)
    torch.testing.assert_close(made.user_vectors(pasts), made.states(pasts)[:, -1])


def test_the_low_pass_alone_is_left_where_alpha_is_one_and_b_is_zero() -> None:
    made = bsarec("fft", alpha=1.0, cutoff=1, max_history=3)
    with torch.no_grad():
        for layer in made.layers:
            layer.filter.b.zero_()  # type: ignore[union-attr, operator]
        made.position_embedding.weight.zero_()
    forwards, backwards = (made.score(histories(past)) for past in ([1, 2, 3], [2, 1, 3]))
    torch.testing.assert_close(forwards, backwards)  # a mean has no order
    with torch.no_grad():
        made.low_pass.copy_(torch.eye(3))
    alone, longer = (made.score(histories(past)) for past in ([3], [1, 2, 3]))
    torch.testing.assert_close(alone, longer)


@BOTH
def test_it_is_trained_kept_and_read_as_any_teacher(kind: str, tmp_path: Path) -> None:
    dataset = synthetic_dataset(num_users=60, num_items=40, seed=0)
    config = TeacherConfig(model="bsarec", bsarec=config_of(kind))
    training = TrainingConfig(epochs=3, lr=0.01)
    made, state, lineage = fit_teacher(dataset, config, training, seed=0, folder=tmp_path)
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert TeacherConfig.of_record(lineage.config) == config
    again, _ = read_teacher(dataset, seed=0, folder=tmp_path)
    past = histories([3, 1, 2])
    assert torch.equal(again.score(past), made.score(past))
    assert again.label == ("BSARec causal" if kind == "causal" else "BSARec")


def test_settings_written_before_there_was_a_bsarec_are_the_same() -> None:
    assert "bsarec" not in as_json(TeacherConfig())
    other = TeacherConfig(bsarec=BSARecConfig(cutoff=9))
    assert as_json(other)["bsarec"]["cutoff"] == 9
    assert "bsarec" not in other.record(), "a SASRec is the same whatever BSARec would be"
