"""A model on other data: items are matched by their ids, and what it does not know is a miss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import fit_model, shop

from baselines.data.sequences import SequenceSet
from baselines.evaluation.metrics import MISS
from baselines.evaluation.ranking import rank_targets
from baselines.evaluation.ranks import POLICIES
from baselines.models.other_data import match_targets, rank_on
from semid.catalog import Catalog


def slowly_matched(
    test: SequenceSet, rows: list[int]
) -> tuple[list[int], list[tuple[list[int], int]]]:
    """Target ids that are kept, and history and target of each."""
    kept, pairs, target_id = [], [], 0
    for s in range(len(test)):
        events = test.items[test.offsets[s] : test.offsets[s + 1]].tolist()
        for place in range(int(test.first_target[s]), len(events)):
            history = [rows[item] for item in events[:place] if rows[item] >= 0]
            if rows[events[place]] >= 0 and history:
                kept.append(target_id)
                pairs.append((history, rows[events[place]]))
            target_id += 1
    return kept, pairs


@pytest.mark.parametrize("seed", range(8))
def test_known_items_keep_their_histories_and_targets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, size=12)
    test = SequenceSet(
        items=rng.integers(0, 10, size=lengths.sum()),
        offsets=np.concatenate(([0], np.cumsum(lengths))),
        first_target=rng.integers(1, 6, size=12),
        users=np.arange(12),
    )
    rows = rng.permutation(10) - 3
    kept, pairs = slowly_matched(test, rows.tolist())
    found = match_targets(test, np.where(rows < 0, -1, rows))
    assert found.kept.tolist() == kept
    sequence, event = found.data.targets()
    assert [
        (found.data.items[found.data.offsets[s] : e].tolist(), int(found.data.items[e]))
        for s, e in zip(sequence, event, strict=True)
    ] == pairs
    _, events = test.targets()
    assert found.unknown_targets == int((rows[test.items[events]] < 0).sum())
    missed = found.unknown_targets + found.without_history
    assert missed == test.num_targets - len(kept)


def test_data_in_another_order_has_the_same_ranks_and_new_items_are_misses(tmp_path: Path) -> None:
    model, dataset = fit_model(tmp_path), shop()
    evaluation = model.spec.evaluation
    expected = rank_targets(model.backbone, dataset.splits.test, evaluation, beam=evaluation.beam)
    order = np.random.default_rng(0).permutation(48)
    place = np.argsort(order)
    splits = dataset.splits
    test = replace(splits.test, items=place[splits.test.items])
    ids = [dataset.catalog.item_ids[row] for row in order]
    catalog = Catalog(item_ids=ids, fields=dataset.catalog.fields[order.tolist()])
    other = replace(dataset, catalog=catalog, splits=replace(splits, test=test), interactions=None)
    ranks, matched = rank_on(model, other)
    for policy in POLICIES:
        np.testing.assert_array_equal(ranks.better[policy], expected.better[policy])
    assert (matched.unknown_items, matched.unknown_targets) == (0, 0)

    target = test.items[test.targets()[1]]
    gone = int(target[0])
    ids[gone] = 10**6
    renamed = replace(other, catalog=Catalog(item_ids=ids, fields=catalog.fields))
    ranks, matched = rank_on(model, renamed)
    assert matched.unknown_targets == int((target == gone).sum()) > 0
    assert (ranks.better["kept"][target == gone] == MISS).all()
    strangers = Catalog(item_ids=[item + 10**6 for item in ids], fields=catalog.fields)
    with pytest.raises(ValueError, match="Are the item ids of the data those"):
        rank_on(model, replace(other, catalog=strangers))
