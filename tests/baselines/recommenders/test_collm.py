"""CoLLM's two stages: what each reads, and what each trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_lm import TITLES, write_model
from tiny_recommenders import WITH_USER, loss_of, recommender, some_batch
from torch import Tensor
from worlds import histories

from baselines.recommenders.config import CollmConfig


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_the_text_is_learned_first_and_then_the_projector_alone(
    llama: Path, tiny_codes: Tensor, items: str
) -> None:
    made = recommender("collm", llama, tiny_codes, items=items)
    fresh = made.trainable_names()
    assert [stage.name for stage in made.stages] == ["text", "vectors"]
    made.begin_stage("text")
    text = made.trainable_names()
    assert all("lora_" in name or name.startswith("added.") for name in text)
    assert ("added.rows" in text) == (items == "codes")
    made.begin_stage("vectors")
    vectors = made.trainable_names()
    assert vectors
    assert all(name.startswith("projector.") for name in vectors)
    made.begin_stage(None)
    assert made.trainable_names() == fresh == text | vectors


def test_together_adapters_and_projector_are_learned_in_one_stage_from_vectors(
    llama: Path, tiny_codes: Tensor
) -> None:
    own = CollmConfig(template=WITH_USER, together=True)
    made = recommender("collm", llama, tiny_codes, own=own)
    two = recommender("collm", llama, tiny_codes).eval()
    assert [stage.name for stage in made.stages] == ["whole"]
    made.begin_stage(made.stages[0].name)
    assert made.prompts_of(some_batch()) is made.prompts
    loss_of(made, some_batch()).backward()
    got = {name for name, value in made.named_parameters() if value.grad is not None}
    assert got == two.trainable_names()
    assert any("lora_" in name for name in got)
    assert any("projector" in name for name in got)
    assert loss_of(made.eval(), some_batch()).item() == loss_of(two, some_batch()).item()


def test_the_released_widths_of_the_projector_are_an_option(
    llama: Path, tiny_codes: Tensor
) -> None:
    for expansion in (10, 15):
        own = CollmConfig(template=WITH_USER, expansion=expansion)
        made = recommender("collm", llama, tiny_codes, own=own)
        hidden = made.projector[0].weight
        assert hidden.shape == (expansion * 8, 8), "10 or 15 widths of the teacher"


def test_the_first_stage_is_the_plain_language_model(llama: Path, tiny_codes: Tensor) -> None:
    made = recommender("collm", llama, tiny_codes).eval()
    plain = recommender("lm", llama, tiny_codes).eval()
    batch, past = some_batch(), histories([3, 1], [9])
    made.begin_stage("text")
    assert loss_of(made, batch).item() == loss_of(plain, batch).item()
    with torch.no_grad():
        expected = plain.start(past).logits()
        assert torch.equal(made.start(past).logits(), expected)
        for stage in ("vectors", None):
            made.begin_stage(stage)
            assert not torch.allclose(made.start(past).logits(), expected, atol=1e-3)


def test_a_users_state_is_made_from_what_the_prompt_may_hold(
    llama: Path, tiny_codes: Tensor
) -> None:
    made = recommender("collm", llama, tiny_codes).eval()
    states = made.user_states(histories([2, 3, 1, 4], [3, 2, 1, 4], [9, 2, 3, 1, 4]))
    assert not torch.allclose(states[0], states[1], atol=1e-3), "the order of items matters"
    torch.testing.assert_close(states[2], states[0])


def test_one_projector_of_the_asked_width_serves_users_and_items(
    llama: Path, tiny_codes: Tensor
) -> None:
    own = CollmConfig(template=WITH_USER, expansion=3)
    for made, hidden in (
        (recommender("collm", llama, tiny_codes), 40),
        (recommender("collm", llama, tiny_codes, own=own), 24),
    ):
        shapes = [tuple(p.shape) for p in made.projector.parameters()]
        assert shapes == [(hidden, 8), (hidden,), (16, hidden), (16,)]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "{history}"}, r"template must contain \{user\} exactly once"),
        ({"template": "{user} {user} {history}"}, r"template must contain \{user\} exactly once"),
        ({"item": "{vector}"}, r"item must contain \{item\} exactly once"),
        ({"expansion": 0}, "expansion must be a whole number from 1 to 65536, got 0"),
    ],
)
def test_settings_that_say_nothing_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CollmConfig(**options)  # type: ignore[arg-type]
