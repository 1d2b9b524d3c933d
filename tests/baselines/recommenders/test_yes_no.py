"""Questions about an item: asked, answered, taught and ranked, each beside a loop."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_lm import write_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from worlds import histories, random_sequences, sequence_set

from baselines.contracts.backbone import BuildContext
from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.splits import Splits
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranks import Ranks
from baselines.lm.config import LanguageModelConfig
from baselines.models import fit
from baselines.models.fit import FitSettings, fit_backbone
from baselines.recommenders.config import YesNoConfig
from baselines.recommenders.yes_no import NO, YES, Questions, YesNoBackbone
from baselines.training.config import TrainingConfig
from semid.catalog import Catalog
from semid.provenance import Provenance
from semid.scoring import score_all
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective

QUESTION = "had {history}; wants {candidate}? "
PAST = histories([3, 1, 4], [5, 6], [0, 1, 2, 9, 11], padding=1)


class Taste:
    """A teacher that likes an item the more, the nearer it is to the mean of the history."""

    max_history = 9

    def score(self, past: Histories) -> Tensor:
        count = past.mask.sum(dim=1, keepdim=True)
        mean = (past.items * past.mask).sum(dim=1, keepdim=True) / count
        return -(torch.arange(12) - mean - 0.1).abs()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", ["red lipstick", "dry brush"])


def asking(
    folder: Path, codes: Tensor, catalog: Catalog, *, own: dict[str, Any] | None = None, **more: Any
) -> YesNoBackbone:
    config = LanguageModelConfig(model=str(folder), max_history=4, **more)
    settings = YesNoConfig(**{"template": QUESTION, **(own or {})})
    return YesNoBackbone(
        config, BuildContext(codes, (3, 3, 2), 0, catalog, Taste()), settings
    ).eval()


def some_batch() -> TrainBatch:
    windows = Windows.per_target(random_sequences(12, 4, longest=6), 4)
    return windows.batch(np.arange(len(windows)))


def plain_log_odds(
    folder: Path, titles: list[str], past: list[int], item: int, answers: tuple[str, str]
) -> float:
    """One question alone, each answer read whole, beside the other wherever they part."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def tokens(text: str) -> list[int]:
        found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return found

    prompt = tokens("had ")
    for number, old in enumerate(past[-4:]):
        prompt += [*(tokens(", ") if number else []), *tokens('"')]
        prompt += [*tokens(titles[old]), *tokens('"')]
    prompt += [*tokens("; wants "), *tokens('"'), *tokens(titles[item]), *tokens('"')]
    prompt += tokens("? ")
    paths = [[*tokens(answer), tokenizer.eos_token_id] for answer in answers]
    logs = []
    for path in paths:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + path])).logits[0].double()
        total = 0.0
        for pos, token in enumerate(path):
            legal = sorted({p[pos] for p in paths if p[:pos] == path[:pos]})
            of_pos = logits[len(prompt) - 1 + pos]
            total += float(of_pos[token] - of_pos[legal].logsumexp(dim=0))
        logs.append(total)
    return logs[0] - logs[1]


@pytest.mark.parametrize("answers", [("Yes", "No"), ("I do", "I do not")])
def test_odds_are_those_of_a_plain_forward_for_each_question(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog, answers: tuple[str, str]
) -> None:
    own = {"yes": answers[0], "no": answers[1]}
    made, titles = asking(folder, tiny_codes, tiny_catalog, own=own), tiny_catalog.texts("{title}")
    asked = torch.tensor([[7, 0], [5, 11], [2, 8]])
    found = made.log_odds(PAST, asked)
    for row, items in enumerate(asked.tolist()):
        past = PAST.items[row][PAST.mask[row]].tolist()
        for column, item in enumerate(items):
            expected = plain_log_odds(folder, titles, past, item, answers)
            assert float(found[row, column]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "items"), [("llama", "titles"), ("llama", "codes"), ("gemma2", "titles")]
)
def test_many_candidates_of_a_history_are_read_as_each_alone(
    tiny_codes: Tensor, tiny_catalog: Catalog, tmp_path: Path, kind: str, items: str
) -> None:
    written = write_model(tmp_path, tiny_catalog.texts("{title}"), kind=kind)
    made = asking(written, tiny_codes, tiny_catalog, items=items)
    asked = torch.arange(12).repeat(3, 2)  # more than are read at once
    together = made.log_odds(PAST, asked)
    for item in range(12):
        question = Histories(
            items=torch.cat([PAST.items, asked[:, item : item + 1]], dim=1),
            mask=torch.nn.functional.pad(PAST.mask, (0, 1), value=True),
            users=PAST.users,
        )
        log_p = score_all(made.start(question), made.trie)
        expected = log_p[:, YES] - log_p[:, NO]
        for column in (item, item + 12):
            torch.testing.assert_close(together[:, column], expected, rtol=1e-4, atol=1e-4)


