"""The loss of language models beside TCA4Rec's released order of operations, written slowly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from tiny_lm import write_model
from torch import Tensor
from transformers import AutoModelForCausalLM
from worlds import sequence_set

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import BuildContext
from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.lm.config import LanguageModelConfig, LoraSettings
from baselines.teachers.config import MassConfig
from baselines.teachers.mass import mass_source
from baselines.teachers.rounded import RoundedScorer
from semid.catalog import Catalog
from tca.candidates import candidates
from tca.config import ObjectiveConfig
from tca.objective import Objective, ObjectiveOutput

TITLES = [
    "red lipstick",
    "red lipstick set",  # begins with another title
    "red lipstick",  # a twin
    "pink lipstick",
    "nude lipstick",
    "nude",
    "dry shampoo",
    "dry brush",
    "fine brush",
    "x",  # one token
]
IGNORED = -100
REFERENCES = [(), ("bfloat16",), ("end",), ("linear",), ("bfloat16", "end", "linear")]
MASKED = {"name": "soft_ntp", "alpha": 0.4, "tau": 4.5}
UNMASKED = {"name": "soft_ntp", "alpha": 0.4, "tau": 1.0, "masked": False}


class Teacher:
    """Random vectors of users and items, large enough for rounding to be seen."""

    def __init__(self) -> None:
        gen = torch.Generator().manual_seed(3)
        self.users = 4 * torch.randn(20, 6, generator=gen)
        self.items = torch.randn(len(TITLES), 6, generator=gen)
        self.max_history = 4

    def user_vectors(self, histories: Histories) -> Tensor:
        return self.users[histories.users]

    def item_vectors(self) -> Tensor:
        return self.items

    def score(self, histories: Histories) -> Tensor:
        return self.user_vectors(histories) @ self.items.T


class Node:
    """Of a trie of dictionaries: what may follow, and each item below with its next token."""

    def __init__(self) -> None:
        self.children: dict[int, Node] = {}
        self.items: list[tuple[int, int]] = []


def trie_of(words: list[list[int]]) -> Node:
    root = Node()
    for item, word in enumerate(words):
        node = root
        for token in word:
            node.items.append((token, item))
            node = node.children.setdefault(token, Node())
    return root


def slow_loss(
    model: Any,
    prompts: list[list[int]],
    titles: list[list[int]],
    targets: list[int],
    users: Tensor,
    teacher: Teacher,
    end: int,
    config: ObjectiveConfig,
) -> Tensor:
    """Sample by sample and position by position; what ``reference`` leaves out, as we do it."""
    trie = trie_of([[*title, end] for title in titles])
    kept_logits, kept_mass, kept_labels = [], [], []
    for prompt, target, user in zip(prompts, targets, users, strict=True):
        answer = list(titles[target]) if "end" in config.reference else [*titles[target], end]
        labels = [IGNORED] * len(prompt) + answer
        if "end" in config.reference:
            labels[-1] = IGNORED
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].float()

        if "bfloat16" in config.reference:
            z = [float((user.bfloat16() @ item.bfloat16()).float()) for item in teacher.items]
        else:
            z = [float(user @ item) for item in teacher.items]
        allowed = torch.zeros_like(logits, dtype=torch.bool)
        mass = torch.zeros_like(logits)
        for t in range(len(answer)):
            node = trie
            for token in answer[:t]:
                node = node.children[token]
            row = len(prompt) + t - 1
            allowed[row, list(node.children)] = True
            p = torch.tensor([z[item] for _, item in node.items]).softmax(dim=0)
            for (token, _), share in zip(node.items, p, strict=True):
                mass[row, token] += share
        if config.masked:
            logits = logits.masked_fill(~allowed, -torch.inf)
            mass = mass.masked_fill(~allowed, 0.0)
        for row, label in enumerate(labels[1:]):
            if label != IGNORED:
                kept_logits.append(logits[row])
                kept_mass.append(mass[row])
                kept_labels.append(label)

    f, tau = torch.stack(kept_logits), float(config.tau)
    one_hot = torch.nn.functional.one_hot(torch.tensor(kept_labels), f.shape[1]).float()
    y = (1 - config.alpha) * one_hot + config.alpha * torch.stack(kept_mass)
    if "linear" in config.reference:
        e = ((f - f.max(dim=1, keepdim=True).values) / tau).exp()
        losses = -(e * y).sum(dim=1).log() + e.sum(dim=1).log()
    else:
        losses = (f / tau).logsumexp(dim=1) - (f / tau + y.log()).logsumexp(dim=1)
    return losses.mean()


def fast_output(
    made: LanguageBackbone, teacher: ItemScorer, batch: TrainBatch, config: ObjectiveConfig
) -> ObjectiveOutput:
    objective = Objective(config, end_token=made.end_token)
    trie, items = made.trie, batch.target_items
    at = objective.positions(trie, items, pad_to=made.pad_positions_to)
    p = None
    if objective.needs_teacher:
        scorer = RoundedScorer(teacher) if "bfloat16" in config.reference else teacher
        source = mass_source(scorer, trie, config=MassConfig())
        p = source(batch.windows.without_last(), items)[at.target, at.pos]
    output: ObjectiveOutput = objective(made(batch, at), candidates(trie, items, at), p)
    assert int(output.count) == int(at.count)
    return output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "llama", TITLES)


@pytest.fixture
def made(folder: Path) -> LanguageBackbone:
    """A backbone all of whose weights are trained."""
    catalog = Catalog(item_ids=list(range(len(TITLES))), fields=pl.DataFrame({"title": TITLES}))
    config = LanguageModelConfig(
        model=str(folder), template="had {history}; next ", lora=LoraSettings(r=0)
    )
    codes = torch.zeros(len(TITLES), 1, dtype=torch.int64)
    return LanguageBackbone(config, BuildContext(codes, (1,), 0, catalog)).eval()


def every_title() -> Windows:
    """One target a title, and some twice."""
    rows = [[5, 0, 1, 2, 3, 4], [0, 9, 8, 7], [1, 6, 5], [7, 1, 9], [2, 3]]
    return Windows.per_target(sequence_set([(row, 1) for row in rows]), 4)


def micro_batches() -> list[TrainBatch]:
    """Two of them."""
    windows = every_title()
    return [windows.batch(rows) for rows in np.array_split(np.arange(len(windows)), 2)]


@pytest.mark.parametrize("objective", [MASKED, UNMASKED], ids=["masked", "vocabulary"])
@pytest.mark.parametrize("reference", REFERENCES, ids="+".join)
def test_loss_and_gradients_are_those_of_the_released_order_of_operations(
    folder: Path, made: LanguageBackbone, reference: Any, objective: dict[str, Any]
) -> None:
    config, teacher = ObjectiveConfig(**objective, reference=reference), Teacher()
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    end = made.tokenizer.eos_token_id
    titles = [made.tokenizer(title, add_special_tokens=False)["input_ids"] for title in TITLES]
    assert titles[1][: len(titles[0])] == titles[0] == titles[2]
    assert len(titles[-1]) == 1
    assert {int(item) for batch in micro_batches() for item in batch.target_items} == {*range(10)}
    for batch in micro_batches():
        past = batch.windows.without_last()
        prompts = [row[mask].tolist() for row, mask in zip(*made.prompts(past), strict=True)]
        targets, users = batch.target_items.tolist(), teacher.user_vectors(past)
        slow = slow_loss(model, prompts, titles, targets, users, teacher, end, config)
        output = fast_output(made, teacher, batch, config)
        torch.testing.assert_close(output.loss, slow, rtol=1e-5, atol=1e-7)
        tokens = sum(len(titles[target]) for target in targets)
        ended = -len(targets) if "end" in reference else len(targets)
        assert int(output.count) == tokens + ended
        slow.backward()
        output.loss.backward()
    theirs = dict(model.named_parameters())
    for name, value in made.base.named_parameters():
        assert value.grad is not None
        torch.testing.assert_close(
            value.grad, theirs[name].grad, atol=1e-6, rtol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_each_switch_does_something(made: LanguageBackbone) -> None:
    batch, losses = micro_batches()[0], {}
    for reference in REFERENCES:
        config = ObjectiveConfig(**MASKED, reference=reference)  # type: ignore[arg-type]
        losses[reference] = float(fast_output(made, Teacher(), batch, config).loss.detach())
    ours = losses[()]
    assert 5e-5 < abs(losses["bfloat16",] - ours) < 0.01
    assert abs(losses["end",] - ours) > 0.01
    assert losses["linear",] == pytest.approx(ours, rel=1e-5)


@pytest.mark.parametrize("objective", [MASKED, UNMASKED], ids=["masked", "vocabulary"])
@pytest.mark.parametrize("switches", ["end", "bfloat16+end+linear"])
def test_titles_of_one_token_alone_have_no_loss(
    made: LanguageBackbone, objective: dict[str, Any], switches: str
) -> None:
    windows = every_title()
    items = windows.batch(np.arange(len(windows))).target_items
    batch = windows.batch((items == 9).nonzero().flatten().numpy())
    assert len(batch.target_items) == 2
    config = ObjectiveConfig(**objective, reference=tuple(switches.split("+")))  # type: ignore[arg-type]
    output = fast_output(made, Teacher(), batch, config)
    assert float(output.loss.detach()) == int(output.count) == float(output.parts["ntp"]) == 0
    output.loss.backward()
    for value in made.parameters():
        assert value.grad is None or not value.grad.any()
