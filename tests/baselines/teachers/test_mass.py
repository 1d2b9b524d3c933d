"""Teacher mass: the Collaborative Tokenizer on every target's own past."""

from __future__ import annotations

import pytest
import torch
from exact_mass import teacher_mass
from torch import Tensor
from worlds import histories, random_sequences

from baselines.contracts.scorer import without_seen
from baselines.data.sequences import SequenceSet
from baselines.nn.config import EncoderConfig
from baselines.teachers.config import MassConfig, SASRecConfig
from baselines.teachers.mass import ExactMass, mass_blocks, mass_shape, mass_source
from baselines.teachers.sasrec import SASRec
from baselines.teachers.simple import Popularity
from semid.trie import CodeTrie
from semid.vocab import CodeVocab
from tca.collaborative import CollaborativeTokenizer

SIZES = (3, 3, 2)
DATA = random_sequences(13, 9, longest=8)


def teacher() -> SASRec:
    encoder = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
    made = SASRec(SASRecConfig(max_history=4, encoder=encoder), num_items=13, seed=0)
    with torch.no_grad():
        made.item_embedding.weight.mul_(30)
    return made.eval()


@pytest.fixture
def codes(tiny_codes: Tensor) -> Tensor:
    """A dozen items and a twin of the first."""
    return torch.cat([tiny_codes, tiny_codes[:1]])


def causal_trie(codes: Tensor) -> CodeTrie:
    vocab = CodeVocab.per_level(SIZES)
    return CodeTrie.from_paths(vocab.tokens(codes), vocab.num_tokens)


def tiger_trie(codes: Tensor) -> CodeTrie:
    vocab = CodeVocab.flat(SIZES)
    return CodeTrie.from_paths(vocab.tokens(codes), vocab.num_tokens)


def own_pasts(data: SequenceSet) -> list[tuple[list[int], int]]:
    """Past and item of each target, in the order of target ids."""
    found = []
    for number in range(len(data)):
        items = data.items[data.offsets[number] : data.offsets[number + 1]].tolist()
        found += [(items[:pos], items[pos]) for pos in range(1, len(items))]
    return found


@pytest.mark.parametrize("batch_size", [1, 5, 256])
def test_each_row_is_the_tokenizer_on_that_targets_past(codes: Tensor, batch_size: int) -> None:
    tokenizer, scorer = CollaborativeTokenizer(causal_trie(codes)), teacher()
    mass = teacher_mass(scorer, tokenizer, DATA, batch_size=batch_size)
    assert mass.dtype == torch.float16
    assert mass.shape == (DATA.num_targets, 3, 3)
    for row, (past, item) in enumerate(own_pasts(DATA)):
        alone = tokenizer(scorer.score(histories(past)), torch.tensor([item]))[0]
        torch.testing.assert_close(mass[row].float(), alone, atol=1e-3, rtol=1e-3)
    assert mass.float().std(dim=0).max() > 0.05, "the mass differs from target to target"


def test_all_mass_of_a_prefix_goes_to_its_children(codes: Tensor) -> None:
    mass = teacher_mass(teacher(), CollaborativeTokenizer(causal_trie(codes)), DATA)
    torch.testing.assert_close(
        mass.float().sum(dim=-1), torch.ones(mass.shape[:2]), atol=2e-3, rtol=0
    )


def test_backbones_that_spell_codes_differently_share_the_slots(codes: Tensor) -> None:
    tries = causal_trie(codes), tiger_trie(codes)
    assert not torch.equal(tries[0].token_of_node, tries[1].token_of_node)
    for name in ("first_child", "parent_of_node", "item_order", "node_of_item"):
        assert torch.equal(getattr(tries[0], name), getattr(tries[1], name))
    masses = [teacher_mass(teacher(), CollaborativeTokenizer(trie), DATA) for trie in tries]
    assert torch.equal(masses[0], masses[1])


def test_seen_items_are_left_out_but_never_the_target(codes: Tensor) -> None:
    tokenizer, scorer = CollaborativeTokenizer(causal_trie(codes)), teacher()
    pasts = [[3, 1, 4, 1, 5, 9], [2], [7, 8]]
    targets = torch.tensor([1, 6, 7])  # the first and the last are repeats
    scores = scorer.score(histories(*pasts)).clone()
    for row, (past, target) in enumerate(zip(pasts, targets.tolist(), strict=True)):
        for item in set(past) - {target}:
            scores[row, item] = -torch.inf
    masked = ExactMass(scorer, tokenizer, mask_history=True)
    torch.testing.assert_close(masked(histories(*pasts), targets), tokenizer(scores, targets))


def test_all_that_was_seen_is_left_out_however_little_the_teacher_looks_back_on(
    codes: Tensor,
) -> None:
    scorer = Popularity(DATA, 13)
    source = mass_source(scorer, causal_trie(codes), config=MassConfig(mask_history=True))
    mass = torch.zeros(mass_shape(source, DATA))
    for ids, block in mass_blocks(source, DATA, batch_size=5):
        mass[torch.from_numpy(ids)] = block.float()
    for row, (past, item) in enumerate(own_pasts(DATA)):
        scores = (scorer.counts + 1).log()
        scores[list(set(past) - {item})] = -torch.inf
        alone = CollaborativeTokenizer(source.trie)(scores[None], torch.tensor([item]))[0]
        torch.testing.assert_close(mass[row], alone, atol=1e-3, rtol=1e-3)


def test_masking_changes_no_scores_of_the_caller() -> None:
    scores = torch.zeros(1, 13)
    masked = without_seen(scores, histories([2, 3]), torch.tensor([3]))
    assert masked[0].isinf().nonzero().flatten().tolist() == [2]
    assert not scores.isinf().any()


def test_fewer_than_one_best_item_is_refused() -> None:
    with pytest.raises(ValueError, match="top_k must be a whole number of at least 1, got 0"):
        MassConfig(top_k=0)
