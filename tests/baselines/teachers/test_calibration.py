"""The temperature that fits: found where it was planted, and kept beside its own teacher."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from worlds import sequence_set

from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet
from baselines.teachers.calibration import Calibration, calibrate, fit_temperature
from semid.provenance import Provenance, ProvenanceError

NUM_ITEMS = 12


class Table:
    """Scores that depend on the last item of a history."""

    max_history = 1

    def __init__(self, scores: Tensor) -> None:
        self.table, self.calls = scores, 0

    def score(self, histories: Histories) -> Tensor:
        self.calls += 1
        return self.table[histories.items[:, -1]]


def world(planted: float, num_targets: int = 20_000) -> tuple[Table, SequenceSet]:
    """A teacher whose scores are the log-probabilities of what comes next, times ``planted``."""
    rng = np.random.default_rng(0)
    log_p = torch.from_numpy(rng.normal(size=(NUM_ITEMS, NUM_ITEMS))).log_softmax(dim=1)
    last = rng.integers(NUM_ITEMS, size=num_targets)
    following = torch.multinomial(
        log_p.exp()[torch.from_numpy(last)], 1, generator=torch.Generator().manual_seed(0)
    )
    pairs = zip(last.tolist(), following.squeeze(1).tolist(), strict=True)
    return Table((planted * log_p).float()), sequence_set([([a, b], 1) for a, b in pairs])


def nll_by_loop(scorer: Table, data: SequenceSet, temperature: float) -> float:
    total = 0.0
    for number in range(len(data)):
        last, target = data.items[data.offsets[number] : data.offsets[number + 1]].tolist()
        row = [score / temperature for score in scorer.table[last].tolist()]
        total += math.log(sum(map(math.exp, row))) - row[target]
    return total / len(data)


@pytest.mark.parametrize("planted", [0.3, 1.0, 1.75, 40.0])
def test_a_planted_temperature_is_found(planted: float) -> None:
    assert calibrate(*world(planted)).temperature == pytest.approx(planted, rel=0.03)


def test_no_other_temperature_fits_better_and_the_likelihood_is_its_definition() -> None:
    scorer, data = world(2.0, num_targets=300)
    found = calibrate(scorer, data, batch_size=7)
    assert found.targets == 300
    assert found.nll == pytest.approx(nll_by_loop(scorer, data, found.temperature), rel=1e-5)
    assert found.nll_at_one == pytest.approx(nll_by_loop(scorer, data, 1.0), rel=1e-5)
    for factor in (0.5, 0.97, 1.03, 2.0):
        assert nll_by_loop(scorer, data, factor * found.temperature) > found.nll


def test_seen_items_can_be_left_out() -> None:
    # The user never takes an item again, though the teacher scores those highest.
    rng = np.random.default_rng(1)
    scorer, data = world(2.0, num_targets=2_000)
    seen = rng.integers(NUM_ITEMS, size=len(data)).tolist()
    rows = data.items.reshape(-1, 2).tolist()
    longer = sequence_set(
        [([item, a, b], 2) for item, (a, b) in zip(seen, rows, strict=True) if b not in (a, item)]
    )
    scorer.table = scorer.table + 5 * torch.eye(NUM_ITEMS)
    plain, masked = (calibrate(scorer, longer, mask_history=mask) for mask in (False, True))
    assert masked.nll < plain.nll
    assert masked.temperature < plain.temperature


def test_a_teacher_that_knows_nothing_has_no_best_temperature() -> None:
    scorer, data = world(1.0, num_targets=500)
    with pytest.raises(ValueError, match="Give a temperature instead of auto"):
        calibrate(Table(-scorer.table), data)


def test_no_validation_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="expected validation targets"):
        calibrate(world(1.0, num_targets=3)[0], sequence_set([([1, 2], 2)]))


def test_it_is_kept_beside_the_teacher_and_says_what_it_was_made_from(tmp_path: Path) -> None:
    scorer, data = world(1.5, num_targets=400)
    first = fit_temperature(scorer, data, teacher="a", folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert json.loads((folder / "calibration.json").read_text())["temperature"] == first.temperature
    lineage = Provenance.read(folder)
    assert lineage.inputs == {"teacher": "a", "targets": data.content_hash()}
    calls = scorer.calls
    assert fit_temperature(scorer, data, teacher="a", folder=tmp_path) == first
    assert scorer.calls == calls

    _, other_data = world(1.5, num_targets=401)
    fit_temperature(scorer, data, teacher="b", folder=tmp_path)
    fit_temperature(scorer, other_data, teacher="a", folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_temperature_of_another_teacher_or_another_value_is_refused(tmp_path: Path) -> None:
    scorer, data = world(1.5, num_targets=400)
    found = fit_temperature(scorer, data, teacher="a", folder=tmp_path)
    (folder,) = tmp_path.iterdir()
    record = folder / "provenance.json"
    whole = record.read_text()
    record.write_text(whole.replace('"teacher": "a"', '"teacher": "b"'))
    with pytest.raises(ProvenanceError, match=r"provenance\.json was changed .* Remove"):
        fit_temperature(scorer, data, teacher="a", folder=tmp_path)
    lineage = Provenance(kind="temperature", content="c", inputs={"teacher": "b"})
    lineage.write(folder)
    with pytest.raises(ProvenanceError, match=r"temperature in .* Remove"):
        fit_temperature(scorer, data, teacher="a", folder=tmp_path)
    record.write_text(whole)
    changed = (folder / "calibration.json").read_text().replace(str(found.temperature), "3.0")
    (folder / "calibration.json").write_text(changed)
    with pytest.raises(ProvenanceError, match=r"calibration\.json was changed .* Remove"):
        fit_temperature(scorer, data, teacher="a", folder=tmp_path)


def test_a_calibration_is_plain_values() -> None:
    found = calibrate(*world(1.2, num_targets=200))
    assert found == Calibration(**json.loads(json.dumps(vars(found))))
