"""LETTER: its losses against loops, and what it is when they are off."""

import json
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from semid.tokenizers import LETTER, RQVAE
from semid.tokenizers.estimators import Batch
from semid.tokenizers.letter_losses import (
    LetterLosses,
    cluster_codes,
    collaborative_loss,
    diversity_loss,
    other_codes,
)
from semid.tokenizers.training import Quantised

SMALL: dict[str, Any] = {
    "codebook_sizes": (8, 6, 4),
    "hidden_dims": (16,),
    "latent_dim": 4,
    "epochs": 6,
    "batch_size": 25,
}
OFF: dict[str, Any] = {
    "learning_rate": 1e-3,
    "cf_weight": 0.0,
    "diversity_weight": 0.0,
    "sinkhorn_epsilon": 0.0,
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brute_force_collaborative(quantised: Tensor, cf: Tensor) -> float:
    """Section 3.2.2, item by item and candidate by candidate."""
    total = 0.0
    for item in range(len(cf)):
        scores = [float((quantised[item] * other).sum()) for other in cf]
        total -= scores[item] - math.log(sum(math.exp(score) for score in scores))
    return total


def brute_force_diversity(codebook: Tensor, codes: list[int], positives: list[int]) -> float:
    """Section 3.2.3 over all codes but the item's own."""
    total = 0.0
    for code, positive in zip(codes, positives, strict=True):
        if positive >= 0:
            scores = {
                other: float(codebook[code] @ codebook[other])
                for other in range(len(codebook))
                if other != code
            }
            total -= scores[positive] - math.log(sum(map(math.exp, scores.values())))
    return total


def brute_force_reconstruction_and_rq(
    inputs: Tensor, decoded: Tensor, latent: Tensor, codebooks: list[Tensor], codes: Tensor
) -> float:
    total = 0.0
    for item in range(len(inputs)):
        total += float((inputs[item] - decoded[item]).square().sum())
        residual = latent[item]
        for level, codebook in enumerate(codebooks):
            left = residual - codebook[codes[item, level]]
            total += 1.25 * float(left.square().sum())
            residual = left
    return total


def a_batch(items: int, rows: Tensor | None = None) -> Batch:
    rows = torch.arange(items) if rows is None else rows
    return Batch(
        rows=rows,
        inputs=torch.zeros(len(rows), 1),
        progress=0.0,
        generator=generator(),
    )


def quantised_of(output: Tensor, codes: list[Tensor]) -> Quantised:
    return Quantised(output=output, loss=torch.zeros(()), codes=codes, residuals=[])


def losses(cf: Tensor | None, **settings: Any) -> LetterLosses:
    usual = {"latent_dim": 4, "cf_weight": 0.0, "diversity_weight": 0.0, "num_clusters": 3}
    return LetterLosses(cf, **{**usual, "seed": 1, **settings})


def test_the_collaborative_loss_is_the_definition() -> None:
    quantised, cf = randn(7, 4), randn(7, 4, seed=1)
    found = collaborative_loss(quantised, cf, torch.arange(7))
    assert float(found) == pytest.approx(brute_force_collaborative(quantised, cf), rel=1e-5)
    weighted = losses(cf, cf_weight=0.5).of_batch(a_batch(7), quantised_of(quantised, []), [])
    assert float(weighted) == pytest.approx(0.5 * float(found), rel=1e-6)


def test_items_without_a_collaborative_vector_are_left_out_of_the_loss() -> None:
    quantised, cf = randn(7, 4), randn(7, 4, seed=1)
    cf[[2, 5]] = 0.0
    known = torch.tensor([0, 1, 3, 4, 6])
    found = losses(cf, cf_weight=1.0).of_batch(a_batch(7), quantised_of(quantised, []), [])
    expected = brute_force_collaborative(quantised[known], cf[known])
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_another_width_goes_through_a_learned_map() -> None:
    cf = randn(7, 6, seed=1)
    mapped = losses(cf, cf_weight=1.0)
    (weights,) = mapped.parameters()
    assert weights.shape == (4, 6)
    output = randn(7, 4)
    found = mapped.of_batch(a_batch(7), quantised_of(output, []), [])
    expected = brute_force_collaborative(output @ weights, cf)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert not losses(randn(7, 4), cf_weight=1.0).parameters()


def test_the_diversity_loss_is_the_definition() -> None:
    codebook, codes, positives = randn(6, 4), [0, 3, 3, 5, 1], [2, 1, 5, -1, 0]
    chosen = torch.tensor(codes)
    found = diversity_loss(codebook[chosen], codebook, chosen, torch.tensor(positives))
    expected = brute_force_diversity(codebook, codes, positives)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_diversity_of_a_batch_is_the_sum_over_levels_and_moves_codewords_alone() -> None:
    codebooks = [randn(6, 4, seed=seed).requires_grad_() for seed in (1, 2)]
    codes = [torch.tensor([0, 3, 3, 5, 1]), torch.tensor([4, 4, 0, 1, 2])]
    output = randn(5, 4).requires_grad_()
    both = losses(None, diversity_weight=0.7)
    both.begin_epoch([codebook.detach() for codebook in codebooks])
    drawn = torch.get_rng_state()
    state = both._generator.get_state()
    found = both.of_batch(a_batch(5), quantised_of(output, codes), codebooks)
    assert torch.get_rng_state().equal(drawn)
    both._generator.set_state(state)
    uniform = torch.rand(2, 5, generator=both._generator)
    expected = 0.0
    for level in range(2):
        positives = other_codes(codes[level], both._groups[level], uniform[level])
        expected += brute_force_diversity(
            codebooks[level].detach(), codes[level].tolist(), positives.tolist()
        )
    assert float(found.detach()) == pytest.approx(0.7 * expected, rel=1e-5)
    gradients = torch.autograd.grad(found, [output, *codebooks], allow_unused=True)
    assert gradients[0] is None or not gradients[0].any()
    assert all(gradient is not None and gradient.any() for gradient in gradients[1:])


def test_another_code_of_the_group_is_drawn_evenly_and_never_the_code_itself() -> None:
    groups = torch.tensor([0, 1, 0, 2, 0, 1])
    codes = torch.arange(6).repeat(3000)
    uniform = torch.rand(len(codes), generator=generator())
    others = other_codes(codes, groups, uniform)
    for code, expected in enumerate([{2, 4}, {5}, {0, 4}, {-1}, {0, 2}, {1}]):
        found = others[codes == code]
        assert set(found.tolist()) == expected
        for other in expected:
            share = float((found == other).float().mean())
            assert share == pytest.approx(1 / len(expected), abs=0.04)
    edge = torch.tensor([0.0, 0.99999994])
    assert (other_codes(torch.tensor([0, 0]), groups, edge) > 0).all()


@pytest.mark.parametrize(("codes", "clusters"), [(256, 10), (64, 10), (9, 10), (3, 10), (2, 5)])
def test_groups_of_codes_keep_their_bounds(codes: int, clusters: int) -> None:
    group_of_code = cluster_codes(randn(codes, 4), clusters, generator())
    sizes = torch.bincount(group_of_code)
    even = codes / min(clusters, codes // 2)
    assert sizes.min() >= min(2, codes)
    assert sizes.min() >= int(even / 2)
    assert sizes.max() <= 2 * even + 1
    assert len(sizes) <= clusters


def test_a_level_of_one_code_has_no_diversity() -> None:
    assert cluster_codes(randn(1, 4), 10, generator()).tolist() == [0]
    tokenizer = LETTER(**{**SMALL, "codebook_sizes": (4, 1)}).fit(
        randn(30, 5), cf_embeddings=randn(30, 4, seed=1)
    )
    assert all(math.isfinite(entry["loss"]) for entry in tokenizer.history_)


@pytest.mark.parametrize("cf", [None, randn(60, 4, seed=1)])
def test_with_both_weights_zero_and_no_sinkhorn_it_is_rqvae_bit_for_bit(cf: Tensor | None) -> None:
    vectors = randn(60, 6)
    plain = RQVAE(**SMALL).fit(vectors)
    letter = LETTER(**SMALL, **OFF).fit(vectors, cf_embeddings=cf)
    assert plain.learned.keys() == letter.learned.keys()
    for name, value in plain.learned.items():
        assert letter.learned[name].equal(value), name
    assert letter.encode(vectors).equal(plain.encode(vectors))
    assert letter.history_ == plain.history_


class FirstStep:
    """What the first step of `LETTER(**SMALL)` finds, all items in one batch."""

    settings: ClassVar[dict[str, Any]] = {
        **{**SMALL, "epochs": 1, "batch_size": 20},
        **{"sinkhorn_epsilon": 0.0, "num_clusters": 2},
    }
    vectors, cf = randn(20, 6), randn(20, 4, seed=1)

    def __init__(self) -> None:
        start = RQVAE(**{**SMALL, "epochs": 0}).fit(self.vectors)
        learned = start.learned
        self.inputs = (self.vectors - learned["mean"]) / learned["std"]
        self.latent = start._latents(self.inputs, learned)
        self.codes = start.encode(self.vectors)
        self.codebooks = [learned[f"codebook.{level}"] for level in range(3)]
        chosen = [self.codebooks[level][self.codes[:, level]] for level in range(3)]
        self.quantised = torch.stack(chosen).sum(dim=0)
        self.decoded = start._decoded(self.quantised, learned)
        self.order = torch.randperm(20, generator=order_generator(start))

    def diversity(self) -> list[float]:
        """Of each level, summed over the items."""
        more = losses(self.cf, num_clusters=2, diversity_weight=1.0)
        more.begin_epoch(self.codebooks)
        uniform = torch.rand(3, 20, generator=more._generator)
        found = []
        for level, codebook in enumerate(self.codebooks):
            chosen = self.codes[self.order, level]
            positives = other_codes(chosen, more._groups[level], uniform[level])
            found.append(brute_force_diversity(codebook, chosen.tolist(), positives.tolist()))
        return found

    def loss(self, **weights: float) -> float:
        """What LETTER has."""
        letter = LETTER(**self.settings, **weights).fit(self.vectors, cf_embeddings=self.cf)
        return float(letter.history_[0]["loss"])


def test_the_loss_of_a_step_is_the_sum_of_its_terms() -> None:
    step = FirstStep()
    expected = brute_force_reconstruction_and_rq(
        step.inputs, step.decoded, step.latent, step.codebooks, step.codes
    )
    expected += 0.6 * brute_force_collaborative(step.quantised, step.cf)
    expected += 0.4 * sum(step.diversity())
    found = step.loss(cf_weight=0.6, diversity_weight=0.4)
    assert found == pytest.approx(expected / 20, rel=1e-4)


def test_the_weights_of_sums_restore_the_balance_of_the_papers_code() -> None:
    step, (items, width), latent_dim, levels = FirstStep(), (20, 6), 4, 3
    alpha, beta = 0.02, 0.3
    diversity = step.diversity()
    expected = float((step.inputs - step.decoded).square().mean())
    residual = step.latent
    for level, codebook in enumerate(step.codebooks):
        left = residual - codebook[step.codes[:, level]]
        of_level = 1.25 * float(left.square().mean()) + beta * diversity[level] / items
        expected += of_level / levels
        residual = left
    expected += alpha * brute_force_collaborative(step.quantised, step.cf) / items
    found = step.loss(
        quant_loss_weight=width / (latent_dim * levels),
        diversity_weight=latent_dim * beta,
        cf_weight=width * alpha,
    )
    assert found == pytest.approx(width * expected, rel=1e-4)
    assert 4096 / (32 * 4) == 32, "the quant_loss_weight of 4096 inputs that the docs name"
    assert pytest.approx(LETTER().latent_dim * 1e-4) == LETTER().diversity_weight


def test_the_commitment_of_every_level_reaches_the_encoder() -> None:
    step = FirstStep()
    latent = step.latent.detach().clone().requires_grad_()
    fixed = [codebook.detach() for codebook in step.codebooks]  # so that commitment is all there is
    letter = LETTER(**step.settings, quant_loss_weight=3.0)
    letter._quantise(latent, fixed, a_batch(20)).loss.backward()  # type: ignore[no-untyped-call]
    expected, residual = torch.zeros_like(step.latent), step.latent.detach()
    for level, codebook in enumerate(fixed):
        residual = residual - codebook[step.codes[:, level]]
        expected += 3.0 * 0.25 * 2 * residual
    torch.testing.assert_close(latent.grad, expected)


def test_a_letter_from_before_the_weight_of_quantisation_is_read_as_it_was(tmp_path: Path) -> None:
    made = LETTER(**SMALL, diversity_weight=1e-4).fit(randn(60, 6), cf_embeddings=randn(60, 4))
    made.save_pretrained(tmp_path / "letter")
    config = json.loads((tmp_path / "letter" / "config.json").read_text())
    assert "quant_loss_weight" not in config["settings"], "its hash is that of older versions"
    again = LETTER.from_pretrained(tmp_path / "letter")
    assert (again.quant_loss_weight, again.diversity_weight) == (1.0, 1e-4)
    heavier = LETTER(**SMALL, diversity_weight=1e-4, quant_loss_weight=2.0)
    heavier.fit(randn(60, 6), cf_embeddings=randn(60, 4))
    heavier.save_pretrained(tmp_path / "heavier")
    assert LETTER.from_pretrained(tmp_path / "heavier").quant_loss_weight == 2.0
    assert heavier.provenance.content != made.provenance.content


def order_generator(tokenizer: RQVAE) -> torch.Generator:
    """The generator after the initial weights were drawn, as the first epoch finds it."""
    drawn = generator(tokenizer.seed)
    tokenizer._networks(6, drawn)
    return drawn


def test_collaborative_vectors_shape_the_first_codes() -> None:
    planted = torch.arange(120) % 6
    cf = F.one_hot(planted, 6).float() * 3
    topics = randn(6, 8, seed=3)[planted]  # faint in the embeddings beside another grouping
    vectors = topics + 3 * randn(5, 8, seed=4)[torch.arange(120) % 5] + 0.3 * randn(120, 8)
    settings = {**SMALL, "codebook_sizes": (6, 6), "epochs": 40, "latent_dim": 6}

    def agreement(weight: float) -> float:
        tokenizer = LETTER(**settings, cf_weight=weight, learning_rate=3e-3)
        first = tokenizer.fit(vectors, cf_embeddings=cf).encode(vectors)[:, 0]
        same = first[:, None] == first
        return float(same[planted[:, None] == planted].float().mean() / same.float().mean())

    assert agreement(20.0) > 1.5 * agreement(0.0)


def test_sinkhorn_shares_the_last_level_evenly_in_training_and_encoding_is_the_nearest() -> None:
    vectors = randn(400, 6)
    settings = {**SMALL, "batch_size": 400, "epochs": 1, "cf_weight": 0.0}
    even = LETTER(**settings).fit(vectors).history_[0]["perplexity"]
    plain = LETTER(**{**settings, "sinkhorn_epsilon": 0.0}).fit(vectors).history_[0]["perplexity"]
    assert even[:2] == plain[:2]
    assert plain[2] < even[2]
    assert even[2] > 3.95
    tokenizer = LETTER(**settings).fit(vectors)
    codes = tokenizer.encode(vectors)
    assert tokenizer.costs(vectors, codes[:, :2]).argmin(dim=1).equal(codes[:, 2])
    assert tokenizer.encode(vectors[:7]).equal(codes[:7]), "an item's codes are its own"


@pytest.mark.parametrize(
    ("settings", "cf", "message"),
    [
        ({}, None, "expected cf_embeddings for cf_weight 1"),
        ({}, torch.zeros(60, 4), "got zeros throughout"),
        ({}, randn(59, 4), "same 60 items"),
        ({}, torch.full((60, 4), math.nan), "finite cf_embeddings"),
        ({"codebook_update": "ema"}, randn(60, 4), "codebook_update='gradient', got 'ema'"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(
    settings: dict[str, Any], cf: Tensor | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LETTER(**{**SMALL, "cf_weight": 1.0, **settings}).fit(randn(60, 6), cf_embeddings=cf)


def test_moving_averages_serve_where_there_is_no_diversity_loss() -> None:
    settings = {**SMALL, "codebook_update": "ema", "diversity_weight": 0.0}
    tokenizer = LETTER(**settings).fit(randn(60, 6), cf_embeddings=randn(60, 4, seed=1))
    assert len(tokenizer.history_) == SMALL["epochs"]
