"""The loss of prompts, as TALLRec's and BIGRec's released codes have it (no label is masked)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_lm import TITLES, write_model
from tiny_recommenders import recommender, some_batch
from torch import Tensor

from baselines.data.batches import TrainBatch
from baselines.lm.config import LanguageModelConfig
from baselines.recommenders.bigrec import BigrecBackbone
from baselines.recommenders.tallrec import TallrecBackbone
from tca.candidates import candidates
from tca.objective import Objective, ObjectiveConfig, ObjectiveOutput
from tca.projection import Projection, next_token_loss


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "it", TITLES, kind=request.param)


def output_of(made: Any, batch: TrainBatch, **settings: Any) -> ObjectiveOutput:
    """The loss that a training takes."""
    loss = Objective(ObjectiveConfig(**settings), end_token=made.end_token)
    at = loss.positions(made.trie, batch.target_items, pad_to=made.pad_positions_to)
    choices = candidates(made.trie, batch.target_items, at)
    output: ObjectiveOutput = made.loss(batch, at, lambda logits: loss(logits, choices))
    return output


@torch.no_grad()
def rows_of(made: Any, batch: TrainBatch) -> list[tuple[Tensor, int, Tensor]]:
    """Each target alone: tokens of prompt and answer, length of the prompt, losses of all tokens
    but the first, one pass of the language model a row."""
    found = []
    for prompt, real, item in zip(*made.target_prompts(batch), batch.target_items, strict=True):
        answer = made.paths[item]
        tokens = torch.cat([prompt[real], answer[answer >= 0]])
        logits = made.base(input_ids=tokens.unsqueeze(0)).logits[0].double()
        losses = F.cross_entropy(logits[:-1], tokens[1:], reduction="none")
        found.append((tokens, int(real.sum()), losses))
    return found


@pytest.mark.parametrize("name", ["tallrec", "bigrec"])
def test_the_loss_is_the_mean_over_all_tokens_of_prompts_and_answers(
    model: Path, tiny_codes: Tensor, name: str
) -> None:
    made, batch = recommender(name, model, tiny_codes).eval(), some_batch()
    rows = rows_of(made, batch)
    assert len({prompt for _, prompt, _ in rows}) > 1, "some prompts are padded"
    every = torch.cat([losses for _, _, losses in rows])
    output = output_of(made, batch, masked=False)
    assert output.loss.item() == pytest.approx(every.mean().item(), rel=1e-5)
    assert int(output.count) == len(every)
    prompts = torch.cat([losses[: prompt - 1] for _, prompt, losses in rows])
    assert output.parts["prompt"].item() == pytest.approx(prompts.mean().item(), rel=1e-5)


def test_of_one_sequence_it_is_what_transformers_computes_without_masked_labels(
    model: Path, tiny_codes: Tensor
) -> None:
    made = recommender("tallrec", model, tiny_codes).eval()
    (batch, *_) = some_batch().split(len(some_batch().windows.items))
    (row,) = rows_of(made, batch)
    tokens = row[0].unsqueeze(0)
    with torch.no_grad():
        expected = made.base(input_ids=tokens, labels=tokens).loss
    found = output_of(made, batch, masked=False).loss
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_any_objective_of_the_answers_shares_one_mean_with_the_prompts(
    model: Path, tiny_codes: Tensor
) -> None:
    settings: dict[str, Any] = {"name": "msl", "tau": 4.5}
    made, batch = recommender("tallrec", model, tiny_codes).eval(), some_batch()
    plain = recommender("lm", model, tiny_codes).eval()
    answers = output_of(plain, batch, **settings)
    assert "prompt" not in answers.parts
    prompts = torch.cat([losses[: prompt - 1] for _, prompt, losses in rows_of(made, batch)])
    total = answers.loss.item() * int(answers.count) + prompts.sum().item()
    output = output_of(made, batch, **settings)
    assert int(output.count) == int(answers.count) + len(prompts)
    assert output.loss.item() == pytest.approx(total / int(output.count), rel=1e-5)


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_vectors_in_a_prompt_are_no_next_tokens(
    tmp_path: Path, tiny_codes: Tensor, items: str
) -> None:
    model = write_model(tmp_path / "llama", TITLES)
    own = {"items": items, "prompt_loss": True}
    made, batch = recommender("collm", model, tiny_codes, **own).eval(), some_batch()
    output = output_of(made, batch, masked=False)
    prompt, real = made.target_prompts(batch)
    slots = int((prompt < 0).sum())
    answers = int(sum((path >= 0).sum() for path in made.paths[batch.target_items]))
    first = [int(row[real_row][0] >= 0) for row, real_row in zip(prompt, real, strict=True)]
    assert slots > len(prompt)
    assert int(output.count) == int(real.sum()) - slots - sum(first) + answers
    output.loss.backward()  # type: ignore[no-untyped-call]
    assert all(value.grad is not None for value in made.projector.parameters())


def test_it_is_the_default_of_two_rows_and_an_option_of_all() -> None:
    assert TallrecBackbone.prompt_loss
    assert BigrecBackbone.prompt_loss
    assert LanguageModelConfig().prompt_loss is None


@pytest.mark.parametrize("positions", [0, 7])
def test_a_projection_and_its_logits_have_one_loss_and_gradient(positions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(positions, 4, generator=generator).requires_grad_()
    weight = torch.randn(30, 4, generator=generator)
    tokens = torch.from_numpy(np.random.default_rng(0).integers(30, size=positions))
    found = next_token_loss(Projection(states=states, weight=weight), tokens)
    expected = next_token_loss(states @ weight.T, tokens)
    torch.testing.assert_close(found, expected)
    if positions:
        torch.testing.assert_close(expected, F.cross_entropy(states @ weight.T, tokens))
        gradients = [torch.autograd.grad(loss, states)[0] for loss in (found, expected)]
        torch.testing.assert_close(*gradients)
