"""``generate`` within the titles of a catalogue: nothing but titles, whole, whatever the prompt."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from semid.generation import TrieLogitsProcessor
from semid.trie import CodeTrie

PAD, BOS, EOS, VOCABULARY = 0, 1, 2, 40


def ragged_titles(count: int, *, longest: int = 7) -> list[list[int]]:
    """Titles of random tokens; every third one starts the title before it."""
    gen = torch.Generator().manual_seed(0)
    titles: list[list[int]] = []
    while len(titles) < count:
        length = int(torch.randint(1, longest + 1, (), generator=gen))
        title = torch.randint(3, 12, (length,), generator=gen).tolist()
        if len(titles) % 3 == 2:
            title = titles[-1][: max(len(titles[-1]) - 1, 1)]
        titles.append(title)
    return titles


TITLES = ragged_titles(200)


def trie_of(titles: list[list[int]]) -> CodeTrie:
    width = max(map(len, titles)) + 1
    rows = [[*title, EOS] + [-1] * (width - len(title) - 1) for title in titles]
    return CodeTrie.from_paths(torch.tensor(rows), VOCABULARY)


def random_llama(**settings: Any) -> Any:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        **settings,
    )
    return LlamaForCausalLM(shape).eval()


def random_prompts(rows: int) -> Tensor:
    """Left-padded prompts of 0 to 9 random tokens, titles' own among them, then ``BOS``."""
    gen = torch.Generator().manual_seed(1)
    ids = torch.randint(1, VOCABULARY, (rows, 10), generator=gen)
    ids[torch.arange(10) < torch.randint(0, 10, (rows, 1), generator=gen)] = PAD
    ids[:, -1] = BOS
    return ids


def written_after(prompts: Tensor, model: Any, processor: Any, **settings: Any) -> Tensor:
    found: Tensor = model.generate(
        input_ids=prompts,
        attention_mask=(prompts != PAD).long(),
        logits_processor=[processor],
        max_new_tokens=processor.trie.depth,
        **settings,
    )
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"do_sample": False},
        {"do_sample": True, "num_return_sequences": 2},
        {"do_sample": False, "num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0},
    ],
    ids=["greedy", "sampled", "beams"],
)
def test_a_thousand_random_prompts_are_answered_by_titles_alone(settings: dict[str, Any]) -> None:
    trie = trie_of(TITLES)
    processor = TrieLogitsProcessor(trie, start=BOS, end=EOS)
    prompts = random_prompts(1000)
    sequences = written_after(prompts, random_llama(), processor, **settings)
    known = {tuple(title) for title in TITLES}
    for row in sequences[:, prompts.shape[1] :].tolist():
        end = row.index(EOS)
        assert tuple(row[:end]) in known
        assert set(row[end + 1 :]) <= {PAD, EOS}, "nothing is written after the end"
    items = processor.items(sequences).tolist()
    assert all(
        TITLES[item] == row[: row.index(EOS)]
        for item, row in zip(items, sequences[:, prompts.shape[1] :].tolist(), strict=True)
    )
    assert len(set(items)) > 20, "the prompts matter"


def test_padding_on_the_left_changes_no_title() -> None:
    processor = TrieLogitsProcessor(trie_of(TITLES), start=BOS, end=EOS)
    prompts, model = random_prompts(25), random_llama()
    beams = {
        "do_sample": False,
        "num_beams": 3,
        "num_return_sequences": 3,
        "length_penalty": 0.0,
    }
    together = processor.items(written_after(prompts, model, processor, **beams))
    alone = [
        processor.items(written_after(row[row != PAD].unsqueeze(0), model, processor, **beams))
        for row in prompts
    ]
    assert together.tolist() == torch.cat(alone).tolist()


@pytest.mark.parametrize("wants_more", [True, False])
def test_a_title_that_starts_another_may_end_or_go_on(wants_more: bool) -> None:
    """``[5]`` and ``[5, 6]``: after 5 the model chooses between the end and 6."""
    processor = TrieLogitsProcessor(trie_of([[5], [5, 6]]), start=BOS, end=EOS)
    after = processor(torch.tensor([[BOS, 5]]), torch.zeros(1, VOCABULARY))
    assert (after[0] == 0).nonzero().squeeze(1).tolist() == [EOS, 6]
    after = processor(torch.tensor([[BOS, 5, EOS], [BOS, 5, 6]]), torch.zeros(2, VOCABULARY))
    assert [(row == 0).nonzero().squeeze(1).tolist() for row in after] == [[EOS], [EOS]]

    model = random_llama(tie_word_embeddings=False)
    with torch.no_grad():  # a head that sees one thing: whether to end
        states = model.model(input_ids=torch.tensor([[BOS, 5]])).last_hidden_state[0, -1]
        model.lm_head.weight.zero_()
        model.lm_head.weight[6 if wants_more else EOS] = states
    sequences = written_after(torch.tensor([[BOS]]), model, processor, do_sample=False)
    assert processor.items(sequences).tolist() == [int(wants_more)]
    beams = {"num_beams": 2, "num_return_sequences": 2, "length_penalty": 0.0, "do_sample": False}
    both = processor.items(written_after(torch.tensor([[BOS]]), model, processor, **beams))
    assert both.tolist() == [int(wants_more), int(not wants_more)]


def test_what_may_follow_is_what_a_dictionary_of_prefixes_says() -> None:
    """Against the definition, for every prefix of every title and one that is none."""
    processor = TrieLogitsProcessor(trie_of(TITLES), start=BOS, end=EOS)
    following: dict[tuple[int, ...], set[int]] = {}
    for title in TITLES:
        for pos, token in enumerate([*title, EOS]):
            following.setdefault(tuple(title[:pos]), set()).add(token)
    strangers = [(*prefix, 39) for prefix in following] + [(40,), (500, 3)]
    prefixes = [*following, *strangers]
    width = max(map(len, prefixes)) + 1
    rows = [[PAD] * (width - len(p) - 1) + [BOS, *p] for p in prefixes]
    scores = torch.randn(len(rows), VOCABULARY)
    found = processor(torch.tensor(rows), scores)
    for prefix, before, after in zip(prefixes, scores, found, strict=True):
        allowed = sorted(following.get(prefix, {EOS}))
        assert after.isfinite().nonzero().squeeze(1).tolist() == allowed
        assert after[allowed].equal(before[allowed])
