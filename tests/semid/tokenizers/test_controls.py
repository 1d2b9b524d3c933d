import pytest
import torch
from torch import Tensor

from semid.collisions import collision_report, resolve_collisions
from semid.tokenizers import AtomicTokenizer, NotFittedError, RandomTokenizer


def different(items: int, dim: int = 3) -> Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(0))


def test_codes_are_uniform_and_levels_independent() -> None:
    items = torch.arange(20_000.0)[:, None]
    codes = RandomTokenizer(codebook_sizes=(4, 3)).fit(items).encode(items)
    pairs = torch.bincount(3 * codes[:, 0] + codes[:, 1], minlength=12) / len(items)
    torch.testing.assert_close(pairs, torch.full((12,), 1 / 12), atol=0.01, rtol=0)


def test_codes_follow_the_embedding_and_not_its_row() -> None:
    items = different(200)
    tokenizer = RandomTokenizer().fit(items)
    codes = tokenizer.encode(items)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(1))
    assert tokenizer.encode(items[order]).equal(codes[order])
    assert tokenizer.encode(items[7:8]).equal(codes[7:8])


def test_codes_of_a_seed_are_the_same_on_every_machine() -> None:
    items = torch.tensor([[0.0, 1.0], [-2.5, 3.25]])
    codes = RandomTokenizer(seed=3).fit(items).encode(items)
    assert codes.tolist() == [[151, 53, 85], [182, 88, 141]]


def test_another_seed_draws_other_codes() -> None:
    items = different(9)
    first, second = (RandomTokenizer(seed=seed).fit(items).encode(items) for seed in (0, 1))
    assert not first.equal(second)


def test_an_extra_level_separates_what_chance_put_together() -> None:
    items = different(50)
    codes = RandomTokenizer(codebook_sizes=(3, 3)).fit(items).encode(items)
    assert collision_report(codes).distinct < 50
    assert collision_report(resolve_collisions(codes, (3, 3), "extra_level").codes).distinct == 50


def test_atomic_codes_number_the_distinct_embeddings_in_any_order() -> None:
    items = different(30)
    twice = torch.cat([items, items[:5]])
    tokenizer = AtomicTokenizer().fit(twice)
    codes = tokenizer.encode(twice)
    assert tokenizer.codebook_sizes == (30,)
    assert sorted(codes[:30, 0].tolist()) == list(range(30))
    assert codes[30:].equal(codes[:5])
    assert AtomicTokenizer().fit(items.flip(0)).encode(items).equal(codes[:30])


def test_atomic_codes_know_only_their_own_items() -> None:
    items = different(30)
    tokenizer = AtomicTokenizer().fit(items[:20])
    with pytest.raises(ValueError, match="got 10 others, first in row 20"):
        tokenizer.encode(items)


def test_atomic_sizes_are_known_once_fitted() -> None:
    with pytest.raises(NotFittedError, match="AtomicTokenizer has learned nothing"):
        AtomicTokenizer().codebook_sizes  # noqa: B018
