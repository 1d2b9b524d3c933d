"""What holds for every backbone: one definition of its logits, from a sample's own past only."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny_lm
import torch
from building import build as built
from tiny_lm import write_model
from torch import Tensor
from worlds import all_logits, as_logits, histories, next_logits, random_sequences

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.backbones.language import LanguageBackbone
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import Backbone, BuildContext, CodeBackbone
from baselines.data.batches import TrainBatch, Windows
from baselines.lm.config import LanguageModelConfig
from baselines.models.config import BackboneConfigs
from baselines.nn.config import EncoderConfig
from baselines.recommenders.config import AllmrecConfig, CollmConfig
from baselines.teachers.config import SASRecConfig
from baselines.teachers.sasrec import SASRec
from semid.catalog import Catalog
from semid.config import Renormalize
from semid.decoding import beam_search, rank_items
from semid.scoring import score_all
from tca.config import ObjectiveConfig
from tca.objective import Objective

SIZES = (3, 3, 2)
NUM_ITEMS = 13
MAX_HISTORY = 4
PASTS = [[3, 1, 4, 1], [7], [2, 9], [11, 10, 12]]

TITLES = [*tiny_lm.TITLES, "red lipstick"]  # the last is a twin

Build = Callable[[Tensor, int], Backbone]


def causal(input_form: str, *, filter_share: float = 0.0) -> Build:
    config = CausalConfig(
        input=input_form,  # type: ignore[arg-type]
        max_history=MAX_HISTORY,
        encoder=EncoderConfig(dim=8, num_heads=2, ff_dim=16),
        filter_share=filter_share,
        filter_cutoff=3,
    )
    return lambda codes, seed: CausalBackbone(config, BuildContext(codes, SIZES, seed))


def tiger(*, separator: bool = False, user_tokens: int = 0, causal: bool = False) -> Build:
    config = TigerConfig(
        num_layers=2,
        dim=16,
        num_heads=2,
        head_dim=8,
        ff_dim=24,
        max_history=MAX_HISTORY,
        separator=separator,
        user_tokens=user_tokens,
        attention="causal" if causal else "bidirectional",
    )
    return lambda codes, seed: TigerBackbone(config, BuildContext(codes, SIZES, seed))


def language(kind: str = "llama", *, codes: bool = False, tied: bool = False) -> Build:
    def build(item_codes: Tensor, seed: int) -> Backbone:
        config = LanguageModelConfig(
            model=model_of(kind, tied),
            items="codes" if codes else "titles",
            template="chosen: {history} next: ",
            max_history=MAX_HISTORY,
        )
        catalog = Catalog(item_ids=list(range(NUM_ITEMS)), fields=pl.DataFrame({"title": TITLES}))
        return LanguageBackbone(config, BuildContext(item_codes, SIZES, seed, catalog))

    return build


def recommender(name: str, *, codes: bool = False) -> Build:
    """One that reads vectors of a teacher, which is the same whatever the seed."""

    def build(item_codes: Tensor, seed: int) -> Backbone:
        template = "of {user} chosen: {history} next: "
        config = LanguageModelConfig(
            model=model_of("llama", False),
            items="codes" if codes else "titles",
            template="chosen: {history} next: ",
            max_history=MAX_HISTORY,
        )
        configs = BackboneConfigs(
            lm=config,
            collm=CollmConfig(template=template),
            allmrec=AllmrecConfig(template=template),
        )
        encoder = EncoderConfig(dim=8, num_heads=2, ff_dim=16)
        teacher = SASRec(SASRecConfig(encoder=encoder), NUM_ITEMS, seed=0).eval()
        catalog = Catalog(item_ids=list(range(NUM_ITEMS)), fields=pl.DataFrame({"title": TITLES}))
        return built(name, configs, item_codes, SIZES, seed, catalog=catalog, teacher=teacher)

    return build


MODELS = tempfile.TemporaryDirectory()


@cache
def model_of(kind: str, tied: bool) -> str:
    folder = Path(MODELS.name) / f"{kind}-{tied}"
    return str(write_model(folder, TITLES, kind=kind, tied=tied, spare=3))


FORMS: dict[str, Build] = {
    "causal over items": causal("item"),
    "causal over codes": causal("code"),
    "causal over items with a filter": causal("item", filter_share=0.7),
    "causal over codes with a filter": causal("code", filter_share=0.7),
    "tiger": tiger(),
    "tiger with separator": tiger(separator=True),
    "tiger with users": tiger(user_tokens=3),
    "tiger with both": tiger(separator=True, user_tokens=3),
    "tiger with a causal encoder": tiger(causal=True),
    "tiger with a causal encoder and both": tiger(separator=True, user_tokens=3, causal=True),
    "titles by llama": language(),
    "codes by llama": language(codes=True),
    "codes by llama, tied": language(codes=True, tied=True),
    "titles by qwen2": language("qwen2", tied=True),
    "codes by gemma": language("gemma", codes=True, tied=True),
    "llara": recommender("llara"),
    "llara over codes": recommender("llara", codes=True),
    "collm": recommender("collm"),
    "allmrec": recommender("allmrec"),
    "allmrec over codes": recommender("allmrec", codes=True),
}


@pytest.fixture
def codes(tiny_codes: Tensor) -> Tensor:
    """A dozen items and a twin of the first."""
    return torch.cat([tiny_codes, tiny_codes[:1]])


@pytest.fixture(params=FORMS)
def backbone(request: pytest.FixtureRequest, codes: Tensor) -> Backbone:
    """A backbone whose logits differ by far more than rounding."""
    made = FORMS[request.param](codes, 0)
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.5)
    return made.eval()


def batch_of(windows: Windows) -> TrainBatch:
    return windows.batch(np.arange(len(windows)))


def slow_logits(backbone: Backbone, past: list[int], user: int, item: int) -> Tensor:
    """Next-token logits along an item's path, one history and one prefix at a time."""
    tokens = own_tokens(backbone, item)
    history = histories(past, users=[user])
    places = range(len(tokens))
    rows = [next_logits(backbone, history, tokens[None, None, :pos]) for pos in places]
    return torch.stack([row[0, 0] for row in rows])


