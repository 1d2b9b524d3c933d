"""Titles ranked by probability per token, beside ``generate`` and a loop over the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny_lm import write_model
from torch import Tensor
from worlds import histories, random_sequences

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import Histories
from baselines.evaluation.certificate import certify
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import rank_by_beam, rank_by_scores, rank_targets
from baselines.evaluation.ranks import POLICIES, Ranks
from baselines.lm.config import LanguageModelConfig
from baselines.recommenders.d3 import D3Backbone
from baselines.recommenders.tallrec import TallrecBackbone
from semid.catalog import Catalog
from semid.config import Renormalize
from semid.decoding import apply_length_penalty, beam_search, rank_items
from semid.generation import TrieLogitsProcessor

TITLES = [
    "red lipstick",
    "red lipstick set",
    "pink lipstick",
    "pink shampoo",
    "nude lipstick",
    "nude",
    "dry shampoo",
    "a dry brush of the finest hair",
    "oily shampoo, by Bo",
    "fine brush",
    "nude",
    "brush",
]
CATALOG = Catalog(item_ids=list(range(12)), fields=pl.DataFrame({"title": TITLES}))
LEAVES = len(set(TITLES))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


def made(cls: type[LanguageBackbone], model: Path, codes: Tensor) -> LanguageBackbone:
    config = LanguageModelConfig(model=str(model), template="had {history}>", max_history=4)
    return cls(config, BuildContext(codes, (3, 3, 2), 0, CATALOG)).eval()


class OneByOne:
    """Every item, one title after another: its log-probability, as a power of length divides it."""

    max_history = 99

    def __init__(self, backbone: LanguageBackbone, renormalize: Renormalize) -> None:
        self.backbone, self.renormalize = backbone, renormalize

    @torch.no_grad()
    def score(self, past: Histories) -> Tensor:
        own, rows = self.backbone, []
        paths = [row[row >= 0].tolist() for row in own.paths]
        for prompt, real in zip(*own.prompts(past), strict=True):
            scores = []
            for path in paths:
                tokens = torch.tensor([prompt[real].tolist() + path])
                logits = own.base(input_ids=tokens).logits[0, -len(path) - 1 : -1].double()
                total = 0.0
                for pos, token in enumerate(path):
                    legal = sorted({p[pos] for p in paths if p[:pos] == path[:pos]})
                    rivals = logits[pos] if self.renormalize == "none" else logits[pos, legal]
                    total += float(logits[pos, token] - rivals.logsumexp(dim=0))
                scores.append(total / len(path) ** own.length_penalty)
            rows.append(scores)
        return torch.tensor(rows)


def assert_same(found: Ranks, wanted: Ranks) -> None:
    for policy in POLICIES:
        np.testing.assert_array_equal(found.better[policy], wanted.better[policy])
        np.testing.assert_array_equal(found.tied[policy], wanted.tied[policy])


@pytest.mark.parametrize("renormalize", ["children", "none"])
def test_ranks_are_those_of_every_title_by_its_probability_per_token(
    llama: Path, tiny_codes: Tensor, renormalize: Renormalize
) -> None:
    backbone, data = made(TallrecBackbone, llama, tiny_codes), random_sequences(12, 4, longest=6)
    how = EvaluationConfig(renormalize=renormalize, beam=LEAVES, certified=9)
    found = rank_targets(backbone, data, how, beam=LEAVES)
    assert_same(found, rank_by_scores(OneByOne(backbone, renormalize), data))
    plain = rank_by_beam(backbone, data, beam=LEAVES, renormalize=renormalize)
    assert (plain.better["kept"] != found.better["kept"]).any(), "length counts"
    assert certify(backbone, data, how).recall[str(LEAVES)] == 1.0


def test_a_beam_of_the_whole_catalogue_scores_as_generate_does(
    llama: Path, tiny_codes: Tensor
) -> None:
    backbone = made(TallrecBackbone, llama, tiny_codes)
    past = histories([3, 1, 4], [5], [0, 1, 2, 9], padding=1)
    tokens, mask = backbone.prompts(past)
    end = backbone.tokenizer.eos_token_id
    start, trie = backbone.start(past), backbone.trie
    processor = TrieLogitsProcessor(trie, start=int(tokens[0, -1]), end=end)

    def allowed(_: int, written: Tensor) -> list[int]:
        node = int(processor.nodes(written.unsqueeze(0)))
        children = trie.token_of_node[trie.first_child[node] : trie.first_child[node + 1]]
        return children.tolist() or [end]

    model: Any = backbone.base
    written = model.generate(
        input_ids=tokens,
        attention_mask=mask.long(),
        prefix_allowed_tokens_fn=allowed,  # our processor refuses to divide by lengths
        max_new_tokens=trie.depth,
        num_beams=LEAVES,
        num_return_sequences=LEAVES,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
        return_dict_in_generate=True,
        output_scores=True,
    )
    found = beam_search(start, trie, beam=LEAVES, renormalize="none")
    found = apply_length_penalty(found, trie, penalty=backbone.length_penalty)
    items = processor.items(written.sequences).view(len(past.items), LEAVES)
    ours = rank_items(found, trie, k=12).items
    assert [[TITLES[i] for i in row] for row in items.tolist()] == [
        list(dict.fromkeys(TITLES[i] for i in row)) for row in ours.tolist()
    ]
    expected = written.sequences_scores.view_as(items)
    torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("renormalize", ["children", "none"])
def test_d3_is_not_divided_and_its_released_code_does_not_renormalise(
    llama: Path, tiny_codes: Tensor, renormalize: Renormalize
) -> None:
    backbone, data = made(D3Backbone, llama, tiny_codes), random_sequences(12, 4, longest=6)
    how = EvaluationConfig(renormalize=renormalize, beam=LEAVES)
    found = rank_targets(backbone, data, how, beam=LEAVES)
    assert_same(found, rank_by_scores(OneByOne(backbone, renormalize), data))
    other: Renormalize = "none" if renormalize == "children" else "children"
    otherwise = rank_by_scores(OneByOne(backbone, other), data)
    assert (otherwise.better["kept"] != found.better["kept"]).any(), "forced tokens cost in one"


def test_d3_ranks_by_plain_probability(llama: Path, tiny_codes: Tensor) -> None:
    data, how = random_sequences(12, 4, longest=6), EvaluationConfig()
    plain, d3 = (
        rank_targets(made(cls, llama, tiny_codes), data, how, beam=LEAVES)
        for cls in (LanguageBackbone, D3Backbone)
    )
    assert_same(d3, plain)
