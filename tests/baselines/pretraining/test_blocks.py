"""Blocks hold every text once, and a model reads each in them as it reads it alone."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from baselines.lm.fluency import IGNORED_LABEL
from baselines.pretraining.blocks import Blocks

PAD = 0
TEXTS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=30)


def texts_of(blocks: Blocks) -> list[list[int]]:
    """The texts of all blocks; a position of 0 begins one, and padding is none."""
    found = []
    for number in range(len(blocks)):
        block = blocks[number]
        for token, place in zip(block["input_ids"], block["position_ids"], strict=True):
            if place == 0:
                found.append([])
            found[-1].append(int(token))
    return [text for text in found if text[0] != PAD]


@given(TEXTS, st.integers(4, 16))
def test_every_text_stands_in_one_block_whole_or_cut_to_it(
    texts: list[list[int]], length: int
) -> None:
    blocks = Blocks(texts, length=length, pad=PAD)
    assert sorted(texts_of(blocks)) == sorted(text[:length] for text in texts)
    assert all(
        len(blocks[number][name]) == length for number in range(len(blocks)) for name in blocks[0]
    )
    half_full = [
        int((blocks[n]["input_ids"] != PAD).sum()) * 2 <= length for n in range(len(blocks))
    ]
    assert sum(half_full) <= 1, "two that are at most half full would fit into one"


@given(TEXTS)
def test_all_tokens_but_the_first_of_each_text_are_learned(texts: list[list[int]]) -> None:
    blocks = Blocks(texts, length=16, pad=PAD)
    for number in range(len(blocks)):
        block = blocks[number]
        is_learned = (block["position_ids"] > 0) & (block["input_ids"] != PAD)
        assert (
            block["labels"].tolist()
            == torch.where(is_learned, block["input_ids"], IGNORED_LABEL).tolist()
        )


def test_a_model_reads_a_text_of_a_block_as_it_reads_it_alone() -> None:
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=10,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.5,
    )
    model = LlamaForCausalLM(shape).eval()
    model.config.use_cache = False
    texts = [[1, 2, 3, 4], [5, 6], [1, 7, 8]]
    (block,) = list(Blocks(texts, length=12, pad=PAD))
    with torch.no_grad():
        together = model(
            input_ids=block["input_ids"][None], position_ids=block["position_ids"][None]
        ).logits[0]
        loss = model(**{name: value[None] for name, value in block.items()}).loss
        losses = []
        begins = (block["position_ids"] == 0).nonzero().squeeze(1).tolist()
        for begin in begins[:3]:
            text = next(
                t for t in texts if t == block["input_ids"][begin : begin + len(t)].tolist()
            )
            alone = model(input_ids=torch.tensor([text])).logits[0]
            torch.testing.assert_close(together[begin : begin + len(text)], alone)
            log_p = alone.log_softmax(dim=-1)
            losses += [-float(log_p[pos, token]) for pos, token in enumerate(text[1:])]
    assert abs(float(loss) - sum(losses) / len(losses)) < 1e-5
