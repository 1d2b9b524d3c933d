"""Rules: counted pair by pair, scored item by item, and brought up to date."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import histories, random_sequences, sequence_set

import baselines.teachers.evidence
from baselines.data.sequences import SequenceSet
from baselines.data.synthetic import synthetic_dataset
from baselines.teachers.config import BUILT_IN, TeacherConfig
from baselines.teachers.counting_config import RulesConfig
from baselines.teachers.pairs import pair_counts
from baselines.teachers.rules import Rules
from baselines.teachers.vectors import item_vectors
from semid.arrays import Float32Array
from semid.embed import LsaEncoder, embed_catalog
from semid.provenance import Provenance

ITEMS = 10
PASTS = [[1, 2, 3], [9], [0, 0, 4, 5, 6, 7]]  # item 9 occurs in no sequence
CONFIGS = [
    RulesConfig(),
    RulesConfig(window=2, gap_power=1.5, backward=0.2, max_history=3, smoothing=0.5),
    RulesConfig(backward=0, row_power=0.5, column_power=0, decay=1),
    RulesConfig(gap_power=0, backward=2, row_power=0, column_power=1),
]


def slow_counts(config: RulesConfig, sequences: list[list[int]]) -> list[list[float]]:
    counts = [[0.0] * ITEMS for _ in range(ITEMS)]
    for items in sequences:
        for first, a in enumerate(items):
            for second in range(first + 1, len(items)):
                gap, b = second - first, items[second]
                if gap <= config.window:
                    counts[a][b] += gap**-config.gap_power
                    counts[b][a] += config.backward * gap**-config.gap_power
    return counts


def slow_scores(config: RulesConfig, sequences: list[list[int]], past: list[int]) -> list[float]:
    counts = slow_counts(config, sequences)
    of_row = [sum(row) for row in counts]
    of_column = [sum(row[b] for row in counts) for b in range(ITEMS)]
    rules = [[0.0] * ITEMS for _ in range(ITEMS)]
    for a in range(ITEMS):
        for b in range(ITEMS):
            if counts[a][b]:
                scale = of_row[a] ** -config.row_power * of_column[b] ** -config.column_power
                rules[a][b] = counts[a][b] * scale
    kept = [rule for row in rules for rule in row if rule]
    scores = []
    for b in range(ITEMS):
        evidence = 0.0
        for age, a in enumerate(reversed(past[-config.max_history :])):
            evidence += config.decay**age * rules[a][b] / (sum(kept) / len(kept))
        scores.append(math.log(evidence + config.smoothing))
    return scores


def as_lists(data: SequenceSet) -> list[list[int]]:
    return [part.tolist() for part in np.split(data.items, data.offsets[1:-1])]


def windows_of(sequences: list[list[int]], history: int) -> SequenceSet:
    """A window for each event but the first of a user."""
    cut = [
        (user, items[max(0, end - history) : end + 1])
        for user, items in enumerate(sequences)
        for end in range(1, len(items))
    ]
    windows = sequence_set([(items, len(items) - 1) for _, items in cut])
    return dataclasses.replace(windows, users=np.array([user for user, _ in cut]))


def rules_of(config: RulesConfig, train: SequenceSet) -> Rules:
    made = Rules(config, ITEMS)
    made.count(train)
    return made


@given(seed=st.integers(0, 1000), config=st.sampled_from(CONFIGS), at_once=st.integers(1, 40))
def test_scores_are_the_definition(seed: int, config: RulesConfig, at_once: int) -> None:
    train = random_sequences(ITEMS - 1, 12, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines.teachers.evidence, "_ENTRIES_AT_ONCE", at_once)
        scores = rules_of(config, train).score(histories(*PASTS, padding=2))
    assert scores.dtype == torch.float32
    for row, past in zip(scores.tolist(), PASTS, strict=True):
        assert row == pytest.approx(slow_scores(config, as_lists(train), past), rel=1e-4, abs=1e-5)


def test_a_pair_counts_by_its_distance_both_ways() -> None:
    counts = pair_counts(sequence_set([([3, 5, 7, 5], 1)]), ITEMS, RulesConfig(window=2)).toarray()
    half = 0.5**0.5
    assert counts[3, 5] == 1, "the second 5 is three steps away"
    assert counts[3, 7] == pytest.approx(half)
    assert counts[5, 3] == pytest.approx(0.5)
    assert counts[5, 7] == pytest.approx(1 + 0.5), "forwards from the first, back from the last"
    assert counts[5, 5] == pytest.approx(half + half / 2)


@given(seed=st.integers(0, 1000), config=st.sampled_from(CONFIGS))
def test_an_update_is_counting_all_at_once(seed: int, config: RulesConfig) -> None:
    rng = np.random.default_rng(seed)
    whole = as_lists(random_sequences(ITEMS - 1, 12, longest=12, seed=seed))
    cuts = [int(rng.integers(1, len(items) + 1)) for items in whole]
    before = [(items[:cut], 1) for items, cut in zip(whole, cuts, strict=True)]
    arrived = []
    for items, cut in zip(whole, cuts, strict=True):
        begin = max(0, cut - config.window)
        if cut < len(items):
            arrived.append((items[begin:], cut - begin))
    updated = rules_of(config, sequence_set(before))
    if arrived:
        updated.update(sequence_set(arrived))
    expected = rules_of(config, sequence_set([(items, 1) for items in whole]))
    past = histories(*PASTS)
    torch.testing.assert_close(updated.score(past), expected.score(past), rtol=1e-4, atol=1e-5)
    assert updated.counts.values.shape == expected.counts.values.shape


def test_an_event_in_several_windows_counts_once() -> None:
    sequences = as_lists(random_sequences(ITEMS - 1, 6, longest=9, seed=3))
    sequences = [list(dict.fromkeys(items)) for items in sequences]
    sequences = [items for items in sequences if len(items) > 1]
    windows = windows_of(sequences, history=3)
    past, config = histories(*PASTS), RulesConfig(window=3)
    expected = rules_of(config, sequence_set([(items, 1) for items in sequences]))
    torch.testing.assert_close(rules_of(config, windows).score(past), expected.score(past))


@given(seed=st.integers(0, 1000), config=st.sampled_from(CONFIGS), as_windows=st.booleans())
def test_without_their_own_events_users_are_scored_by_the_others(
    seed: int, config: RulesConfig, as_windows: bool
) -> None:
    sequences = as_lists(random_sequences(ITEMS - 1, 8, seed=seed))
    sequences[3] = [9, 9, 8]  # nobody else has item 9
    whole = sequence_set([(items, 1) for items in sequences])
    train = windows_of(sequences, history=20) if as_windows else whole
    made, users = rules_of(config, train), [3, 0, 5, 0, 99]
    past = histories([9, 8], [1, 2, 3], [4], [5, 5], [6, 2], padding=1, users=users)
    found = made.evidence(past, without=train)
    for row, user in enumerate(users):
        others = rules_of(config, whole.select(whole.users != user))
        expected = others.evidence(past)[row] * others.mean / made.mean
        torch.testing.assert_close(found[row], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        made.score_without_own(past, train), (found + config.smoothing).log()
    )


def test_without_pairs_all_items_tie() -> None:
    scores = rules_of(RulesConfig(), sequence_set([([4], 1)])).score(histories([4, 1]))
    assert scores.tolist() == [pytest.approx([math.log(0.1)] * ITEMS)]


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"window": 0}, "window must be a whole number from 1"),
        ({"decay": 0.0}, "decay must be"),
        ({"backward": -0.1}, "backward must be"),
        ({"row_power": 1.5}, "row_power must be"),
        ({"smoothing": 0.0}, "smoothing must be"),
        ({"gap_power": "much"}, "gap_power must be a finite number"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        RulesConfig(**setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["rules", "content", "rules+content"])
def test_a_record_describes_the_teacher(model: str) -> None:
    rules = RulesConfig(window=7, decay=0.9)
    record = TeacherConfig(model=model, rules=rules).record()
    restored = TeacherConfig.of_record(record)
    assert model in BUILT_IN
    assert (restored.model, restored.record()) == (model, record)
    assert (restored.rules == rules) == ("rules" in model)


def test_vectors_reproduce_the_normalised_counts() -> None:
    rules = Rules(RulesConfig(), ITEMS)
    rules.count(random_sequences(ITEMS - 1, 20))  # item 9 has no rules
    vectors = rules.item_vectors()
    assert vectors.dtype == torch.float32
    assert vectors.shape == (ITEMS, ITEMS)
    counts = rules.counts.matrix().toarray()
    both = counts + counts.T
    near = np.zeros((ITEMS, ITEMS))
    for a in range(ITEMS - 1):
        for b in range(ITEMS - 1):
            near[a, b] = (a == b) + both[a, b] / math.sqrt(both[a].sum() * both[b].sum())
    expected = torch.from_numpy(near @ near).float()
    torch.testing.assert_close(vectors @ vectors.T, expected, atol=1e-4, rtol=1e-4)
    assert (vectors[9].abs() < 1e-5).all()


def test_vectors_of_rules_bring_training_pairs_nearer_than_texts() -> None:
    """Share of adjacent training pairs among the 10 nearest items, on a world with both."""
    dataset = synthetic_dataset(num_users=400, num_items=120)
    teacher = Rules.build(dataset, 0, RulesConfig())
    text = embed_catalog(dataset.catalog, LsaEncoder(dim=64))
    lineage = Provenance(kind="teacher", content="rules", seen=dataset.splits.train_hash)
    cf = item_vectors(teacher, dataset, lineage)
    both = text.with_cf(cf, scale=1.0)
    assert both.provenance.seen == dataset.splits.train_hash
    train = dataset.splits.train
    sequence = np.repeat(np.arange(len(train)), train.lengths)
    pair = np.flatnonzero(sequence[1:] == sequence[:-1])

    def share(vectors: Float32Array) -> float:
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        near = unit @ unit.T - 2 * np.eye(len(unit))
        best = np.argsort(-near, axis=1)[:, :10]
        return float((best[train.items[pair]] == train.items[pair + 1][:, None]).any(axis=1).mean())

    assert share(cf.vectors) > 1.2 * share(text.vectors)
    assert share(both.vectors) > 1.1 * share(text.vectors)


def test_vectors_depend_on_training_pairs_alone() -> None:
    dataset = synthetic_dataset(num_users=60, num_items=40)
    splits = dataset.splits
    shuffled = dataclasses.replace(splits, valid=splits.test, test=splits.valid)
    other = dataclasses.replace(dataset, splits=shuffled)
    one, two = (Rules.build(each, 0, RulesConfig()).item_vectors() for each in (dataset, other))
    assert torch.equal(one, two)
    fewer = dataclasses.replace(splits, train=splits.train.select(np.arange(len(splits.train)) > 9))
    changed = Rules.build(dataclasses.replace(dataset, splits=fewer), 0, RulesConfig())
    assert not torch.equal(one, changed.item_vectors())
