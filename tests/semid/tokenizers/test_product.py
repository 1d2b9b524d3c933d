import pytest
import torch
from torch import Tensor

from semid.tokenizers import OPQ, PQ


def drawn(items: int, dim: int) -> Tensor:
    gen = torch.Generator().manual_seed(0)
    mixing = torch.randn(dim, dim, generator=gen) * torch.linspace(3, 0.1, dim)
    return torch.randn(items, dim, generator=gen) @ mixing.T


def said(tokenizer: PQ, codes: Tensor) -> Tensor:
    """What codes say about the centred, rotated embedding, part by part."""
    books = [tokenizer.learned[f"codebook.{level}"] for level in range(codes.shape[1])]
    return torch.cat([book[codes[:, level]] for level, book in enumerate(books)], dim=1)


def turned(tokenizer: PQ, vectors: Tensor) -> Tensor:
    centred = vectors - tokenizer.learned["mean"]
    return centred @ tokenizer.learned.get("rotation", torch.eye(vectors.shape[1]))


def error(tokenizer: PQ, vectors: Tensor) -> float:
    codes = tokenizer.fit(vectors).encode(vectors)
    return float((turned(tokenizer, vectors) - said(tokenizer, codes)).square().sum())


@pytest.mark.parametrize("scheme", [PQ, OPQ])
@pytest.mark.parametrize("sizes", [(5,), (6, 3), (4, 7, 5), (2, 2, 2, 2)])
def test_every_part_takes_its_nearest_codeword(scheme: type[PQ], sizes: tuple[int, ...]) -> None:
    vectors = drawn(60, 7)
    tokenizer = scheme(codebook_sizes=sizes)
    codes = tokenizer.fit(vectors).encode(vectors)
    place = 0
    for level in range(len(sizes)):
        book = tokenizer.learned[f"codebook.{level}"]
        part = turned(tokenizer, vectors)[:, place : place + book.shape[1]]
        distances = (part[:, None] - book).square().sum(dim=2)
        chosen = distances.gather(1, codes[:, level : level + 1])[:, 0]
        torch.testing.assert_close(chosen, distances.amin(dim=1), atol=1e-4, rtol=1e-4)
        place += book.shape[1]
    assert place == 7


@pytest.mark.parametrize("scheme", [PQ, OPQ])
def test_costs_are_the_error_of_prefix_and_next_code(scheme: type[PQ]) -> None:
    vectors = drawn(60, 7)
    tokenizer = scheme(codebook_sizes=(4, 5, 3)).fit(vectors)
    codes = tokenizer.encode(vectors)
    for level, size in enumerate((4, 5, 3)):
        costs = tokenizer.costs(vectors, codes[:, :level])
        for code in range(size):
            path = torch.cat([codes[:, :level], torch.full((60, 1), code)], dim=1)
            words = said(tokenizer, path)
            expected = (turned(tokenizer, vectors)[:, : words.shape[1]] - words).square().sum(dim=1)
            torch.testing.assert_close(costs[:, code], expected, atol=1e-3, rtol=1e-4)


def test_the_rotation_turns_and_lowers_the_error() -> None:
    vectors = drawn(500, 12)
    rotated = OPQ(codebook_sizes=(16, 16, 16))
    assert error(rotated, vectors) < 0.9 * error(PQ(codebook_sizes=(16, 16, 16)), vectors)
    rotation = rotated.learned["rotation"]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(12), atol=1e-5, rtol=0)


def test_turns_do_better_than_the_start() -> None:
    vectors = drawn(500, 12)
    started, turned_on = (
        error(OPQ(codebook_sizes=(8, 8, 8), rotations=count), vectors) for count in (0, 30)
    )
    assert turned_on < started


@pytest.mark.parametrize("scheme", [PQ, OPQ])
def test_wrong_widths_and_constant_parts_are_refused(scheme: type[PQ]) -> None:
    with pytest.raises(ValueError, match=r"got 2 dimensions for codebook sizes \(4, 4, 4\)"):
        scheme(codebook_sizes=(4, 4, 4)).fit(drawn(60, 2))
    half_constant = drawn(60, 4)
    half_constant[:, 2:] = 1.5
    with pytest.raises(ValueError, match=r"got 1 distinct values at level 1's part"):
        scheme(codebook_sizes=(4, 4)).fit(half_constant)
