import pytest
import torch
from torch import Tensor

from semid.tokenizers import residual
from semid.tokenizers.balanced import balanced_kmeans
from semid.tokenizers.kmeans import (
    CHUNK,
    cluster_means,
    kmeans,
    mean_of,
    nearest,
    require_distinct,
    squared_distances,
)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_distances_are_the_definition() -> None:
    vectors, codebook = drawn(30, 4), drawn(7, 4, seed=1)
    expected = (vectors[:, None] - codebook).square().sum(dim=2)
    torch.testing.assert_close(squared_distances(vectors, codebook), expected)
    assert (squared_distances(vectors, vectors) >= 0).all()


def test_prices_turn_items_away() -> None:
    codebook = torch.tensor([[0.0], [1.0]])
    vectors = torch.tensor([[0.1], [0.9]])
    assert nearest(vectors, codebook).tolist() == [0, 1]
    assert nearest(vectors, codebook, prices=torch.tensor([0.5, 0.0])).tolist() == [0, 1]
    assert nearest(vectors, codebook, prices=torch.tensor([0.9, 0.0])).tolist() == [1, 1]


@pytest.mark.parametrize(("dim", "codes"), [(2, 3), (32, 256), (100, 8)])
def test_a_code_does_not_depend_on_the_rows_beside_it(dim: int, codes: int) -> None:
    vectors, codebook = drawn(CHUNK + 77, dim), drawn(codes, dim, seed=1)
    codebooks = [codebook, codebook / 2]
    whole = squared_distances(vectors, codebook)
    assert residual.residual_codes(vectors[-5:], codebooks).equal(
        residual.residual_codes(vectors, codebooks)[-5:]
    )
    for rows in (slice(0, 1), slice(CHUNK - 3, CHUNK + 4), slice(100, 117)):
        assert squared_distances(vectors[rows], codebook).equal(whole[rows])
        assert nearest(vectors[rows], codebook).equal(nearest(vectors, codebook)[rows])


def test_means_are_of_each_cluster_and_an_empty_one_stays() -> None:
    vectors, codes = torch.tensor([[1.0], [2.0], [6.0]]), torch.tensor([0, 2, 2])
    codebook = torch.tensor([[9.0], [8.0], [7.0]])
    assert cluster_means(vectors, codes, codebook).tolist() == [[1.0], [8.0], [4.0]]


def test_the_mean_is_summed_in_double() -> None:
    vectors = torch.tensor([[1e8], [1.0], [-1e8], [2.0]]).repeat(CHUNK, 1)
    assert mean_of(vectors).tolist() == [0.75]


def test_levels_without_codes_are_refused() -> None:
    for sizes in ((), (4, 0), (-1,)):
        with pytest.raises(ValueError, match="levels of at least one code"):
            require_distinct(drawn(9, 2), sizes)


def crowded(items: int = 900) -> Tensor:
    """Half of the items in a dense cloud amid the others."""
    vectors = drawn(items, 6)
    vectors[: items // 2] *= 4
    return vectors


@pytest.mark.parametrize("size", [1, 7, 30])
def test_balanced_clusters_have_near_equal_sizes(size: int) -> None:
    vectors = crowded()
    codebook, prices = balanced_kmeans(vectors, size, iterations=10, seed=0)
    plain = kmeans(vectors, size, iterations=10, seed=0)
    share = len(vectors) / size
    largest = int(nearest(vectors, codebook, prices=prices).bincount().max())
    assert largest <= 1.25 * share
    assert size == 1 or int(nearest(vectors, plain).bincount().max()) > 1.5 * share
    assert (prices >= 0).all()


def test_balance_costs_little_error() -> None:
    vectors = drawn(900, 6)
    codebook, prices = balanced_kmeans(vectors, 30, iterations=10, seed=0)
    plain = kmeans(vectors, 30, iterations=10, seed=0)
    errors = [
        float((vectors - book[nearest(vectors, book, prices=price)]).square().sum())
        for book, price in ((codebook, prices), (plain, None))
    ]
    assert errors[0] < 1.1 * errors[1]


def test_equal_vectors_cannot_be_parted_and_do_not_hang() -> None:
    vectors = torch.cat([torch.zeros(50, 2), drawn(30, 2)])
    codebook, prices = balanced_kmeans(vectors, 8, iterations=3, seed=0)
    codes = nearest(vectors, codebook, prices=prices)
    assert len(codes[:50].unique()) == 1
    assert codebook.isfinite().all()
    assert prices.isfinite().all()
