"""The best items by faiss are those of the dot products, and their mass that of all items."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tails import total_variation
from torch import Tensor
from worlds import histories, random_sequences

from baselines.contracts.scorer import DotProductScorer, require_dot_product
from baselines.nn.config import EncoderConfig
from baselines.teachers.cache import cached_mass
from baselines.teachers.config import (
    GRU4RecConfig,
    LightGCNConfig,
    MassConfig,
    SASRecConfig,
    Tail,
)
from baselines.teachers.gru4rec import GRU4Rec
from baselines.teachers.lightgcn import LightGCN
from baselines.teachers.mass import ExactMass, mass_source
from baselines.teachers.model import TeacherModel
from baselines.teachers.sasrec import SASRec
from baselines.teachers.simple import Popularity
from baselines.teachers.top_k_index import TopKIndex, prefix_neighbours
from semid.trie import CodeTrie
from tca.collaborative import CollaborativeTokenizer
from tca.top_k import TopKTokenizer

GEN = torch.Generator().manual_seed(0)
ITEMS = torch.randn(300, 8, generator=GEN)
USERS = torch.randn(6, 8, generator=GEN)
CODES = torch.randint(4, (300, 3), generator=GEN)
PASTS = histories([3, 1, 3], [7, 250, 9, 11], [5])
TARGETS = torch.tensor([3, 12, 299])  # the first is a repeat


def teacher() -> SASRec:
    encoder = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
    made = SASRec(SASRecConfig(max_history=4, encoder=encoder), num_items=300, seed=0)
    with torch.no_grad():
        made.item_embedding.weight.mul_(50)
    return made.eval()


def best_by_loop(user: Tensor, k: int) -> tuple[list[int], list[float]]:
    scores = [sum(a * b for a, b in zip(user.tolist(), row, strict=True)) for row in ITEMS.tolist()]
    order = sorted(range(len(scores)), key=lambda item: -scores[item])[:k]
    return order, [scores[item] for item in order]


@pytest.mark.parametrize("k", [1, 10, 300])
def test_the_best_items_are_those_of_the_definition(k: int) -> None:
    scores, items, _ = TopKIndex(ITEMS, k)(USERS)
    for row, user in enumerate(USERS):
        order, values = best_by_loop(user, k)
        assert items[row].tolist() == order
        torch.testing.assert_close(scores[row], torch.tensor(values))


@pytest.mark.parametrize(("tail", "tolerance"), [("sampled", 1e-4), ("uniform", math.inf)])
def test_the_tail_is_that_of_the_others_or_a_bound(tail: Tail, tolerance: float) -> None:
    scores, items, found = TopKIndex(ITEMS, 20, tail=tail, temperature=0.7)(USERS)
    everything = USERS @ ITEMS.T / 0.7
    others = everything.scatter(1, items, -torch.inf).logsumexp(dim=1)
    assert ((found - others).abs() < tolerance).all()
    assert (found > others - 1e-4).all()
    assert scores.shape == (6, 20)


@pytest.mark.parametrize("k", [0, 301])
def test_more_items_than_the_catalogue_has_are_refused_in_one_line(k: int) -> None:
    with pytest.raises(ValueError, match=r"k must be in \[1, 300\].*got " + str(k)) as error:
        TopKIndex(ITEMS, k)
    assert "\n" not in str(error.value)


def test_vectors_that_are_no_numbers_name_their_row() -> None:
    users = USERS.clone()
    users[2, 3] = math.nan
    with pytest.raises(ValueError, match="row 2 of user_vectors contains NaN"):
        TopKIndex(ITEMS, 3)(users)
    items = ITEMS.clone()
    items[7, 0] = math.inf
    with pytest.raises(ValueError, match="row 7 of item_vectors contains NaN or infinity"):
        TopKIndex(items, 3)


def gru4rec() -> GRU4Rec:
    return GRU4Rec(GRU4RecConfig(dim=8, hidden_dim=6, max_history=4), 300, seed=0).eval()


def lightgcn() -> LightGCN:
    return LightGCN(LightGCNConfig(dim=8, max_history=4), random_sequences(300, 60), 300, 0).eval()


@pytest.mark.parametrize("make", [teacher, gru4rec, lightgcn])
def test_a_score_is_a_dot_product(make: Callable[[], TeacherModel]) -> None:
    made = make()
    assert isinstance(made, DotProductScorer)
    assert issubclass(type(made), DotProductScorer)
    torch.testing.assert_close(made.user_vectors(PASTS) @ made.item_vectors().T, made.score(PASTS))


@pytest.mark.parametrize("make", [gru4rec, lightgcn])
def test_the_best_items_of_any_vectors_make_the_exact_mass(
    make: Callable[[], TeacherModel],
) -> None:
    trie = CodeTrie.from_paths(CODES, 4)
    exact, best = (
        mass_source(make(), trie, temperature=0.1, config=MassConfig(top_k=top_k))(PASTS, TARGETS)
        for top_k in (None, 300)
    )
    torch.testing.assert_close(best, exact, rtol=0, atol=1e-5)


def test_a_teacher_without_vectors_has_no_best_items() -> None:
    with pytest.raises(ValueError, match=r"scores are dot products .* got Popularity"):
        require_dot_product(Popularity(random_sequences(5, 3), 5))


def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no more than 30 items be near, so that those of two tokens in common are."""
    monkeypatch.setattr("baselines.teachers.top_k_index._NEAR", 30)