def test_every_target_is_asked_about_and_so_is_an_item_from_outside_of_its_window(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog
) -> None:
    made, batch = asking(folder, tiny_codes, tiny_catalog), some_batch()
    count, drawn = len(batch.target_id), set()
    torch.manual_seed(3)
    first = made.prepare_batch(batch)
    for _ in range(30):
        asked = made.prepare_batch(batch)
        assert asked.answer.tolist() == [YES] * count + [NO] * count
        assert torch.equal(asked.candidate[:count], batch.target_items)
        assert torch.equal(asked.other[:count], asked.candidate[count:])
        assert torch.equal(asked.other[count:], batch.target_items)
        assert torch.equal(asked.target_id, batch.target_id.repeat(2))
        for row, item in enumerate(asked.candidate[count:].tolist()):
            assert item not in batch.windows.items[row][batch.windows.mask[row]].tolist()
            drawn.add(item)
    assert drawn == set(range(12)), "any other item may be drawn"
    torch.manual_seed(3)
    assert torch.equal(made.prepare_batch(batch).candidate, first.candidate)


@pytest.mark.parametrize("masked", [True, False])
def test_the_loss_is_that_of_both_answers_written_slowly(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog, masked: bool
) -> None:
    made = asking(folder, tiny_codes, tiny_catalog)
    asked, objective = made.prepare_batch(some_batch()), Objective(ObjectiveConfig(masked=masked))
    at = objective.positions(made.trie, asked.target_items, pad_to=1)
    found = objective(made(asked, at), candidates(made.trie, asked.target_items, at)).loss
    answers = [row[row >= 0].tolist() for row in made.paths]
    total, count = 0.0, 0
    tokens, mask = made.target_prompts(asked)
    for row, real, answer in zip(tokens, mask, asked.answer.tolist(), strict=True):
        read = torch.tensor([[*row[real].tolist(), *answers[answer]]])
        with torch.no_grad():
            logits = made.base(input_ids=read).logits[0, -len(answers[answer]) - 1 : -1]
        for pos, token in enumerate(answers[answer]):
            legal = {path[pos] for path in answers if path[:pos] == answers[answer][:pos]}
            rivals = logits[pos, sorted(legal)] if masked else logits[pos]
            total -= float(logits[pos, token] - rivals.logsumexp(dim=0))
            count += 1
    assert found.item() == pytest.approx(total / count, rel=1e-4)


def test_the_teacher_teaches_its_softmax_over_the_two_items_of_a_question(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog
) -> None:
    made, data = asking(folder, tiny_codes, tiny_catalog), random_sequences(12, 4, longest=8)
    windows = Windows.per_target(data, 4)
    asked = made.prepare_batch(windows.batch(np.arange(len(windows))[::-1].copy()))
    at = Objective(ObjectiveConfig()).positions(made.trie, asked.target_items, pad_to=1)
    p = made.distributions(Taste(), data, 0.7)(asked, at)
    nodes = candidates(made.trie, asked.target_items, at).tokens.tolist()
    at_yes = int(made.paths[YES][(made.paths[YES] != made.paths[NO]).nonzero()[0]])
    _, events = data.targets()
    assert len(p) == len(asked.target_id)
    for row, number in enumerate(asked.target_id.tolist()):
        begin = int(data.offsets[data.targets()[0][number]])
        past = histories(data.items[begin : events[number]].tolist()[-9:])
        scores = (Taste().score(past)[0] / 0.7).tolist()
        shown, other = int(asked.candidate[row]), int(asked.other[row])
        expected = 1 / (1 + math.exp(scores[other] - scores[shown]))
        assert float(p[row][nodes[row].index(at_yes)]) == pytest.approx(expected, rel=1e-5)
        assert float(p[row].sum()) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("count", [1, 3, 12, 99])
def test_the_teachers_best_come_first_by_their_odds_and_all_others_as_the_teacher_has_them(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog, count: int
) -> None:
    made, titles = (
        asking(folder, tiny_codes, tiny_catalog, own={"candidates": count}),
        tiny_catalog.texts("{title}"),
    )
    found, taught = made.score(PAST), Taste().score(PAST)
    odds = made.log_odds(PAST, torch.arange(12).repeat(3, 1))
    for row in range(3):
        by_teacher = sorted(range(12), key=lambda item: -float(taught[row, item]))
        best = sorted(by_teacher[:count], key=lambda item: -float(odds[row, item]))
        expected = best + by_teacher[count:]
        order = sorted(range(12), key=lambda item: -float(found[row, item]))
        for ours, theirs in zip(order, expected, strict=True):
            assert ours == theirs or found[row, ours] == found[row, theirs], "only twins tie"
        for a, b in combinations(best, 2):
            assert (found[row, a] == found[row, b]) == (titles[a] == titles[b])
    assert isinstance(made, ItemScorer)
    assert made.max_history == 9


