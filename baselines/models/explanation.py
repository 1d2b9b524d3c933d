"""Why an item has its rank: its path level by level, and the teacher's view of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.contracts.scorer import ItemScorer
from baselines.data.batches import Histories
from baselines.models.items import ModelItems
from baselines.models.titles import titles_of
from baselines.models.trained import TrainedModel
from baselines.teachers.fitted import FittedTeacher
from semid.successors import successors
from semid.trie import CodeTrie
from tca.guide import node_log_masses

_TYPICAL = 3  # titles shown for each prefix


@dataclass(frozen=True, kw_only=True)
class Level:
    """One step of an item's path.

    Attributes:
        code: The code, or token of a title, at this step.
        probability: Its probability among the codes that may follow the path so far.
        choices: Number of codes that may follow the path so far.
        typical: Titles of the most frequent items with this prefix.
        teacher: The teacher's value of the same probability; None without a teacher.
    """

    code: str
    probability: float
    choices: int
    typical: list[str]
    teacher: float | None


@dataclass(frozen=True, kw_only=True)
class TeacherView:
    """A teacher's view of an item.

    Attributes:
        label: The teacher's label.
        probability: The item's probability in the teacher's softmax over all items.
        rank: The item's rank by the teacher, from 1.
    """

    label: str
    probability: float
    rank: int


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Explanation of one item after one history.

    Attributes:
        item_id: The item.
        title: Its title.
        levels: The steps of its path.
        score: Log-probability of the path under the model alone.
        teacher: The teacher's view; None if the model has no teacher.
    """

    item_id: str | int
    title: str
    levels: list[Level]
    score: float
    teacher: TeacherView | None

    def markdown(self) -> str:
        """A heading and a table, as Markdown."""
        of_teacher = "" if self.teacher is None else f" {self.teacher.label} |"
        lines = [
            f"**{self.title}** ({self.item_id}): log-probability {self.score:.2f}",
            "",
            f"| level | code | choices | probability |{of_teacher} items that begin like this |",
            "| --- " * (5 if self.teacher is None else 6) + "|",
        ]
        for number, level in enumerate(self.levels, start=1):
            second = "" if level.teacher is None else f" {level.teacher:.3f} |"
            lines.append(
                f"| {number} | {_cell(level.code)} | {level.choices} | {level.probability:.3f} |"
                f"{second} {_cell('; '.join(level.typical))} |"
            )
        if self.teacher is not None:
            place, probability = self.teacher.rank, self.teacher.probability
            ranked = f"{self.teacher.label} ranks it {place}, with probability {probability:.4f}."
            lines += ["", ranked]
        return "\n".join(lines)


def _cell(text: str) -> str:
    """Text of one cell of a Markdown table."""
    return " ".join(text.replace("|", r"\|").splitlines())


@torch.inference_mode()
def explain(model: TrainedModel, histories: Histories, item: int) -> Explanation:
    """Explain one item after one history.

    Args:
        model: In eval mode.
        histories: A batch of one, on the model's device.
        item: A catalogue row.

    Raises:
        ValueError: If the model does not rank by beam search.
    """
    backbone, items = model.backbone, model.items
    if isinstance(backbone, ItemScorer):
        raise ValueError(
            f"{backbone.label} ranks items without writing them, so there is no path to explain"
        )
    trie, teacher = backbone.trie, _teacher_of(model)
    view, masses = None, None
    if teacher is not None:
        scores = teacher.model.score(histories).to(trie.device) / teacher.temperature
        masses, view = node_log_masses(trie, scores)[0], _view(teacher, scores[0], item)
    path = trie.path(torch.tensor(item, device=trie.device))
    path = torch.unique_consecutive(path)
    tokens = trie.token_of_node[path[1:]].long()
    names, codes = titles_of(items.catalog), _spelled(model, item, tokens)
    prefixes, levels, score = backbone.start(histories), [], 0.0
    for depth, (node, child) in enumerate(itertools.pairwise(path)):
        if depth:
            only = torch.zeros_like(path[:1, None])
            prefixes = prefixes.extend(only, tokens[depth - 1].view(1, 1))
        renormalize = model.spec.evaluation.renormalize
        found = successors(prefixes, trie, node.view(1, 1), depth, renormalize)
        here = (found.nodes[0, 0] == child) & found.valid[0, 0]
        log_prob = float(found.log_probs[0, 0][here][0])
        score += log_prob
        levels.append(
            Level(
                code=codes[depth],
                probability=math.exp(log_prob),
                choices=int(found.valid.sum()),
                typical=[names[row] for row in _most_frequent(items, trie, int(child))],
                teacher=None if masses is None else float((masses[child] - masses[node]).exp()),
            )
        )
    return Explanation(
        item_id=items.catalog.item_ids[item],
        title=names[item],
        levels=levels,
        score=score,
        teacher=view,
    )


def _most_frequent(items: ModelItems, trie: CodeTrie, node: int) -> list[int]:
    below = trie.items_below(node).cpu().numpy()
    order = np.argsort(-items.counts[below], kind="stable")
    return [int(row) for row in below[order][:_TYPICAL]]


def _teacher_of(model: TrainedModel) -> FittedTeacher | None:
    """The teacher in the beam, or else the one that the backbone reads."""
    if model.partner is not None and isinstance(model.partner.model, FittedTeacher):
        return model.partner.model
    return model.teacher


def _view(teacher: FittedTeacher, scores: Tensor, item: int) -> TeacherView:
    return TeacherView(
        label=teacher.model.label,
        probability=float(scores.log_softmax(dim=0)[item].exp()),
        rank=int((scores > scores[item]).sum()) + 1,
    )


def _spelled(model: TrainedModel, item: int, tokens: Tensor) -> list[str]:
    """The item's code, or title token, at each level."""
    codes = model.items.ids.codes[item].tolist()
    if len(codes) == len(tokens) and not model.backbone.end_token:
        return [str(code) for code in codes]
    tokenizer = getattr(model.backbone, "tokenizer", None)
    return [
        str(token) if tokenizer is None else tokenizer.decode([token]) for token in tokens.tolist()
    ]
