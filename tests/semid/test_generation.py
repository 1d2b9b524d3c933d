"""``transformers.generate`` within the trie, beside our own beam search on the same weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from semid.decoding import beam_search
from semid.generation import TrieLogitsProcessor
from semid.prefixes import ReadAnew
from semid.trie import CodeTrie

PAD, END, MARK = 0, 1, 2
PATHS = [[4, 7, 9], [4, 7, 10], [4, 8, 9], [5, 7, 9], [5, 8, 11], [6, 8, 11]]
VOCABULARY = 12


@pytest.fixture(params=[True, False], ids=["end in the paths", "end after the paths"])
def trie(request: pytest.FixtureRequest) -> CodeTrie:
    ends = [END] if request.param else []
    return CodeTrie.from_paths(torch.tensor([path + ends for path in PATHS]), VOCABULARY)


@pytest.fixture
def t5() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=PAD,
        pad_token_id=PAD,
        eos_token_id=END,
        initializer_factor=20.0,
    )
    return T5ForConditionalGeneration(config).eval()


@pytest.fixture
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
        pad_token_id=PAD,
        bos_token_id=None,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config).eval()


def test_beams_are_those_of_our_own_search(t5: T5ForConditionalGeneration) -> None:
    trie = CodeTrie.from_paths(torch.tensor([[*path, END] for path in PATHS]), VOCABULARY)
    processor = TrieLogitsProcessor(trie, start=PAD, end=END)
    history = torch.tensor([[4, 7, 9, 5, 8, 11, END], [6, 8, 11, END, PAD, PAD, PAD]])
    mask = history != PAD
    found = t5.generate(
        input_ids=history,
        attention_mask=mask,
        num_beams=6,
        num_return_sequences=6,
        max_new_tokens=4,
        length_penalty=0.0,
        logits_processor=[processor],
        return_dict_in_generate=True,
        output_scores=True,
    )

    def step(prefix: Tensor, /) -> Tensor:
        beams = prefix.shape[1]
        start = torch.full((2 * beams, 1), PAD)
        return (
            t5(
                input_ids=history.repeat_interleave(beams, dim=0),
                attention_mask=mask.repeat_interleave(beams, dim=0),
                decoder_input_ids=torch.cat([start, prefix.flatten(0, 1)], dim=1),
            )
            .logits[:, -1]
            .view(2, beams, -1)
        )

    ours = beam_search(ReadAnew(step, 2), trie, beam=6, renormalize="none")
    expected = trie.item_order[trie.first_item[ours.leaves]]
    assert processor.items(found.sequences).view(2, 6).tolist() == expected.tolist()
    torch.testing.assert_close(found.sequences_scores.view(2, 6), ours.scores, atol=1e-4, rtol=1e-4)


def test_left_padding_and_sampling_need_no_care(llama: LlamaForCausalLM, trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    prompts = [[4, 7, 9, MARK], [3, 6, 8, 11, MARK, 5, 7, 9, MARK]]  # MARK before every item
    width = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (width - len(prompt)) + prompt for prompt in prompts])

    def generate(ids: Tensor, **settings: object) -> Tensor:
        return llama.generate(
            input_ids=ids,
            attention_mask=ids != PAD,
            max_new_tokens=4,
            logits_processor=[processor],
            **settings,
        )

    together = processor.items(generate(ids, num_beams=3, num_return_sequences=3))
    alone = [
        processor.items(generate(torch.tensor([prompt]), num_beams=3, num_return_sequences=3))
        for prompt in prompts
    ]
    assert together.tolist() == torch.cat(alone).tolist()
    assert (together >= 0).all()

    torch.manual_seed(0)
    sampled = processor.items(generate(ids, do_sample=True, num_return_sequences=20))
    assert (sampled >= 0).all()
    assert len(sampled.unique()) > 1


def test_beams_beyond_the_last_item_write_no_other(t5: T5ForConditionalGeneration) -> None:
    trie = CodeTrie.from_paths(torch.tensor([[4, END], [5, END]]), VOCABULARY)
    processor = TrieLogitsProcessor(trie, start=PAD, end=END)
    found = t5.generate(
        input_ids=torch.tensor([[4, END]]),
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=2,
        logits_processor=[processor],
    )
    assert set(processor.items(found).tolist()) - {-1} == {0, 1}


def test_only_what_continues_a_path_may_follow(trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    written = [[], [4], [4, 7], [4, 7, 9], [4, 7, 9, END], [4, 9], [11, 11, 11]]
    allowed = [[4, 5, 6], [7, 8], [9, 10], [END], [END], [END], [END]]
    for tokens, expected in zip(written, allowed, strict=True):
        ids = torch.tensor([[PAD, MARK, 5, MARK, *tokens]])
        scores = processor(ids, torch.zeros(1, VOCABULARY + 3))
        assert (scores[0] == 0).nonzero().squeeze(1).tolist() == expected, tokens
    scores = torch.randn(1, VOCABULARY)
    assert processor(torch.tensor([[MARK]]), scores)[0, 4:7].tolist() == scores[0, 4:7].tolist()


def test_rows_of_one_call_may_have_written_different_numbers_of_tokens(trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    ids = torch.tensor([[3, 3, MARK, 5], [MARK, 4, 7, 10], [3, 3, 3, MARK]])
    scores = processor(ids, torch.zeros(3, VOCABULARY))
    assert [(row == 0).nonzero().squeeze(1).tolist() for row in scores] == [
        [7, 8],
        [END],
        [4, 5, 6],
    ]


def test_without_a_start_nothing_can_be_written(trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    scores = processor(torch.tensor([[3, 4, 7]]), torch.zeros(1, VOCABULARY))
    assert (scores[0] == 0).nonzero().squeeze(1).tolist() == [END]
    assert processor.items(torch.tensor([[3, 4, 7, 9, END]])).tolist() == [-1]


def test_items_are_read_from_what_generate_returns(trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=PAD, end=END)
    rows = [[PAD, 4, 7, 10, END], [PAD, 6, 8, END, PAD], [PAD, 6, 8, 11, END], [PAD] * 5]
    sequences = torch.tensor([[*row, PAD, PAD] for row in rows])
    assert processor.items(sequences).tolist() == [1, -1, 5, -1]


@pytest.mark.parametrize("ends", [[], [END]])
def test_what_stands_behind_the_end_is_padding(ends: list[int]) -> None:
    paths = [[4, 7, 9, *ends], [5, *ends]]
    width = max(map(len, paths))
    ragged = CodeTrie.from_paths(
        torch.tensor([path + [-1] * (width - len(path)) for path in paths]), VOCABULARY
    )
    processor = TrieLogitsProcessor(ragged, start=MARK, end=END)
    written = [[MARK, 4, 7, 9, END], [MARK, 5, END, PAD, PAD], [MARK, 5, END, END, END]]
    assert processor.items(torch.tensor(written)).tolist() == [0, 1, 1]


def test_a_start_within_a_path_is_refused(trie: CodeTrie) -> None:
    with pytest.raises(ValueError, match="start token 7 is also a token of the paths"):
        TrieLogitsProcessor(trie, start=7, end=END)


def test_a_model_with_fewer_tokens_is_refused(trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=PAD, end=END)
    with pytest.raises(ValueError, match="has 12 tokens, the model 8"):
        processor(torch.tensor([[PAD]]), torch.zeros(1, 8))