def test_what_the_teacher_excludes_stays_excluded(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asking(folder, tiny_codes, tiny_catalog, own={"candidates": 3})
    scores = torch.full((3, 12), -torch.inf)
    scores[:, 5] = 0.0
    monkeypatch.setattr(Taste, "score", lambda self, past: scores)
    assert (made.score(PAST) > -torch.inf).nonzero()[:, 1].tolist() == [5, 5, 5]


def test_auc_is_the_share_of_targets_that_beat_an_item_their_user_has_not_chosen(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = asking(folder, tiny_codes, tiny_catalog)
    data = sequence_set([([0, 1, 2], 2), ([3, 4, 5, 6], 3), ([*range(12), 3], 12), ([9, 7], 1)])

    def odds(past: Histories, asked: Tensor) -> Tensor:
        for row in range(len(asked)):
            seen = {*past.items[row][past.mask[row]].tolist(), int(asked[row, 0])}
            assert int(asked[row, 1]) not in seen or len(seen) == 12
        return torch.tensor([[1.0, 0.0] if int(row[0]) != 6 else [0.5, 0.5] for row in asked])

    monkeypatch.setattr(made, "log_odds", odds)
    found = made.notes(data)["questions"]
    assert found == {
        "AUC": pytest.approx((3 + 3 + 2.5) / 9),  # the .5 beats two and ties with one
        "UAUC": pytest.approx((1 + 1 + 0.5) / 3),
        "targets": 3,
    }


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    folder: Path,
    tiny_codes: Tensor,
    tiny_catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = random_sequences(12, 6, longest=6)
    splits = Splits(train=data, valid=data, test=data, protocol="test", dropped={})

    def train(out: Path) -> tuple[dict[str, Tensor], list[float]]:
        made = asking(folder, tiny_codes, tiny_catalog)
        state = fit_backbone(
            made,
            FitSettings(
                objective=ObjectiveConfig(name="soft_ntp", alpha=0.5),
                training=TrainingConfig(epochs=2, lr=0.01),
                evaluation=EvaluationConfig(),
                seed=0,
            ),
            made.distributions(Taste(), data, 1.0),
            splits,
            folder=out,
            lineage=Provenance(kind="generator", content=""),
            title="asks",
        )
        return load_file(out / "model.safetensors"), [one["loss"] for one in state.history]

    ranked = fit.rank_by_scores

    def stopped(*args: Any, **options: Any) -> Ranks:
        if (tmp_path / "stopped" / "checkpoint.safetensors").exists():
            raise KeyboardInterrupt
        return ranked(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fit, "rank_by_scores", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "stopped")
    (resumed, losses), (whole, wanted) = train(tmp_path / "stopped"), train(tmp_path / "whole")
    assert losses == wanted
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"candidates": 0}, "candidates must be a whole number of at least 1"),
        ({"template": "{history}"}, "once after it"),
        ({"template": "{candidate} after {history}"}, "once after it"),
        ({"template": "{history} {history} {candidate}"}, "once after it"),
        ({"yes": "No"}, "two different answers, got 'No' and 'No'"),
        ({"no": " "}, "two different answers, got 'Yes' and ' '"),
    ],
)
def test_settings_that_ask_nothing_are_refused(own: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        YesNoConfig(**own)


def test_a_window_that_may_hold_the_whole_catalogue_is_refused(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog
) -> None:
    config = LanguageModelConfig(model=str(folder), max_history=11)
    with pytest.raises(ValueError, match="outside a window of 12 items"):
        YesNoBackbone(
            config, BuildContext(tiny_codes, (3, 3, 2), 0, tiny_catalog, Taste()), YesNoConfig()
        )


def test_questions_speak_of_answers_where_batches_speak_of_items(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog
) -> None:
    asked = asking(folder, tiny_codes, tiny_catalog).prepare_batch(some_batch())
    assert isinstance(asked, Questions)
    assert torch.equal(asked.target_items, asked.answer)


@pytest.mark.parametrize("items", ["titles", "codes"])
def test_answers_close_with_an_end_token_so_one_of_a_single_token_has_no_loss_without_its_end(
    folder: Path, tiny_codes: Tensor, tiny_catalog: Catalog, tmp_path: Path, items: Any
) -> None:
    made = asking(folder, tiny_codes, tiny_catalog, own={"yes": "Y", "no": "N"}, items=items)
    assert made.end_token
    assert made.trie.depth == 2
    data = random_sequences(12, 6, longest=6)
    with pytest.raises(ValueError, match=r"asks has nothing to learn: reference=end .* last 2"):
        fit_backbone(
            made,
            FitSettings(
                objective=ObjectiveConfig(reference=("end",)),
                training=TrainingConfig(epochs=1),
                evaluation=EvaluationConfig(),
                seed=0,
            ),
            None,
            Splits(train=data, valid=data, test=data, protocol="test", dropped={}),
            folder=tmp_path / "out",
            lineage=Provenance(kind="generator", content=""),
            title="asks",
        )
    assert not (tmp_path / "out").exists()
