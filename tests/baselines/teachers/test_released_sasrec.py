"""TCA4Rec's released SASRec: its pass written slowly, and its weights taken by name and shape."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import histories, random_sequences

from baselines.data.batches import Windows
from baselines.data.synthetic import synthetic_dataset
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import SASRecConfig, TeacherConfig
from baselines.teachers.fit import fit_teacher, read_teacher
from baselines.teachers.model import TeacherModel
from baselines.teachers.registry import build_teacher
from baselines.teachers.released_sasrec import ReleasedSASRec
from baselines.training.config import TrainingConfig

ITEMS, DIM, LONGEST, BLOCKS = 12, 8, 5, 2
CONFIG = SASRecConfig(
    variant="released",
    loss="bce",
    max_history=LONGEST,
    encoder=EncoderConfig(dim=DIM, num_layers=BLOCKS, num_heads=1, dropout=0.5),
)


def released_weights(seed: int = 0) -> dict[str, Tensor]:
    """Random numbers under the names and in the shapes of the released code."""
    shapes: dict[str, tuple[int, ...]] = {
        "item_emb.weight": (ITEMS + 1, DIM),
        "pos_emb.weight": (LONGEST, DIM),
        "last_layernorm.weight": (DIM,),
        "last_layernorm.bias": (DIM,),
    }
    for block in range(BLOCKS):
        for norm in ("attention_layernorms", "forward_layernorms"):
            shapes |= {f"{norm}.{block}.weight": (DIM,), f"{norm}.{block}.bias": (DIM,)}
        attention = f"attention_layers.{block}"
        shapes |= {
            f"{attention}.in_proj_weight": (3 * DIM, DIM),
            f"{attention}.in_proj_bias": (3 * DIM,),
            f"{attention}.out_proj.weight": (DIM, DIM),
            f"{attention}.out_proj.bias": (DIM,),
        }
        for conv in ("conv1", "conv2"):
            shapes[f"forward_layers.{block}.{conv}.weight"] = (DIM, DIM, 1)
            shapes[f"forward_layers.{block}.{conv}.bias"] = (DIM,)
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def loaded(seed: int = 0) -> ReleasedSASRec:
    return ReleasedSASRec(CONFIG, ITEMS, seed=5).load_released(released_weights(seed))


def layer_norm(row: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (row - row.mean()) / torch.sqrt(row.var(unbiased=False) + 1e-8) * weight + bias


def slow_scores(weights: dict[str, Tensor], past: list[int]) -> Tensor:
    """The released pass, one position after another, in float64."""
    w = {name: value.double() for name, value in weights.items()}
    padded = [0] * (LONGEST - len(past)) + [item + 1 for item in past]
    x = [
        math.sqrt(DIM) * w["item_emb.weight"][item] + w["pos_emb.weight"][pos]
        if item
        else torch.zeros(DIM).double()
        for pos, item in enumerate(padded)
    ]
    for block in range(BLOCKS):

        def normed(row: Tensor, which: str, block: int = block) -> Tensor:
            return layer_norm(row, w[f"{which}.{block}.weight"], w[f"{which}.{block}.bias"])

        attention = f"attention_layers.{block}"
        matrices = w[f"{attention}.in_proj_weight"].split(DIM)
        biases = w[f"{attention}.in_proj_bias"].split(DIM)
        queries = [normed(row, "attention_layernorms") for row in x]
        after = []
        for pos in range(LONGEST):
            query = matrices[0] @ queries[pos] + biases[0]
            keys = [matrices[1] @ row + biases[1] for row in x[: pos + 1]]  # of padding too
            values = [matrices[2] @ row + biases[2] for row in x[: pos + 1]]
            products = torch.stack([query @ key / math.sqrt(DIM) for key in keys])
            mixed = sum(
                share * value for share, value in zip(products.softmax(0), values, strict=True)
            )
            out = w[f"{attention}.out_proj.weight"] @ mixed + w[f"{attention}.out_proj.bias"]
            z = normed(queries[pos] + out, "forward_layernorms")
            first, second = (
                (
                    w[f"forward_layers.{block}.{conv}.weight"][:, :, 0],
                    w[f"forward_layers.{block}.{conv}.bias"],
                )
                for conv in ("conv1", "conv2")
            )
            hidden = (first[0] @ z + first[1]).clamp_min(0)
            row = z + second[0] @ hidden + second[1]
            after.append(row if padded[pos] else torch.zeros(DIM).double())
        x = after
    state = layer_norm(x[-1], w["last_layernorm.weight"], w["last_layernorm.bias"])
    return (w["item_emb.weight"] @ state)[1:].float()


def test_scores_are_those_of_the_released_pass_written_slowly() -> None:
    weights, made = released_weights(), loaded()
    pasts = [[3], [4, 1], [0, 11, 5, 5, 2], [9, 8, 7]]
    together = made.score(histories(*pasts))
    for row, past in enumerate(pasts):
        torch.testing.assert_close(together[row], slow_scores(weights, past), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(made.score(histories(past))[0], together[row])
    longer = made.score(histories([1, 1, 1, *pasts[2]]))[0]
    torch.testing.assert_close(longer, together[2], msg="the window is the last five items")


def test_it_is_another_architecture_than_the_default() -> None:
    default = dataclasses.replace(CONFIG, variant="prenorm")
    plain, released = (
        build_teacher(
            TeacherConfig(sasrec=config), synthetic_dataset(num_users=30, num_items=40), 0
        )
        for config in (default, CONFIG)
    )
    assert isinstance(released, ReleasedSASRec)
    assert not isinstance(plain, ReleasedSASRec)
    assert released.label == "SASRec released bce"
    assert set(released.state_dict()) == set(released_weights())
    assert released.item_vectors().shape == (40, DIM), "padding is no item"


def test_padding_is_attended_to_as_in_the_released_code() -> None:
    weights, made = released_weights(), loaded()
    for block in range(BLOCKS):
        weights[f"attention_layers.{block}.in_proj_bias"][2 * DIM :] += 1.0  # of the values
    moved = ReleasedSASRec(CONFIG, ITEMS, 0).load_released(weights)
    short, before = moved.score(histories([3])), made.score(histories([3]))
    assert not torch.allclose(short, before, atol=1e-2)
    torch.testing.assert_close(short[0], slow_scores(weights, [3]), rtol=1e-3, atol=1e-3)


def test_it_learns_from_the_last_position_of_each_window() -> None:
    made = loaded()
    data = random_sequences(ITEMS, 5)
    windows = made.windows(data)
    assert len(windows) == data.num_targets
    batch = windows.batch(np.arange(len(windows)))
    assert (batch.target_pos == batch.windows.items.shape[1] - 1).all()
    torch.manual_seed(0)
    loss = float(made.loss(batch).detach())
    assert math.isfinite(loss)
    every: TeacherModel = made
    assert len(Windows.per_sequence(data, LONGEST)) < len(every.windows(data))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pos_emb.weight": None}, r"28 tensors, got some without 'pos_emb\.weight'\. Does"),
        ({"item_emb.weight": torch.zeros(ITEMS, DIM)}, r"to be \(13, 8\) for 12 items"),
        ({"pos_emb.weight": torch.zeros(50, DIM)}, r"a max_history of 5 .*, got \(50, 8\)"),
        ({"forward_layers.0.conv1.weight": torch.zeros(DIM, DIM)}, r"\(8, 8, 1\)"),
        ({"attention_layers.2.in_proj_bias": torch.zeros(24)}, "of 2 blocks, got 'attention"),
        ({"attention_layernorms.1.bias": None, "last_layernorm.bias": None}, "and 1 more"),
    ],
)
def test_weights_of_other_names_or_shapes_are_refused_and_nothing_is_taken(
    change: dict[str, Tensor | None], said: str
) -> None:
    weights: dict[str, Tensor | None] = {**released_weights(), **change}
    given = {name: value for name, value in weights.items() if value is not None}
    made = ReleasedSASRec(CONFIG, ITEMS, seed=5)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with pytest.raises(ValueError, match=said) as error:
        made.load_released(given)
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in made.state_dict().items())


def test_it_is_trained_kept_and_read_as_any_teacher(tmp_path: Path) -> None:
    dataset = synthetic_dataset(num_users=60, num_items=40, seed=0)
    config, training = TeacherConfig(sasrec=CONFIG), TrainingConfig(epochs=2, lr=0.01)
    made, state, lineage = fit_teacher(dataset, config, training, seed=0, folder=tmp_path)
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert lineage.config["variant"] == "released"
    again, _ = read_teacher(dataset, seed=0, folder=tmp_path)
    past = histories([3, 1, 2])
    assert torch.equal(again.score(past), made.score(past))


def test_the_record_of_the_default_is_that_of_teachers_from_before_there_were_variants() -> None:
    record = TeacherConfig().record()
    assert "variant" not in record
    assert TeacherConfig.of_record(record).sasrec.variant == "prenorm"
    with pytest.raises(ValueError, match="variant must be one of prenorm, released, got 'pmixer'"):
        SASRecConfig(variant="pmixer")  # type: ignore[arg-type]
