import pytest
import torch
from torch import Tensor

from semid.tokenizers import HierarchicalKMeans


def drawn(items: int, dim: int = 3) -> Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(0))


def children(tokenizer: HierarchicalKMeans, prefix: list[int]) -> Tensor:
    """Codewords below a prefix, found by walking down from the root."""
    node = 0
    for level, code in enumerate(prefix):
        node = int(tokenizer.learned[f"first.{level}"][node]) + code
    first, codewords = (
        tokenizer.learned[f"{name}.{len(prefix)}"] for name in ("first", "codewords")
    )
    return codewords[int(first[node]) : int(first[node + 1])]


@pytest.mark.parametrize("sizes", [(4,), (5, 3), (3, 4, 2)])
def test_every_level_takes_the_nearest_of_its_node(sizes: tuple[int, ...]) -> None:
    vectors = drawn(80)
    tokenizer = HierarchicalKMeans(codebook_sizes=sizes).fit(vectors)
    for row in (vectors, drawn(100)[80:]):
        for vector, path in zip(row, tokenizer.encode(row).tolist(), strict=True):
            for level, code in enumerate(path):
                below = children(tokenizer, path[:level])
                distances = (vector - tokenizer.learned["mean"] - below).square().sum(dim=1)
                assert code == int(distances.argmin())


def test_a_node_of_few_items_has_a_code_for_each() -> None:
    vectors = drawn(40)
    tokenizer = HierarchicalKMeans(codebook_sizes=(4, 30)).fit(vectors)
    codes = tokenizer.encode(vectors)
    assert len(codes.unique(dim=0)) == 40
    for code in range(4):
        found = sorted(codes[codes[:, 0] == code, 1].tolist())
        assert found == list(range(len(found)))
    assert len(tokenizer.learned["codewords.1"]) == 40


def test_costs_are_distances_and_unused_codes_say_what_the_prefix_says() -> None:
    vectors = drawn(40)
    tokenizer = HierarchicalKMeans(codebook_sizes=(4, 20)).fit(vectors)
    codes = tokenizer.encode(vectors)
    roots = children(tokenizer, [])
    centred = vectors - tokenizer.learned["mean"]
    torch.testing.assert_close(
        tokenizer.costs(vectors, codes[:, :0]), (centred[:, None] - roots).square().sum(dim=2)
    )
    costs = tokenizer.costs(vectors, codes[:, :1])
    for item, code in enumerate(codes[:, 0].tolist()):
        below = children(tokenizer, [code])
        expected = (centred[item] - below).square().sum(dim=1)
        torch.testing.assert_close(costs[item, : len(below)], expected, atol=1e-5, rtol=1e-4)
        unused = (centred[item] - roots[code]).square().sum().expand(20 - len(below))
        torch.testing.assert_close(costs[item, len(below) :], unused)


def test_costs_below_a_code_that_is_not_used_are_those_of_the_node_above() -> None:
    vectors = drawn(12)
    tokenizer = HierarchicalKMeans(codebook_sizes=(3, 12, 4)).fit(vectors)
    codes = tokenizer.encode(vectors)
    missing = torch.tensor([[code, 11] for code in codes[:, 0].tolist()])
    roots = children(tokenizer, [])[codes[:, 0]]
    expected = (vectors - tokenizer.learned["mean"] - roots).square().sum(dim=1, keepdim=True)
    torch.testing.assert_close(tokenizer.costs(vectors, missing), expected.expand(12, 4))


def test_more_codes_at_the_root_than_items_are_refused() -> None:
    with pytest.raises(ValueError, match="got 1 distinct embeddings of 9 items"):
        HierarchicalKMeans(codebook_sizes=(4, 300)).fit(torch.ones(9, 2))
