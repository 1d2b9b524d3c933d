"""``transformers.generate`` within the trie, beside our own beam search on the same weights."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from semid.decoding import BeamResult, beam_search
from semid.generation import TrieLogitsProcessor
from semid.prefixes import StatelessPrefixes
from semid.trie import CodeTrie

PAD, END, MARK = 0, 1, 2
PATHS = [[4, 7, 9], [4, 7, 10], [4, 8, 9], [5, 7, 9], [5, 8, 11], [6, 8, 11]]
VOCABULARY = 12


@pytest.fixture(params=[True, False], ids=["end in the paths", "end after the paths"])
def trie(request: pytest.FixtureRequest) -> CodeTrie:
    ends = [END] if request.param else []
    return CodeTrie.from_paths(torch.tensor([path + ends for path in PATHS]), VOCABULARY)


def random_t5(seed: int) -> T5ForConditionalGeneration:
    torch.manual_seed(seed)
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


def random_llama(seed: int, *, pad: int = PAD) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        initializer_range=0.5,
        pad_token_id=pad,
        bos_token_id=None,
        eos_token_id=END,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def t5() -> T5ForConditionalGeneration:
    return random_t5(0)


@pytest.fixture
def llama() -> LlamaForCausalLM:
    return random_llama(0)


def random_ragged_trie(seed: int, ends: list[int]) -> CodeTrie:
    """Paths of one to four tokens, none a prefix of another; rows in any order."""
    rng, paths = random.Random(seed), []

    def grow(prefix: list[int]) -> None:
        for token in rng.sample(range(3, VOCABULARY), rng.randint(1, 3)):
            path = [*prefix, token]
            if len(path) == 4 or rng.random() < 0.45:
                paths.append(path + ends)
            else:
                grow(path)

    grow([])
    rng.shuffle(paths)
    width = max(map(len, paths))
    return CodeTrie.from_paths(
        torch.tensor([path + [-1] * (width - len(path)) for path in paths]), VOCABULARY
    )


HISTORIES = torch.tensor([[4, 7, 9, 5, 8, 11, MARK], [PAD, PAD, PAD, MARK, 6, 8, MARK]])


def searched(model: Any, trie: CodeTrie, beam: int) -> BeamResult:
    """Our own search after ``HISTORIES``, which reads every prefix from its first token."""
    mask = HISTORIES != PAD

    def step(prefix: Tensor, /) -> Tensor:
        beams = prefix.shape[1]
        read, real = (rows.repeat_interleave(beams, dim=0) for rows in (HISTORIES, mask))
        written = prefix.flatten(0, 1)
        if model.config.is_encoder_decoder:
            start = torch.full((len(read), 1), PAD)
            more = {"decoder_input_ids": torch.cat([start, written], dim=1)}
        else:
            read = torch.cat([read, written], dim=1)
            real = torch.cat([real, torch.ones_like(written, dtype=torch.bool)], dim=1)
            more = {"position_ids": (real.cumsum(dim=1) - 1).clamp_min(0)}
        logits = model(input_ids=read, attention_mask=real.long(), **more).logits
        return logits[:, -1].view(2, beams, -1)

    return beam_search(StatelessPrefixes(step, 2), trie, beam=beam, renormalize="none")


def beams_of(model: Any, processor: TrieLogitsProcessor, beam: int, **settings: Any) -> Any:
    """What ``generate`` gives after ``HISTORIES``, called as documented."""
    return model.generate(
        input_ids=HISTORIES,
        attention_mask=(HISTORIES != PAD).long(),
        logits_processor=[processor],
        return_dict_in_generate=True,
        output_scores=True,
        **{
            "num_beams": beam,
            "num_return_sequences": beam,
            "max_new_tokens": processor.trie.depth + 1,
            "length_penalty": 0.0,
            **settings,
        },
    )


@pytest.mark.parametrize("ends", [[END], []], ids=["end in the paths", "end after the paths"])
@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder-only", "padded with the end"])
@pytest.mark.parametrize("room", [0, 1, 4])
@pytest.mark.parametrize("more", [0, 1, 5])
def test_beams_over_all_paths_are_those_of_our_own_search(
    kind: str, ends: list[int], room: int, more: int
) -> None:
    for seed in range(3):
        trie = random_ragged_trie(seed + 10 * more, ends)
        if kind == "encoder-decoder":
            model: Any = random_t5(seed)
            start = PAD
        else:
            model = random_llama(seed, pad=PAD if kind == "decoder-only" else END)
            start = MARK
        processor = TrieLogitsProcessor(trie, start=start, end=END)
        beam = max(2, trie.num_items + more)
        found = beams_of(model, processor, beam, max_new_tokens=trie.depth + room)
        ours = searched(model, trie, beam)
        expected = trie.item_order[trie.first_item[ours.leaves]].masked_fill(ours.leaves < 0, -1)
        scores = found.sequences_scores.view(2, beam)
        items = processor.items(found.sequences, found.sequences_scores).view(2, beam)
        assert items.tolist() == expected.tolist()
        whole = slice(0, trie.num_items)
        torch.testing.assert_close(scores[:, whole], ours.scores[:, whole], atol=1e-4, rtol=1e-4)
        items = processor.items(found.sequences).view(2, beam)
        assert items[:, whole].tolist() == expected[:, whole].tolist(), "scores only tell the rest"


def test_penalties_of_length_change_nothing_where_all_paths_have_one_length(
    llama: LlamaForCausalLM, trie: CodeTrie
) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    expected = processor.items(beams_of(llama, processor, 6).sequences).tolist()
    for settings in ({"length_penalty": 1.0}, {"length_penalty": -2.0}, {"early_stopping": True}):
        found = processor.items(beams_of(llama, processor, 6, **settings).sequences)
        assert found.tolist() == expected


REORDERING: list[tuple[str, dict[str, Any]]] = [
    ("do_sample=True", {"do_sample": True, "temperature": 0.6, "top_p": 0.9}),
    ("repetition_penalty=1.3", {"repetition_penalty": 1.3}),
    ("do_sample=True", {"do_sample": True, "top_k": 20, "repetition_penalty": 1.05}),
    ("no_repeat_ngram_size=2", {"no_repeat_ngram_size": 2}),
    ("min_length=8", {"min_length": 8}),
    ("forced_eos_token_id=1", {"forced_eos_token_id": END}),
    ("forced_bos_token_id=0", {"forced_bos_token_id": PAD}),
    ("suppress_tokens", {"suppress_tokens": [4]}),
    ("bad_words_ids", {"bad_words_ids": [[4]]}),
    ("sequence_bias", {"sequence_bias": {(4,): 5.0}}),
    ("exponential_decay", {"exponential_decay_length_penalty": (1, 2.0)}),
    ("renormalize_logits=True", {"renormalize_logits": True}),
    ("remove_invalid_values=True", {"remove_invalid_values": True}),
]


@pytest.mark.parametrize(("named", "settings"), REORDERING)
def test_what_reorders_beams_is_refused_from_arguments_and_from_the_models_own_settings(
    llama: LlamaForCausalLM, trie: CodeTrie, named: str, settings: dict[str, Any]
) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    with pytest.raises(ValueError, match=rf"given .*{named}.*orders items by.*generation_config"):
        beams_of(llama, processor, 6, **settings)
    llama.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=PAD, **settings)
    with pytest.raises(ValueError, match=rf"given .*{named}.*orders items by.*generation_config"):
        beams_of(llama, processor, 6)


def test_a_call_overrules_the_models_own_settings(llama: LlamaForCausalLM, trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    expected = beams_of(llama, processor, 6).sequences
    llama.generation_config = GenerationConfig(
        eos_token_id=END, pad_token_id=PAD, do_sample=True, top_k=2, repetition_penalty=1.3
    )
    found = beams_of(llama, processor, 6, do_sample=False, repetition_penalty=1.0)
    assert found.sequences.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "settings", [{"length_penalty": 1.0}, {"length_penalty": -1.0}, {"early_stopping": True}]
)
def test_scores_by_length_are_refused_where_lengths_differ(
    llama: LlamaForCausalLM, settings: dict[str, Any]
) -> None:
    processor = TrieLogitsProcessor(random_ragged_trie(0, []), start=MARK, end=END)
    with pytest.raises(ValueError, match="orders items by"):
        beams_of(llama, processor, 6, **settings)
    greedy = {"num_beams": 1, "num_return_sequences": 1, **settings}
    assert (processor.items(beams_of(llama, processor, 1, **greedy).sequences) >= 0).all()


def test_a_search_that_stops_short_of_an_item_is_refused(
    llama: LlamaForCausalLM, trie: CodeTrie
) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    with pytest.raises(ValueError, match=rf"write {trie.depth - 1} tokens, but .* {trie.depth}"):
        beams_of(llama, processor, 6, max_new_tokens=trie.depth - 1)


def test_a_search_that_ends_elsewhere_is_refused(llama: LlamaForCausalLM, trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    for ends in (3, [3, 9], [END, 9]):  # 9 is a token of paths
        with pytest.raises(ValueError, match="end at token 1 and at no other of the paths"):
            beams_of(llama, processor, 6, eos_token_id=ends)
    expected = processor.items(beams_of(llama, processor, 6).sequences)
    found = processor.items(beams_of(llama, processor, 6, eos_token_id=[END, 3]).sequences)
    assert found.tolist() == expected.tolist()
    exactly = {"max_new_tokens": trie.depth, "eos_token_id": 3}  # no end has to be written
    assert processor.items(beams_of(llama, processor, 6, **exactly).sequences).equal(expected)


class Forbids(LlamaForCausalLM):
    """A model that forbids tokens with ``-inf``."""

    forbidden: tuple[int, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        output.logits[..., list(self.forbidden)] = -torch.inf
        return output


@pytest.mark.parametrize("forbidden", [(4, 8), (7,), (9, 10, 11), (4, 5, 6)])
def test_what_the_model_forbids_does_not_come_back(
    llama: LlamaForCausalLM, trie: CodeTrie, forbidden: tuple[int, ...]
) -> None:
    model = Forbids(llama.config).eval()
    model.load_state_dict(llama.state_dict())
    model.forbidden = forbidden
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    may_come = {row for row, path in enumerate(PATHS) if not {*path} & {*forbidden}}
    found = beams_of(model, processor, 6)
    items = processor.items(found.sequences, found.sequences_scores).view(2, 6)
    ours = searched(model, trie, 6)
    expected = trie.item_order[trie.first_item[ours.leaves]].masked_fill(ours.leaves < 0, -1)
    assert items.tolist() == expected.tolist()
    assert set(items.flatten().tolist()) - {-1} == may_come
    torch.manual_seed(0)
    one = {"num_beams": 1, "num_return_sequences": 1}
    for how in (one, {**one, "do_sample": True, "num_return_sequences": 20}):
        written = processor.items(beams_of(model, processor, 1, **how).sequences)
        assert set(written.tolist()) <= may_come | {-1}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_refused(trie: CodeTrie, bad: float) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    with pytest.raises(ValueError, match="must not be NaN or"):
        processor(torch.tensor([[MARK]]), torch.full((1, VOCABULARY), bad))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scores_of_low_precision_stay_so(trie: CodeTrie, dtype: torch.dtype) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    rows = torch.tensor([[MARK, 4, 7, 9], [PAD, PAD, PAD, MARK], [PAD, MARK, 4, 11]])
    scores = processor(rows, torch.full((3, VOCABULARY), -torch.inf, dtype=dtype))
    assert scores.dtype == dtype
    assert [row.isfinite().nonzero().flatten().tolist() for row in scores] == [[END]] * 3


def test_a_start_that_is_also_the_end_serves_where_no_end_is_written() -> None:
    model = random_t5(0)
    trie = CodeTrie.from_paths(torch.tensor(PATHS), VOCABULARY)
    expected = trie.item_order[trie.first_item[searched(model, trie, 6).leaves]].tolist()
    processor = TrieLogitsProcessor(trie, start=PAD, end=PAD)
    found = beams_of(model, processor, 6, max_new_tokens=3, eos_token_id=PAD)
    assert processor.items(found.sequences).view(2, 6).tolist() == expected
    with pytest.raises(ValueError, match="token 0 is both start and end"):
        beams_of(model, processor, 6, max_new_tokens=4, eos_token_id=PAD)


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


def test_an_unanswered_prompt_is_not_answered_with_its_own_history(trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    whole = [4, 7, 9, END]
    padded = torch.tensor([[MARK, *whole, MARK, MARK, MARK], [MARK, 3, MARK, *whole, MARK]])
    assert processor.items(padded).tolist() == [0, 0], "padded with the start token"
    padded = torch.tensor([[MARK, 4, 7, 9, MARK, MARK, MARK], [MARK, 4, 7, 9, 3, MARK, MARK]])
    assert processor.items(padded).tolist() == [-1, -1]


def test_prompts_without_token_ids_are_refused(llama: LlamaForCausalLM, trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=MARK, end=END)
    vectors = llama.get_input_embeddings()(torch.tensor([[4, 7, MARK]]))
    with pytest.raises(ValueError, match=r"start token 2, got none\. Give generate"):
        llama.generate(inputs_embeds=vectors, max_new_tokens=5, logits_processor=[processor])


def test_an_end_within_a_path_is_refused() -> None:
    trie = CodeTrie.from_paths(torch.tensor([[4, END, 5, END], [4, 5, 5, END]]), VOCABULARY)
    with pytest.raises(ValueError, match="end token 1 is also a token within a path"):
        TrieLogitsProcessor(trie, start=MARK, end=END)


def test_a_start_within_a_path_is_refused(trie: CodeTrie) -> None:
    with pytest.raises(ValueError, match="start token 7 is also a token of the paths"):
        TrieLogitsProcessor(trie, start=7, end=END)


def test_a_model_with_fewer_tokens_is_refused(trie: CodeTrie) -> None:
    processor = TrieLogitsProcessor(trie, start=PAD, end=END)
    with pytest.raises(ValueError, match="has 12 tokens, the model 8"):
        processor(torch.tensor([[PAD]]), torch.zeros(1, 8))
