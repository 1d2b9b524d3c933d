"""Teacher mass: the Collaborative Tokenizer on every target's own past."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from worlds import histories, random_sequences

from baselines.data.sequences import SequenceSet
from baselines.encoder import EncoderConfig
from baselines.teachers.mass import teacher_mass
from baselines.teachers.sasrec import SASRec, SASRecConfig
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
