import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from semid.catalog import Catalog
from semid.titles import title_paths
from semid.trie import CodeTrie

WORDS = ["[UNK]", "</s>", "red", "pink", "lipstick", "matte", "brush"]
END = 1


def word_tokenizer(**settings: Any) -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({word: row for row, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.normalizer = Lowercase()
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    settings = {"unk_token": "[UNK]", "eos_token": "</s>", **settings}
    return PreTrainedTokenizerFast(tokenizer_object=words, **settings)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return word_tokenizer()


def test_a_title_is_its_tokens_and_the_end(tokenizer: Any) -> None:
    made = title_paths(["red lipstick", "brush", "red lipstick matte"], tokenizer)
    assert made.paths.tolist() == [[2, 4, 1, -1], [6, 1, -1, -1], [2, 4, 5, 1]]
    assert made.paths.dtype == torch.int64
    assert made.end_token == END
    assert made.duplicates.colliding_items == 0


def test_a_title_that_starts_another_is_a_leaf_of_its_own(tokenizer: Any) -> None:
    made = title_paths(["red", "red lipstick"], tokenizer)
    trie = CodeTrie.from_paths(made.paths, len(tokenizer))
    leaf = int(trie.walk(torch.tensor([2, END])))
    assert trie.items_below(leaf).tolist() == [0]
    assert trie.items_below(int(trie.walk(torch.tensor([2])))).tolist() == [0, 1]


def test_items_that_share_a_title_are_twins_and_reported(
    tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        made = title_paths(["red brush", "pink brush", "Red  brush"], tokenizer)
    assert (made.duplicates.colliding_items, made.duplicates.largest_group) == (2, 2)
    assert "2 of 3 items share" in caplog.text
    trie = CodeTrie.from_paths(made.paths, len(tokenizer))
    assert trie.items_below(int(trie.walk(made.paths[0, :3]))).tolist() == [0, 2]


@given(st.lists(st.lists(st.sampled_from(WORDS[2:]), min_size=1, max_size=4), min_size=1))
def test_the_trie_over_titles_leads_back_to_the_items(titles: list[list[str]]) -> None:
    joined = [" ".join(words) for words in titles]
    tokenizer = word_tokenizer()
    made = title_paths(joined, tokenizer)
    trie = CodeTrie.from_paths(made.paths, len(tokenizer))
    counts = Counter(joined)
    assert made.duplicates.colliding_items == sum(counts[title] > 1 for title in joined)
    for title, path in zip(joined, made.paths, strict=True):
        node = int(trie.walk(path[path >= 0]))
        assert trie.num_children(torch.tensor(node)) == 0
        found = trie.items_below(node).tolist()
        assert found == [row for row, other in enumerate(joined) if other == title]


def test_any_callable_with_an_end_token_will_do() -> None:
    class Letters:
        eos_token_id = 0

        def __call__(self, texts: list[str], *, add_special_tokens: bool) -> dict[str, Any]:
            assert not add_special_tokens
            return {"input_ids": [[ord(letter) for letter in text] for text in texts]}

    assert title_paths(["ab"], Letters()).paths.tolist() == [[97, 98, 0]]
    assert title_paths(["ab"], Letters(), end_token=7).paths.tolist() == [[97, 98, 7]]


@pytest.mark.parametrize(
    ("titles", "message"),
    [
        (["red", "", " "], r"at least one token, got 2 items .* first item 11\. Fill"),
        (["red", "pink", "red </s> brush"], "without the end token 1, got 1 .* first item 12"),
    ],
)
def test_titles_that_are_no_paths_are_refused(
    tokenizer: Any, titles: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        title_paths(titles, tokenizer, item_ids=[10, 11, 12])


def test_a_tokenizer_needs_no_padding_token_and_no_beginning(tokenizer: Any) -> None:
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id) == (None, None)
    padded = word_tokenizer(pad_token="matte", bos_token="pink")
    titles = ["red lipstick", "brush"]
    assert title_paths(titles, padded).paths.equal(title_paths(titles, tokenizer).paths)


def test_no_title_and_no_end_token_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ValueError, match="at least one title"):
        title_paths([], tokenizer)
    with pytest.raises(ValueError, match="without eos_token_id"):
        title_paths(["red"], word_tokenizer(eos_token=None))


@pytest.mark.shared_data
def test_the_titles_of_a_shop_lead_back_to_its_items(shared_data: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    catalog = Catalog.read(shared_data / "office_tca4rec" / "items.parquet")
    titles = catalog.texts("{title}")
    bytes_ = ByteLevelBPETokenizer()
    bytes_.train_from_iterator(
        titles, vocab_size=1000, special_tokens=["</s>"], show_progress=False
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bytes_._tokenizer, eos_token="</s>")
    made = title_paths(titles, tokenizer, item_ids=catalog.item_ids)
    counts = Counter(titles)
    assert made.duplicates.colliding_items == sum(counts[title] > 1 for title in titles) == 1035
    assert made.duplicates.largest_group == max(counts.values()) == 18
    trie = CodeTrie.from_paths(made.paths, len(tokenizer))
    leaves = trie.node_of_item.long()
    assert (trie.num_children(leaves) == 0).all()
    assert trie.walk(made.paths[0, made.paths[0] >= 0]) == leaves[0]
    for row in range(0, len(titles), 500):
        same = trie.items_below(int(leaves[row])).tolist()
        assert same == [other for other, title in enumerate(titles) if title == titles[row]]
