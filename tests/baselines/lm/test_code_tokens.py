"""Codes as added tokens: their names, their ids, and what they are at first."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_lm import tokenizer_of
from torch import nn

from baselines.lm.tokens import AddedTokens, add_code_tokens, first_rows


def test_each_code_of_each_level_is_one_new_token() -> None:
    tokenizer = tokenizer_of(["red lipstick"])
    before = len(tokenizer)
    vocab = add_code_tokens(tokenizer, (2, 3), before)
    assert vocab.offsets == (before, before + 2)
    assert vocab.num_tokens == before + 5 == len(tokenizer)
    text = "red <a_1><b_2> lipstick"
    assert [t for t in tokenizer(text)["input_ids"] if t >= before] == [before + 1, before + 4]


def test_ids_of_a_padded_vocabulary_are_taken_and_its_size_is_kept() -> None:
    tokenizer = tokenizer_of(["red lipstick"])
    vocab = add_code_tokens(tokenizer, (2, 3), len(tokenizer) + 100)
    assert vocab.num_tokens == len(tokenizer) - 5 + 100


def test_a_tokenizer_that_has_codes_already_is_refused() -> None:
    tokenizer = tokenizer_of(["red lipstick"])
    tokenizer.add_tokens(["<b_1>"])
    with pytest.raises(ValueError, match="without tokens such as <a_0>"):
        add_code_tokens(tokenizer, (2, 3), len(tokenizer))
    with pytest.raises(ValueError, match="at most 26 levels"):
        add_code_tokens(tokenizer, (1,) * 27, len(tokenizer))


def test_a_code_begins_as_the_mean_of_the_title_tokens_of_its_items() -> None:
    table = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    codes, titles = torch.tensor([[0, 1], [2, 1], [0, 0]]), [[1, 2, 3], [4], [5, 5]]
    rows = first_rows(table, codes, (3, 2), titles, torch.Generator().manual_seed(1))
    expected = {0: [1, 2, 3, 5, 5], 2: [4], 3 + 0: [5, 5], 3 + 1: [1, 2, 3, 4]}
    for row, tokens in expected.items():
        torch.testing.assert_close(rows[row], table[tokens].mean(dim=0))
    spread = 0.5 * table.std(dim=0)
    assert ((rows[1] - table.mean(dim=0)).abs() < spread).all(), "a code of no item"
    without = first_rows(table, codes, (3, 2), None, torch.Generator().manual_seed(1))
    assert torch.equal(without[1], rows[1])
    assert ((without - table.mean(dim=0)).abs() < spread).all()
    assert len(without.unique(dim=0)) == 5


@pytest.mark.parametrize("tied", [False, True])
def test_own_rows_stand_where_the_ids_say_and_only_they_learn(tied: bool) -> None:
    embedding: Any = nn.Embedding(8, 3).requires_grad_(False)
    rows, output = torch.ones(2, 3), 2 * torch.ones(2, 3)
    added = AddedTokens(embedding, 6, rows, None if tied else output)
    tokens = torch.tensor([[0, 5, 6], [7, 6, 1]])
    found = added.embed(embedding, tokens)
    own = tokens >= 6
    assert (found[own] == 1).all()
    assert torch.equal(found[~own], embedding(tokens[~own]))
    table = embedding.weight
    looked_up = added.output_of(table, torch.tensor([7, 2]))
    assert torch.equal(looked_up[1], table[2])
    assert (looked_up[0] == (1 if tied else 2)).all()
    (found.sum() + looked_up.sum()).backward()
    assert added.rows.grad is not None
    assert added.rows.grad[:, 0].tolist() == ([2, 2] if tied else [2, 1])
