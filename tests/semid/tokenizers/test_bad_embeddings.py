"""What schemes that train say about embeddings they cannot learn codes from."""

from typing import Any

import pytest
import torch
from torch import Tensor

from semid.tokenizers import LETTER, RQVAE, RVQ
from semid.tokenizers.starts import STARTS
from semid.tokenizers.training import ResidualVQ

NETWORK: dict[str, Any] = {"hidden_dims": (8,), "latent_dim": 4}


def schemes(**settings: Any) -> list[ResidualVQ]:
    return [
        RQVAE(**NETWORK, epochs=4, **settings),
        RVQ(epochs=4, **settings),
        LETTER(**NETWORK, epochs=4, cf_weight=0.0, **settings),
    ]


def randn(items: int, dim: int = 5) -> Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(
    ("vectors", "distinct"),
    [(randn(6), 6), (torch.ones(50, 5), 1), (randn(1), 1), (randn(3).repeat(9, 1), 3)],
    ids=["fewer items than codes", "identical", "one item", "three texts"],
)
def test_too_few_distinct_items_say_what_to_choose(
    start: str, place: int, vectors: Tensor, distinct: int
) -> None:
    tokenizer = schemes(codebook_sizes=(8, 2), start=start)[place]
    with pytest.raises(ValueError, match=f"got {distinct} distinct.*Choose sizes of at most"):
        tokenizer.fit(vectors)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("place", range(3))
def test_one_item_and_identical_items_have_one_code(start: str, place: int) -> None:
    for vectors in (randn(1), torch.ones(30, 5)):
        tokenizer = schemes(codebook_sizes=(1, 1), start=start)[place].fit(vectors)
        assert not tokenizer.encode(vectors).any()
        assert all(value.isfinite().all() for value in tokenizer.learned.values())


@pytest.mark.parametrize("place", range(3))
def test_constant_dimensions_change_no_code(place: int) -> None:
    vectors = randn(60)
    wider = torch.cat([vectors, torch.full((60, 2), 3.0)], dim=1)
    tokenizer = schemes(codebook_sizes=(8, 4))[place].fit(wider)
    assert all(value.isfinite().all() for value in tokenizer.learned.values())
    assert len(tokenizer.encode(wider).unique(dim=0)) > 8


@pytest.mark.parametrize("place", range(3))
def test_nan_is_named_by_its_row(place: int) -> None:
    vectors = randn(60)
    vectors[41, 2] = float("nan")
    with pytest.raises(ValueError, match="first in row 41"):
        schemes(codebook_sizes=(8, 4))[place].fit(vectors)


@pytest.mark.parametrize("place", range(3))
def test_as_many_codes_as_items_and_a_level_of_more_than_are_left_to_tell_apart(
    place: int,
) -> None:
    tokenizer = schemes(codebook_sizes=(8, 8, 8), restart_every=1)[place].fit(randn(8))
    assert tokenizer.encode(randn(8)).shape == (8, 3)
