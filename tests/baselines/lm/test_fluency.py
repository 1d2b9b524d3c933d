"""Perplexity of texts beside its definition, and how many written titles exist."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from baselines.lm.fluency import fluency, log_likelihoods, valid_titles, write_titles
from baselines.pretraining.config import SmallModelConfig
from baselines.pretraining.small import small_llama, train_tokenizer
from semid.titles import title_paths
from semid.trie import CodeTrie

TITLES = ["red lipstick", "red lipstick matte", "pink lipstick", "brush", "brush set", "nude"]
TOKENIZER = train_tokenizer(TITLES, 280)


def random_llama(seed: int = 0) -> Any:
    shape = SmallModelConfig(dim=16, num_layers=2, num_heads=2, ff_dim=16)
    model = small_llama(TOKENIZER, shape, seed=seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)
    return model


MODEL = random_llama()
END = TOKENIZER.eos_token_id


@torch.no_grad()
def one_by_one(text: str, first: int) -> list[float]:
    """Log-probability of each token and the end, one token after another, nothing batched."""
    read, found = [first], []
    for token in [*TOKENIZER(text, add_special_tokens=False)["input_ids"], TOKENIZER.eos_token_id]:
        logits = MODEL(input_ids=torch.tensor([read])).logits[0, -1].double()
        found.append(float(logits.log_softmax(dim=-1)[token]))
        read.append(token)
    return found


@settings(max_examples=10)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=7), st.integers(1, 4))
def test_texts_read_together_are_read_as_alone(texts: list[str], batch_size: int) -> None:
    expected = [one_by_one(text, TOKENIZER.bos_token_id) for text in texts]
    log_p, tokens = log_likelihoods(MODEL, TOKENIZER, texts, batch_size=batch_size)
    assert tokens.tolist() == [len(row) for row in expected]
    torch.testing.assert_close(
        log_p, torch.tensor([sum(row) for row in expected]).double(), rtol=1e-4, atol=1e-4
    )
    found = fluency(MODEL, TOKENIZER, texts, batch_size=batch_size)
    everything = [value for row in expected for value in row]
    means = [sum(row) / len(row) for row in expected]
    assert (found.texts, found.tokens) == (len(texts), len(everything))
    mean = sum(everything) / len(everything)
    assert found.perplexity == pytest.approx(math.exp(-mean), rel=1e-3)
    assert found.text_perplexity == pytest.approx(math.exp(-sum(means) / len(means)), rel=1e-3)


def test_a_model_that_guesses_has_the_perplexity_of_its_vocabulary() -> None:
    model = small_llama(TOKENIZER, SmallModelConfig(dim=16, num_layers=1, num_heads=2), seed=0)
    with torch.no_grad():
        model.get_input_embeddings().weight.zero_()
    found = fluency(model.eval(), TOKENIZER, TITLES)
    assert found.perplexity == pytest.approx(len(TOKENIZER))
    assert found.text_perplexity == pytest.approx(len(TOKENIZER))


def without(*names: str) -> Any:
    kept = {"bos_token": "<|bos|>", "eos_token": "<|eos|>", "pad_token": "<|pad|>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZER.backend_tokenizer,
        **{name: token for name, token in kept.items() if name not in names},
    )


def test_a_tokenizer_without_a_beginning_begins_with_the_end() -> None:
    log_p, _ = log_likelihoods(MODEL, without("bos_token", "pad_token"), ["nude"])
    expected = sum(one_by_one("nude", TOKENIZER.eos_token_id))
    assert float(log_p[0]) == pytest.approx(expected, rel=1e-4)


def test_no_text_and_no_end_token_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one text"):
        fluency(MODEL, TOKENIZER, [])
    with pytest.raises(ValueError, match="with an end token"):
        fluency(MODEL, without("eos_token"), ["nude"])
    with pytest.raises(ValueError, match="with an end token"):
        write_titles(MODEL, without("eos_token"), [[40]])
    with pytest.raises(ValueError, match="at least one generated title"):
        valid_titles([], TITLES)


def test_a_title_is_valid_letter_by_letter_or_but_for_white_space() -> None:
    written = ["brush", " brush ", "red\tlipstick", "Brush", "brushes", ""]
    found = valid_titles(written, [*TITLES, "two  spaces"])
    assert (found.exact, found.normalised) == (1 / 6, 3 / 6)
    assert valid_titles(["two spaces"], ["two  spaces"]).normalised == 1


def test_titles_written_within_the_trie_are_valid_and_written_freely_are_not() -> None:
    prompts = [[TOKENIZER.bos_token_id], [40, 50, 60, TOKENIZER.bos_token_id]]
    free = write_titles(MODEL, TOKENIZER, prompts, max_new_tokens=8)
    trie = CodeTrie.from_paths(title_paths(TITLES, TOKENIZER).paths, len(TOKENIZER))
    held = write_titles(MODEL, TOKENIZER, prompts, within=trie, max_new_tokens=trie.depth)
    assert len(free) == len(held) == 2
    assert valid_titles(held, TITLES).exact == 1
    assert valid_titles(free, TITLES).exact == 0
    alone = [
        write_titles(MODEL, TOKENIZER, [row], within=trie, max_new_tokens=trie.depth)[0]
        for row in prompts
    ]
    assert held == alone, "padding changes nothing"
    unpadded = without("pad_token")
    assert held == write_titles(MODEL, unpadded, prompts, within=trie, max_new_tokens=trie.depth), (
        "no padding token is needed"
    )


def test_titles_begin_behind_a_prompt_that_ends_in_a_token_of_titles() -> None:
    trie = CodeTrie.from_paths(title_paths(TITLES, TOKENIZER).paths, len(TOKENIZER))
    row = TOKENIZER("red lipstick", add_special_tokens=False)["input_ids"]
    likely = {title: 0.0 for title in TITLES}
    for title in likely:
        ids = [*row, *TOKENIZER(title, add_special_tokens=False)["input_ids"], END]
        with torch.no_grad():
            log_p = MODEL(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(dim=-1)
        likely[title] = sum(float(log_p[at - 1, ids[at]]) for at in range(len(row), len(ids)))
    settings = {"max_new_tokens": trie.depth, "num_beams": 6, "length_penalty": 0.0}
    found = write_titles(MODEL, TOKENIZER, [row], within=trie, **settings)
    assert found == [max(likely, key=lambda title: likely[title])], "the search is wide enough"


def test_what_a_model_says_of_generation_changes_nothing_that_is_written() -> None:
    prompts = [[TOKENIZER.bos_token_id], [40, 50, 60]]
    own = copy.deepcopy(MODEL)
    own.generation_config.update(do_sample=True, temperature=9.0, repetition_penalty=5.0)
    for how in ({"max_new_tokens": 12}, {"max_new_tokens": 12, "num_beams": 3}):
        expected = write_titles(MODEL, TOKENIZER, prompts, **how)
        assert write_titles(own, TOKENIZER, prompts, **how) == expected
        assert write_titles(own, TOKENIZER, prompts, **how, repetition_penalty=5.0) != expected
