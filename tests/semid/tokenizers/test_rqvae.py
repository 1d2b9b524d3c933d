import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.tokenizers import RQVAE
from semid.tokenizers.residual import codebooks_of
from semid.tokenizers.rqvae import _mlp, _restart_unused, _standardisation

SMALL: dict[str, Any] = {"codebook_sizes": (8, 4), "hidden_dims": (16,), "latent_dim": 4}


def like_sentence_vectors(items: int = 1500, dim: int = 32) -> Tensor:
    """Unit vectors that nearly coincide, as a sentence encoder gives for one shop's products."""
    gen = torch.Generator().manual_seed(0)
    topics = torch.randn(60, dim, generator=gen)
    spread = topics[torch.randint(60, (items,), generator=gen)]
    spread = spread + 0.7 * torch.randn(items, dim, generator=gen)
    return F.normalize(10 * torch.randn(dim, generator=gen) + 0.1 * spread, dim=1)


def test_no_collapse_on_raw_unit_vectors_close_to_their_mean() -> None:
    vectors = like_sentence_vectors()
    assert float(vectors.var(dim=0).max()) < 1e-4
    tokenizer = RQVAE(
        codebook_sizes=(32, 32, 32),
        hidden_dims=(32,),
        latent_dim=16,
        epochs=40,
        batch_size=256,
    ).fit(vectors)
    codes = tokenizer.encode(vectors)
    for level in range(3):
        assert len(torch.unique(codes[:, level])) >= 0.9 * 32
    history = tokenizer.history_
    assert history[-1]["reconstruction"] < 0.7 * history[0]["reconstruction"]


def test_losses_and_gradients_are_the_definition() -> None:
    gen = torch.Generator().manual_seed(0)
    batch = torch.randn(20, 6, generator=gen)
    tokenizer = RQVAE(**SMALL, epochs=2).fit(batch)
    learned = {name: value.clone().requires_grad_() for name, value in tokenizer.learned.items()}
    quantised, loss, codes = tokenizer._quantise(batch, learned)

    latent = _mlp(batch, learned, "encoder")
    codeword_sum, expected = torch.zeros(20, 4), torch.zeros(())
    residual = latent
    for level, codebook in enumerate(codebooks_of(learned)):
        for row in range(20):
            codeword = codebook[codes[level][row]]
            expected = expected + (residual[row].detach() - codeword).square().sum()
            expected = expected + 0.25 * (residual[row] - codeword.detach()).square().sum()
            codeword_sum[row] += codeword.detach()
        residual = residual - codebook[codes[level]].detach()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(quantised.detach(), codeword_sum)

    names = [name for name in learned if name.startswith(("encoder", "codebook"))]
    leaves = [learned[name] for name in names]
    for got, want in zip(
        torch.autograd.grad(loss, leaves, retain_graph=True),
        torch.autograd.grad(expected, leaves, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(got, want)
    straight = torch.autograd.grad(quantised.sum(), learned["encoder.0.weight"], retain_graph=True)
    through = torch.autograd.grad(latent.sum(), learned["encoder.0.weight"])
    torch.testing.assert_close(straight, through)


def test_encoding_is_that_of_the_codes_that_training_used() -> None:
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    tokenizer = RQVAE(**SMALL, epochs=3).fit(vectors)
    learned = tokenizer.learned
    inputs = (vectors - learned["mean"]) / learned["std"]
    _, _, codes = tokenizer._quantise(inputs, learned)
    assert tokenizer.encode(vectors).equal(torch.stack(codes, dim=1))


def test_a_constant_dimension_is_left_unscaled() -> None:
    vectors = torch.tensor([[0.1, 0.0, 1.0], [0.1, 0.0, 3.0]])
    mean, std = _standardisation(vectors)
    torch.testing.assert_close(mean, torch.tensor([0.1, 0.0, 2.0]))
    torch.testing.assert_close(std, torch.ones(3))


def test_restart_moves_unused_codes_onto_residuals_and_no_other() -> None:
    latents = torch.tensor([[0.0], [0.1], [5.0]])
    codebook = torch.tensor([[0.0], [900.0], [5.0], [-900.0]])
    _restart_unused(latents, [codebook], torch.Generator().manual_seed(0))
    assert codebook[[0, 2]].tolist() == [[0.0], [5.0]]
    assert all(code in latents for code in codebook[[1, 3]])


def test_restarts_stop_before_the_last_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = RQVAE(**SMALL, epochs=8, restart_every=2)
    at_epoch: list[int] = []
    monkeypatch.setattr(
        "semid.tokenizers.rqvae._restart_unused",
        lambda *_: at_epoch.append(len(tokenizer.history_) + 1),
    )
    tokenizer.fit(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)))
    assert at_epoch == [2, 4, 6]


def test_progress_is_told_while_it_is_made(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = RQVAE(**SMALL, epochs=3)
    seen: list[tuple[dict[str, Any], int]] = []
    tokenizer.on_epoch = lambda entry: seen.append((entry, len(tokenizer.history_)))
    with caplog.at_level(logging.INFO):
        tokenizer.fit(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)))
    assert [entry for entry, _ in seen] == tokenizer.history_
    assert [count for _, count in seen] == [1, 2, 3]
    assert [entry["epoch"] for entry, _ in seen] == [1, 2, 3]
    assert all(0 < share <= 1 for entry, _ in seen for share in entry["utilisation"])
    assert "epoch 3 of 3" in caplog.text


def test_what_was_learned_needs_no_gradient() -> None:
    tokenizer = RQVAE(**SMALL, epochs=1)
    tokenizer.fit(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)))
    assert not any(value.requires_grad for value in tokenizer.learned.values())
