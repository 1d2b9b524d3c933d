"""Scores of any teacher are refused, by the name of the history, where they mean nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from worlds import histories, sequence_set

from baselines.contracts.scorer import ItemScorer, checked_scores
from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet
from baselines.evaluation.ranking import rank_by_scores
from baselines.models.fusion import MeanScorer
from baselines.teachers.calibration import calibrate
from baselines.teachers.config import MassConfig
from baselines.teachers.mass import mass_blocks, mass_source
from semid.trie import CodeTrie

CODES = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [1, 2], [2, 0]])
DATA = sequence_set([([0, 1, 2], 1), ([3, 4], 1), ([5, 2, 0], 2)])
NAN, INF = float("nan"), float("inf")


class Table:
    """Scores by the last item of a history."""

    max_history = 4

    def __init__(self) -> None:
        self.table = torch.arange(36.0).view(6, 6).sin()

    def score(self, histories: Histories) -> Tensor:
        return self.table[histories.items[:, -1]]


def broken(value: float, *, whole_row: bool = False) -> Table:
    """A teacher that fails on item 3, which is the past of user 1 alone."""
    scorer = Table()
    scorer.table[3, slice(None) if whole_row else 2] = value
    return scorer


def masses(scorer: ItemScorer, data: SequenceSet) -> None:
    source = mass_source(scorer, CodeTrie.from_paths(CODES, 3), config=MassConfig())
    for _ in mass_blocks(source, data, batch_size=2):
        pass


def ranks(scorer: ItemScorer, data: SequenceSet) -> None:
    rank_by_scores(scorer, data)


def temperature(scorer: ItemScorer, data: SequenceSet) -> None:
    calibrate(scorer, data)


@pytest.mark.parametrize("use", [masses, ranks, temperature])
@pytest.mark.parametrize(
    ("scorer", "says"),
    [
        (broken(NAN), r"must be numbers or -inf, got nan for item 2 of history \d of the batch"),
        (broken(INF), r"must be numbers or -inf, got inf for item 2 of history \d of the batch"),
        (broken(NAN, whole_row=True), "must be numbers or -inf, got nan for item 0 of"),
        (broken(-INF, whole_row=True), r"must be above -inf for some item, got none for history"),
    ],
)
def test_whoever_uses_a_teacher_refuses_what_means_nothing(
    use: Callable[[ItemScorer, SequenceSet], None], scorer: Table, says: str
) -> None:
    with pytest.raises(
        ValueError, match=rf"scores of the Table {says}.*\(user number 1\)"
    ) as error:
        use(scorer, DATA)
    assert "\n" not in str(error.value)


def test_a_mean_of_teachers_hides_nothing() -> None:
    mean = MeanScorer([Table(), broken(NAN)], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"scores of the MeanScorer .*user number 1"):
        ranks(mean, DATA)


def test_excluded_items_and_sound_scores_pass() -> None:
    scorer = broken(-INF)
    past = histories([3], [0, 1])
    assert torch.equal(checked_scores(scorer, past), scorer.score(past))


def test_each_history_has_its_row() -> None:
    scorer = Table()
    scorer.score = lambda histories: torch.zeros(5, 6)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"a row for each of 2 histories, got \(5, 6\)"):
        checked_scores(scorer, histories([3], [0, 1]))


def test_a_prefix_without_mass_is_refused_and_a_forced_one_needs_none() -> None:
    scorer = Table()
    scorer.table[:, 2:5] = -INF  # all below the first token 1, as of items that it does not know
    with pytest.raises(ValueError, match=r"excludes every item that shares the first 1 tokens"):
        masses(scorer, DATA)
    known = sequence_set([([0, 1], 1), ([3, 5], 1)])
    scorer.table[:, 5] = -INF  # alone below its first token
    trie = CodeTrie.from_paths(CODES, 3)
    source = mass_source(scorer, trie, config=MassConfig())
    ((_, p),) = list(mass_blocks(source, known))
    assert p[:, 0].float().sum(dim=1).tolist() == [1, 1]
    assert p[1, 0].tolist() == [1, 0, 0], "no mass on the way to the target"
    assert p[1, 1].tolist() == [1, 0, 0], "but there is one token only from there"


def test_a_target_that_the_teacher_excludes_has_no_likelihood() -> None:
    scorer = Table()
    scorer.table[:, 2] = -INF
    with pytest.raises(ValueError, match="gives a validation target the score -inf"):
        calibrate(scorer, DATA)