def test_the_near_items_are_those_below_the_shortest_prefix_that_few_share() -> None:
    trie = CodeTrie.from_paths(CODES, 4)
    targets = torch.tensor([0, 17, 299])
    for most in (1, 10, 30, 100, 300):
        row, near, node = prefix_neighbours(trie, targets, most)
        for number, target in enumerate(targets.tolist()):
            for length in range(4):
                below = [
                    item
                    for item, code in enumerate(CODES.tolist())
                    if code[:length] == CODES[target, :length].tolist()
                ]
                if len(below) <= most or length == 3:
                    break
            assert sorted(near[row == number].tolist()) == below
            assert trie.path(targets)[number, length] == node[number]


def test_below_the_prefix_of_the_near_items_all_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    shallow(monkeypatch)
    trie, targets = CodeTrie.from_paths(CODES, 4), torch.tensor([1, 50, 99, 120, 200, 299])
    best = TopKIndex(ITEMS, 20)
    scores, items, tail = best.with_prefix_neighbours(USERS, trie, targets)
    listed = items.masked_select(items >= 0)
    assert torch.equal(items >= 0, scores > -torch.inf)
    for row in items:
        assert len(set(row[row >= 0].tolist())) == (row >= 0).sum(), "each is listed once"
    torch.testing.assert_close(
        scores[items >= 0], (USERS @ ITEMS.T).gather(1, items.clamp_min(0))[items >= 0]
    )
    assert len(listed) < 6 * 60
    p = TopKTokenizer(trie)(scores, items, targets, tail)
    exact = CollaborativeTokenizer(trie)(USERS @ ITEMS.T, targets)
    torch.testing.assert_close(p[:, 2], exact[:, 2], rtol=0, atol=1e-5)
    assert 1e-4 < total_variation(p, exact)[:, 0].mean() < 0.35


def test_an_item_that_is_not_listed_keeps_its_share_of_the_tail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shallow(monkeypatch)
    trie, targets = CodeTrie.from_paths(CODES, 4), torch.arange(6)
    best = TopKIndex(ITEMS, 20)
    alone, more = best(USERS), best.with_prefix_neighbours(USERS, trie, targets)
    shares = [
        found.tail_log_mass - (300 - (found.items >= 0).sum(dim=1)).log() for found in (alone, more)
    ]
    assert ((more.items >= 0).sum(dim=1) > 20).all()
    torch.testing.assert_close(shares[0], shares[1])


@pytest.mark.parametrize("mask_history", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_all_items_for_best_are_the_exact_mass(
    monkeypatch: pytest.MonkeyPatch, mask_history: bool, temperature: float
) -> None:
    shallow(monkeypatch)
    trie = CodeTrie.from_paths(CODES, 4)
    tokenizer = CollaborativeTokenizer(trie, temperature=temperature)
    exact = ExactMass(teacher(), tokenizer, mask_history=mask_history)(PASTS, TARGETS)
    config = MassConfig(top_k=300, mask_history=mask_history)
    source = mass_source(teacher(), trie, temperature=temperature, config=config)
    torch.testing.assert_close(source(PASTS, TARGETS), exact, rtol=0, atol=1e-5)


def test_seen_items_have_no_mass_whether_or_not_they_are_among_the_best(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shallow(monkeypatch)
    codes = torch.arange(300)[:, None]
    trie = CodeTrie.from_paths(codes, 300)
    source = mass_source(teacher(), trie, config=MassConfig(top_k=5, mask_history=True))
    p = source(PASTS, TARGETS)
    seen = [[1], [7, 250, 9, 11], [5]]
    for row, items in enumerate(seen):
        assert (p[row, 0, items] == 0).all()
        assert (p[row, 0] > 0).sum() == 300 - len(items)
    torch.testing.assert_close(p.sum(dim=-1), torch.ones(3, 1))


def test_all_other_items_stand_to_each_other_as_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    shallow(monkeypatch)
    trie = CodeTrie.from_paths(torch.arange(300)[:, None], 300)
    masked, whole = (
        mass_source(teacher(), trie, config=MassConfig(top_k=40, mask_history=mask))(PASTS, TARGETS)
        for mask in (True, False)
    )
    for row, items in enumerate([[1], [7, 250, 9, 11], [5]]):
        others = [item for item in range(300) if item not in items]
        expected = whole[row, 0, others] / whole[row, 0, others].sum()
        torch.testing.assert_close(masked[row, 0, others], expected, rtol=1e-4, atol=0)


def test_the_cache_of_the_best_items_is_near_exact_and_of_all_items_as_good_as(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shallow(monkeypatch)
    data = random_sequences(300, 20)
    trie = CodeTrie.from_paths(CODES, 4)
    masses = [
        cached_mass(
            mass_source(teacher(), trie, config=MassConfig(top_k=k)),
            data,
            teacher="t",
            folder=tmp_path,
        )
        for k in (None, 25, 300)
    ]
    assert len(list(tmp_path.iterdir())) == 3
    near = total_variation(masses[1], masses[0])
    assert 1e-4 < near[:, 0].mean() < 0.05
    assert total_variation(masses[2], masses[0]).max() < 2e-3
