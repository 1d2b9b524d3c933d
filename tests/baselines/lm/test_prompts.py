"""Histories in a template: what the tokens say, and what is left out when they are too many."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_lm import tokenizer_of
from worlds import histories

from baselines.lm.config import LanguageModelConfig
from baselines.lm.prompts import FIRST_ITEM, USER, Prompts

TITLES = ["red lipstick", "pink shampoo", "nude", "fine brush, by Bo", "dry brush"]
CHAT = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}assistant: "


def prompts(
    *, tokenizer: Any = None, answer: int = 4, context: int = 512, **options: Any
) -> tuple[Prompts, Any]:
    tokenizer = tokenizer or tokenizer_of(TITLES)
    options = {"template": "had {history}; next ", "max_history": 3, **options}
    items = tokenizer(TITLES, add_special_tokens=False)["input_ids"]
    config = LanguageModelConfig(model="m", **options)
    return Prompts(tokenizer, config, items, answer=answer, context=context), tokenizer


def texts(made: Prompts, tokenizer: Any, *pasts: list[int], padding: int = 0) -> list[str]:
    tokens, mask = made(histories(*pasts, padding=padding))
    assert mask[:, -1].all()
    assert mask.shape[1] == int(mask.sum(1).max()), "no more padding than the longest needs"
    assert (mask.int().diff(dim=1) >= 0).all(), "padding stands on the left"
    return [tokenizer.decode(row[real]) for row, real in zip(tokens, mask, strict=True)]


@pytest.mark.parametrize("padding", [0, 2])
def test_a_prompt_is_the_template_with_the_last_titles(padding: int) -> None:
    made, tokenizer = prompts()
    assert texts(made, tokenizer, [4, 0, 1, 2], [3], padding=padding) == [
        'had "red lipstick", "pink shampoo", "nude"; next ',
        'had "fine brush, by Bo"; next ',
    ]


def test_an_item_has_the_tokens_of_its_title_alone_wherever_it_stands() -> None:
    made, tokenizer = prompts(item="{item}", separator="")
    alone = tokenizer(TITLES, add_special_tokens=False)["input_ids"]
    tokens, mask = made(histories([0, 1]))
    assert mask.all()
    before, after = (tokenizer(part)["input_ids"] for part in ("had ", "; next "))
    assert tokens[0].tolist() == [*before, *alone[0], *alone[1], *after]


def test_slots_are_numbers_below_zero_and_text_where_none_are_asked_for() -> None:
    options = {"template": "{user} had {history}; next ", "item": "{item} {vector}"}
    plain, tokenizer = prompts(**options)
    assert texts(plain, tokenizer, [0, 2]) == [
        "{user} had red lipstick {vector}, nude {vector}; next "
    ]
    config = LanguageModelConfig(model="m", max_history=3, **options)
    items = tokenizer(TITLES, add_special_tokens=False)["input_ids"]
    made = Prompts(tokenizer, config, items, answer=4, context=512, slots=("{user}", "{vector}"))
    tokens, mask = made(histories([0, 2], [4]))
    words = [tokenizer(text)["input_ids"] for text in (" had ", " ", ", ", "; next ")]
    had, space, comma, after = words
    first = [*items[0], *space, FIRST_ITEM, *comma, *items[2], *space, FIRST_ITEM - 2]
    assert tokens[0].tolist() == [USER, *had, *first, *after]
    assert tokens[1][mask[1]].tolist() == [USER, *had, *items[4], *space, FIRST_ITEM - 4, *after]
    assert (tokens[~mask] == 0).all(), "padding is no slot"
    assert made.content_hash() != plain.content_hash()


def test_a_long_prompt_loses_its_oldest_items_and_never_the_latest() -> None:
    whole, tokenizer = prompts()
    words = len(tokenizer('had ; next "nude", "dry brush"')["input_ids"]) + 2
    short, _ = prompts(max_length=words + 4, tokenizer=tokenizer)
    past = histories([1, 2, 4], [4])
    assert texts(short, tokenizer, [1, 2, 4], [4]) == [
        'had "nude", "dry brush"; next ',
        'had "dry brush"; next ',
    ]
    assert short.shortened(past).tolist() == [True, False]
    assert whole.shortened(past).tolist() == [False, False]
    assert short.content_hash() != whole.content_hash()
    tokens, _ = short(past)
    assert tokens.shape[1] + 4 <= words + 4


def test_no_prompt_and_answer_exceed_the_length() -> None:
    _, tokenizer = prompts()
    for most in range(34, 70):
        made, _ = prompts(max_length=most, tokenizer=tokenizer, max_history=5)
        tokens, mask = made(histories([0, 1, 2, 3, 4], [2, 2, 2, 2, 2], [3]))
        assert tokens.shape[1] + 4 <= most
        assert mask.any(dim=1).all()


def test_a_length_without_room_for_one_item_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 20 tokens with at least the latest item"):
        prompts(max_length=20)
    with pytest.raises(ValueError, match=r"Raise max_length, up to the model's 20"):
        prompts(context=20)


def test_a_chat_template_wraps_the_prompt_only_when_asked() -> None:
    tokenizer = tokenizer_of(TITLES, chat_template=CHAT)
    plain, chat = (prompts(chat=chat, tokenizer=tokenizer)[0] for chat in (False, True))
    assert texts(plain, tokenizer, [2]) == ['had "nude"; next ']
    assert texts(chat, tokenizer, [2]) == ['<s>user: had "nude"; next </s>assistant: ']
    tokens, _ = chat(histories([2]))
    assert {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<s>")} < set(
        tokens[0].tolist()
    )
    with pytest.raises(ValueError, match="Leave chat out"):
        prompts(chat=True)


def test_a_start_token_stands_first_where_the_tokenizer_puts_one() -> None:
    from tokenizers import processors

    tokenizer = tokenizer_of(TITLES, bos_token="<s>")
    made, _ = prompts(tokenizer=tokenizer)
    assert texts(made, tokenizer, [2]) == ['had "nude"; next ']
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    made, _ = prompts(tokenizer=tokenizer)
    assert texts(made, tokenizer, [2]) == ['<s>had "nude"; next ']


@pytest.mark.parametrize(
    "options",
    [{"template": "nothing"}, {"template": "{history} {history}"}, {"item": "x"}, {"items": "x"}],
)
def test_settings_that_say_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must contain|must be one of"):
        prompts(**options)


def test_what_stands_in_the_padding_does_not_matter() -> None:
    made, _ = prompts()
    past = histories([0, 1], [2])
    past.items[1, 0] = 3
    tokens = made(past)
    past.items[1, 0] = 0
    assert all(torch.equal(*pair) for pair in zip(tokens, made(past), strict=True))