def own_tokens(backbone: Backbone, item: int) -> Tensor:
    """The path of an item without what fills it up."""
    path = backbone.paths[item]
    return path[path >= 0]


@torch.no_grad()
def test_decoding_the_true_path_gives_the_teacher_forced_logits(backbone: Backbone) -> None:
    data = random_sequences(NUM_ITEMS, 6, longest=7)
    batch = batch_of(Windows.per_target(data, MAX_HISTORY))
    logits = all_logits(backbone, batch)
    assert logits.shape == (
        len(batch.target_row),
        backbone.trie.depth,
        backbone.trie.num_tokens,
    )
    for target, item in enumerate(batch.target_items.tolist()):
        window = batch.windows.items[target][batch.windows.mask[target]].tolist()
        expected = slow_logits(backbone, window[:-1], int(batch.windows.users[target]), item)
        torch.testing.assert_close(logits[target, : len(expected)], expected, atol=1e-5, rtol=1e-4)
    allowed = logits.isfinite()
    assert float(logits[:, 0][allowed[:, 0]].std()) > 0.1


@torch.no_grad()
def test_logits_at_some_positions_are_those_of_all(backbone: Backbone) -> None:
    batch = batch_of(Windows.per_target(random_sequences(NUM_ITEMS, 6, longest=7), MAX_HISTORY))
    at = Objective(ObjectiveConfig()).positions(
        backbone.trie, batch.target_items, pad_to=backbone.pad_positions_to
    )
    assert 0 < at.real.sum() < backbone.trie.depth * len(batch.target_row), (
        "some tokens are certain"
    )
    expected = all_logits(backbone, batch)[at.target, at.pos]
    torch.testing.assert_close(as_logits(backbone(batch, at)), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_and_batch_mates_change_no_logits(backbone: Backbone) -> None:
    prefix = backbone.paths[:, :2][None]
    together = histories(*PASTS)
    padded = histories(*PASTS, padding=3)
    for depth in range(3):
        steps = prefix[:, :, :depth].expand(len(PASTS), -1, -1)
        logits = next_logits(backbone, together, steps)
        torch.testing.assert_close(
            next_logits(backbone, padded, steps), logits, atol=1e-5, rtol=1e-4
        )
        for row, past in enumerate(PASTS):
            alone = histories(past, users=[row])
            expected = next_logits(backbone, alone, prefix[:, :, :depth])[0]
            torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_padding_changes_no_teacher_forced_logits(backbone: Backbone) -> None:
    windows = Windows.per_target(random_sequences(NUM_ITEMS, 6, longest=7), MAX_HISTORY)
    together = all_logits(backbone, batch_of(windows))
    for number in range(len(windows)):
        alone = all_logits(backbone, windows.batch(np.array([number])))[0]
        torch.testing.assert_close(together[number], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_beams_side_by_side_do_not_see_each_other(backbone: Backbone) -> None:
    context = histories(*PASTS)
    prefixes = backbone.paths[:, :2]
    together = next_logits(backbone, context, prefixes.expand(len(PASTS), -1, -1))
    for beam, prefix in enumerate(prefixes):
        alone = next_logits(backbone, context, prefix.expand(len(PASTS), 1, -1))[:, 0]
        torch.testing.assert_close(together[:, beam], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_items_before_the_longest_history_change_nothing(backbone: Backbone) -> None:
    root = torch.zeros(1, 1, 0, dtype=torch.int64)
    long, short = ([5, 6, 8, *PASTS[0]], PASTS[0])
    logits = [next_logits(backbone, histories(p), root) for p in (long, short)]
    assert torch.equal(logits[0], logits[1])


@torch.no_grad()
def test_every_item_of_a_history_and_its_place_matter(backbone: Backbone) -> None:
    root = torch.zeros(1, 1, 0, dtype=torch.int64)

    def first(past: list[int]) -> Tensor:
        logits = next_logits(backbone, histories(past), root)[0, 0]
        return logits[logits.isfinite()]

    base = first([3, 1, 4, 5])
    for other in ([9, 1, 4, 5], [3, 9, 4, 5], [3, 1, 9, 5], [3, 1, 4, 9], [1, 3, 4, 5]):
        assert not torch.allclose(first(other), base, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("renormalize", ["children", "none"])
def test_a_beam_over_all_leaves_ranks_like_the_scores_of_all_items(
    backbone: Backbone, renormalize: Renormalize
) -> None:
    trie = backbone.trie
    start = backbone.start(histories(*PASTS))
    scores = score_all(start, trie, renormalize=renormalize)
    found = beam_search(start, trie, beam=trie.num_nodes, renormalize=renormalize)
    ranked = rank_items(found, trie, k=NUM_ITEMS)
    assert torch.equal(ranked.items.sort(dim=1).values, torch.arange(NUM_ITEMS).expand(4, -1))
    torch.testing.assert_close(ranked.scores, scores.gather(1, ranked.items), atol=1e-5, rtol=1e-5)
    assert torch.equal(scores[:, 0], scores[:, 12]), "twins share their score"
    if renormalize == "children":
        paths = scores[:, :12].exp().sum(dim=1)  # the twin's path counts once
        torch.testing.assert_close(paths, torch.ones(4))


@pytest.mark.parametrize("form", FORMS)
def test_the_seed_decides_the_weights_and_leaves_other_random_numbers_alone(
    form: str, codes: Tensor
) -> None:
    before = torch.get_rng_state()
    first, same, other = (dict(FORMS[form](codes, seed).named_parameters()) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_every_weight_is_learned(backbone: Backbone) -> None:
    backbone.begin_stage(backbone.stages[-1].name)
    batch = batch_of(backbone.windows(random_sequences(NUM_ITEMS, 20, longest=5)))
    logits = all_logits(backbone, batch)
    logits[logits.isfinite()].square().mean().backward()
    learned = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    assert learned
    assert not [name for name, value in learned.items() if value.grad is None]


def test_trie_and_vocabulary_spell_the_same_paths(backbone: Backbone, codes: Tensor) -> None:
    leaves = [int(backbone.trie.walk(own_tokens(backbone, item))) for item in range(NUM_ITEMS)]
    assert leaves == backbone.trie.node_of_item.tolist()
    assert backbone.max_history == MAX_HISTORY
    if isinstance(backbone, CodeBackbone):
        assert torch.equal(backbone.codes, codes)
        assert torch.equal(backbone.paths, backbone.vocab.tokens(codes))
        assert backbone.trie.num_tokens == backbone.vocab.num_tokens
