import torch

from semid.collisions import collision_report, resolve_collisions
from semid.tokenizers import RandomTokenizer


def test_codes_are_uniform() -> None:
    items = torch.zeros(20_000, 1)
    codes = RandomTokenizer(codebook_sizes=(4, 2)).fit(items).encode(items)
    for level, size in enumerate((4, 2)):
        share = torch.bincount(codes[:, level], minlength=size) / len(items)
        torch.testing.assert_close(share, torch.full((size,), 1 / size), atol=0.02, rtol=0)


def test_codes_know_nothing_of_the_embeddings() -> None:
    tokenizer = RandomTokenizer().fit(torch.zeros(9, 2))
    assert tokenizer.encode(torch.zeros(9, 2)).equal(tokenizer.encode(torch.ones(9, 2)))


def test_another_seed_draws_other_codes() -> None:
    items = torch.zeros(9, 1)
    first, second = (RandomTokenizer(seed=seed).fit(items).encode(items) for seed in (0, 1))
    assert not first.equal(second)


def test_an_extra_level_separates_what_chance_put_together() -> None:
    items = torch.zeros(50, 1)
    codes = RandomTokenizer(codebook_sizes=(3, 3)).fit(items).encode(items)
    assert collision_report(codes).distinct < 50
    assert collision_report(resolve_collisions(codes, (3, 3), "extra_level").codes).distinct == 50
