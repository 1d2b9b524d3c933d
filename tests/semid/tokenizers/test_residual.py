import pytest
import torch
from torch import Tensor

from semid.tokenizers.residual import nearest, reconstruct, residual_codes, residual_kmeans


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
