import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.tokenizers import RQVAE
from semid.tokenizers.estimators import ESTIMATORS, Batch
from semid.tokenizers.residual import codebooks_of
from semid.tokenizers.rqvae import _mlp, _standardisation
from semid.tokenizers.starts import STARTS
from semid.tokenizers.training import CODEBOOK_UPDATES

SMALL: dict[str, Any] = {"codebook_sizes": (8, 4), "hidden_dims": (16,), "latent_dim": 4}


def like_sentence_vectors(items: int = 1500, dim: int = 32) -> Tensor:
    """Unit vectors that nearly coincide, as a sentence encoder gives for one shop's products."""
    gen = torch.Generator().manual_seed(0)
    topics = torch.randn(60, dim, generator=gen)
    spread = topics[torch.randint(60, (items,), generator=gen)]
    spread = spread + 0.7 * torch.randn(items, dim, generator=gen)
    return F.normalize(10 * torch.randn(dim, generator=gen) + 0.1 * spread, dim=1)


def batch_of(inputs: Tensor) -> Batch:
    return Batch(
        rows=torch.arange(len(inputs)),
        inputs=inputs,
        progress=0.0,
        generator=torch.Generator().manual_seed(0),
    )


def two_codes_an_item() -> Tensor:
    """Six groups of four items, none near the border of two codes."""
    gen = torch.Generator().manual_seed(2)
    groups = 3 * torch.randn(6, 5, generator=gen)
    return groups[torch.arange(24) % 6] + 0.5 * torch.randn(24, 5, generator=gen)


def test_default_settings_learn_what_they_always_did() -> None:
    tokenizer = RQVAE(codebook_sizes=(4, 3), hidden_dims=(8,), latent_dim=3, epochs=20)
    codes = tokenizer.fit(two_codes_an_item()).encode(two_codes_an_item())
    paths = [7, 11, 9, 4, 5, 1, 7, 11, 4, 4, 5, 1, 7, 11, 9, 4, 5, 1, 7, 10, 9, 4, 5, 2]
    assert (codes[:, 0] * 3 + codes[:, 1]).tolist() == paths
    total = sum(float(value.double().sum()) for value in tokenizer.learned.values())
    assert total == pytest.approx(8.5718, rel=2e-3)  # processors differ by a tenth of that


def every_strategy_once() -> list[dict[str, str]]:
    return [
        *({"estimator": name} for name in ESTIMATORS),
        *({"codebook_update": name, "estimator": "rotation"} for name in CODEBOOK_UPDATES),
        *({"start": name, "codebook_update": "ema"} for name in STARTS),
    ]


@pytest.mark.parametrize("strategy", every_strategy_once(), ids=str)
def test_every_strategy_learns_without_collapse(strategy: dict[str, str]) -> None:
    vectors = like_sentence_vectors(items=600, dim=16)
    tokenizer = RQVAE(
        codebook_sizes=(32, 16),
        hidden_dims=(32,),
        latent_dim=8,
        epochs=25,
        batch_size=100,
        learning_rate=4e-3,
        restart_every=3,
        **strategy,  # type: ignore[arg-type]
    ).fit(vectors)
    codes = tokenizer.encode(vectors)
    assert len(codes[:, 0].unique()) >= 30
    assert len(codes[:, 1].unique()) >= 15
    history = tokenizer.history_
    assert history[-1]["reconstruction"] < 0.8 * history[0]["reconstruction"]


def test_a_balanced_start_gives_every_code_its_share() -> None:
    vectors = like_sentence_vectors(items=600, dim=16)
    tokenizer = RQVAE(codebook_sizes=(30, 4), hidden_dims=(16,), epochs=0, start="balanced")
    sizes = torch.bincount(tokenizer.fit(vectors).encode(vectors)[:, 0], minlength=30)
    plain = RQVAE(codebook_sizes=(30, 4), hidden_dims=(16,), epochs=0).fit(vectors)
    assert sizes.max() < torch.bincount(plain.encode(vectors)[:, 0]).max()


def test_costs_are_squared_distances_to_what_is_left_of_the_latent() -> None:
    vectors = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    tokenizer = RQVAE(**SMALL, epochs=3).fit(vectors)
    learned, codes = tokenizer.learned, tokenizer.encode(vectors)
    first, second = codebooks_of(learned)
    latent = _mlp((vectors - learned["mean"]) / learned["std"], learned, "encoder")
    for item in range(40):
        left = latent[item] - first[codes[item, 0]]
        for code in range(4):
            expected = float((left - second[code]).square().sum())
            found = float(tokenizer.costs(vectors, codes[:, :1])[item, code])
            assert found == pytest.approx(expected, abs=1e-4)
    assert tokenizer.costs(vectors, codes[:, :0]).argmin(dim=1).equal(codes[:, 0])
    assert tokenizer.costs(vectors, codes[:, :1]).argmin(dim=1).equal(codes[:, 1])


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
    latent = _mlp(batch, learned, "encoder")
    found = tokenizer._quantise(latent, codebooks_of(learned), batch_of(batch))
    quantised, loss, codes = found.output, found.loss, found.codes

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
    latent = _mlp(inputs, learned, "encoder")
    found = tokenizer._quantise(latent, codebooks_of(learned), batch_of(inputs))
    assert tokenizer.encode(vectors).equal(torch.stack(found.codes, dim=1))


def test_a_constant_dimension_is_left_unscaled() -> None:
    vectors = torch.tensor([[0.1, 0.0, 1.0], [0.1, 0.0, 3.0]])
    mean, std = _standardisation(vectors)
    torch.testing.assert_close(mean, torch.tensor([0.1, 0.0, 2.0]))
    torch.testing.assert_close(std, torch.ones(3))


def test_restarts_stop_before_the_last_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = RQVAE(**SMALL, epochs=8, restart_every=2)
    at_epoch: list[int] = []
    monkeypatch.setattr(
        "semid.tokenizers.training.restart_unused",
        lambda *_: at_epoch.append(len(tokenizer.history_) + 1) or [],
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
    for entry, _ in seen:
        for size, even in zip(SMALL["codebook_sizes"], entry["perplexity"], strict=True):
            assert 1 <= even <= size + 1e-9
    assert "epoch 3 of 3" in caplog.text


def test_what_was_learned_needs_no_gradient() -> None:
    tokenizer = RQVAE(**SMALL, epochs=1)
    tokenizer.fit(torch.randn(30, 6, generator=torch.Generator().manual_seed(0)))
    assert not any(value.requires_grad for value in tokenizer.learned.values())
