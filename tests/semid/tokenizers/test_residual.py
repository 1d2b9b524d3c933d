import pytest
import torch
from torch import Tensor

from semid.tokenizers.residual import (
    balanced_residual_kmeans,
    nearest,
    reconstruct,
    residual_codes,
    residual_costs,
    residual_kmeans,
)


def brute_force_codes(vectors: Tensor, codebooks: list[Tensor]) -> Tensor:
    rows = []
    for vector in vectors:
        residual, row = vector.clone(), []
        for codebook in codebooks:
            distances = [float((residual - codeword).square().sum()) for codeword in codebook]
            row.append(min(range(len(distances)), key=distances.__getitem__))
            residual = residual - codebook[row[-1]]
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("sizes", [(1,), (5,), (4, 7, 2)])
@pytest.mark.parametrize("scale", [0.01, 30.0])
def test_residual_codes_are_the_definition(sizes: tuple[int, ...], scale: float) -> None:
    gen = torch.Generator().manual_seed(sum(sizes))
    vectors = scale * torch.randn(50, 3, generator=gen)
    codebooks = [scale * torch.randn(size, 3, generator=gen) for size in sizes]
    assert residual_codes(vectors, codebooks).equal(brute_force_codes(vectors, codebooks))


def test_ties_go_to_the_lowest_index() -> None:
    codebook = torch.tensor([[9.0], [1.0], [1.0], [-1.0]])
    assert nearest(torch.tensor([[0.0], [1.0]]), codebook).tolist() == [1, 1]


def test_reconstruction_is_the_sum_of_codewords() -> None:
    codebooks = [torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[0.0, 10.0]])]
    assert reconstruct(torch.tensor([[1, 0], [0, 0]]), codebooks).tolist() == [[2, 10], [1, 10]]


def test_each_level_of_kmeans_leaves_less_over() -> None:
    vectors = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    codebooks = residual_kmeans(vectors, (8, 8, 8), iterations=10, seed=0)
    codes = residual_codes(vectors, codebooks)
    left = [
        float((vectors - reconstruct(codes[:, :depth], codebooks[:depth])).square().sum())
        for depth in range(1, 4)
    ]
    assert float(vectors.square().sum()) > left[0] > left[1] > left[2]


def test_planted_clusters_are_found() -> None:
    gen = torch.Generator().manual_seed(0)
    coarse = 100 * torch.randn(4, 8, generator=gen)
    fine = torch.randn(3, 8, generator=gen)
    group = torch.randint(4, (200,), generator=gen)
    vectors = coarse[group] + fine[torch.randint(3, (200,), generator=gen)]
    codes = residual_codes(vectors, residual_kmeans(vectors, (4, 3), iterations=25, seed=0))
    assert len(torch.unique(torch.stack([group, codes[:, 0]], dim=1), dim=0)) == 4


def test_too_few_distinct_items_say_what_to_choose() -> None:
    vectors = torch.tensor([[0.0], [1.0], [1.0]])
    with pytest.raises(ValueError, match=r"got 2 distinct embeddings of 3 items.*at most 2"):
        residual_kmeans(vectors, (2, 3), iterations=1, seed=0)
    assert len(residual_kmeans(vectors, (2, 2), iterations=1, seed=0)) == 2


def test_kmeans_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    vectors = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    residual_kmeans(vectors, (16, 16), iterations=5, seed=0)
    assert capfd.readouterr() == ("", "")


def every_path(sizes: tuple[int, ...]) -> Tensor:
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes)).view(-1, len(sizes))


@pytest.mark.parametrize("sizes", [(5,), (4, 3), (3, 4, 2)])
def test_a_beam_of_all_prefixes_finds_the_best_path(sizes: tuple[int, ...]) -> None:
    gen = torch.Generator().manual_seed(sum(sizes))
    vectors = torch.randn(70, 3, generator=gen)
    codebooks = [torch.randn(size, 3, generator=gen) for size in sizes]
    paths = every_path(sizes)
    errors = (vectors[:, None] - reconstruct(paths, codebooks)).square().sum(dim=2)
    found = residual_codes(vectors, codebooks, beam=len(paths))
    assert found.equal(paths[errors.argmin(dim=1)])


def brute_force_beam(vector: Tensor, codebooks: list[Tensor], beam: int) -> list[int]:
    prefixes: list[tuple[int, ...]] = [()]
    for level in range(len(codebooks)):
        longer = [(*prefix, k) for prefix in prefixes for k in range(len(codebooks[level]))]
        words = [sum(codebooks[i][k] for i, k in enumerate(path)) for path in longer]
        errors = [float((vector - word).square().sum()) for word in words]
        kept = sorted(range(len(longer)), key=errors.__getitem__)[:beam]
        prefixes = [longer[place] for place in kept]
    return list(prefixes[0])


@pytest.mark.parametrize("beam", [1, 2, 3, 7])
def test_a_beam_keeps_the_prefixes_that_leave_least_over(beam: int) -> None:
    gen = torch.Generator().manual_seed(beam)
    vectors = torch.randn(40, 3, generator=gen)
    codebooks = [torch.randn(size, 3, generator=gen) for size in (6, 5, 4)]
    expected = [brute_force_beam(vector, codebooks, beam) for vector in vectors]
    assert residual_codes(vectors, codebooks, beam=beam).tolist() == expected


def test_ties_of_a_beam_go_to_the_lowest_path() -> None:
    codebooks = [torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([[1.0], [0.0], [0.0]])]
    for beam in (1, 2, 9):
        assert residual_codes(torch.ones(3, 1), codebooks, beam=beam)[:, 0].tolist() == [0, 0, 0]
    assert residual_codes(torch.ones(1, 1), codebooks, beam=9).tolist() == [[0, 1]]


def test_what_costs_say_is_what_is_left_over() -> None:
    gen = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, 3, generator=gen)
    codebooks = [torch.randn(size, 3, generator=gen) for size in (4, 5)]
    codes = residual_codes(vectors, codebooks)
    assert residual_costs(vectors, codes[:, :0], codebooks).argmin(dim=1).equal(codes[:, 0])
    costs = residual_costs(vectors, codes[:, :1], codebooks)
    for code in range(5):
        path = torch.stack([codes[:, 0], torch.full((20,), code)], dim=1)
        left = (vectors - reconstruct(path, codebooks)).square().sum(dim=1)
        torch.testing.assert_close(costs[:, code], left)


def test_a_beam_that_cannot_be_is_refused() -> None:
    codebooks = [torch.zeros(2, 1)]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        residual_codes(torch.zeros(1, 1), codebooks, beam=0)
    with pytest.raises(ValueError, match=r"1 with prices.*got 2"):
        residual_codes(torch.zeros(1, 1), codebooks, beam=2, prices=[torch.zeros(2)])


def test_vectors_are_left_as_they_are() -> None:
    vectors = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    before = vectors.clone()
    residual_kmeans(vectors, (4, 4), iterations=2, seed=0)
    balanced_residual_kmeans(vectors, (4, 4), iterations=2, seed=0)
    assert vectors.equal(before)


def test_balanced_levels_hold_near_equal_numbers() -> None:
    vectors = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    vectors[:100] *= 9
    codebooks, prices = balanced_residual_kmeans(vectors, (10, 10, 10), iterations=5, seed=0)
    codes = residual_codes(vectors, codebooks, prices=prices)
    assert all(int(codes[:, level].bincount().max()) <= 75 for level in range(3))
