"""Rules and content added up, with the weight of content chosen on validation."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from baselines.data.batches import Histories
from baselines.data.sequences import SequenceSet
from baselines.evaluation.config import EvaluationConfig
from baselines.evaluation.ranking import rank_by_scores, validation_subset
from baselines.evaluation.selection import Selection
from baselines.teachers.content import Content
from baselines.teachers.counting_config import BlendConfig
from baselines.teachers.evidence import EvidenceTeacher
from baselines.teachers.rules import Rules

logger = logging.getLogger(__name__)


class RulesAndContent(EvidenceTeacher):
    """Evidence of both, each in units of its mean entry: ``rules + weight * content``.

    Args:
        config: Settings of the blend.
        rules: Counted, or to be loaded.
        content: Likewise.
    """

    label = "Rules + content"

    def __init__(self, config: BlendConfig, rules: Rules, content: Content) -> None:
        super().__init__()
        self.config, self.rules, self.content = config, rules, content
        self.max_history = max(rules.max_history, content.max_history)
        self.smoothing = config.smoothing
        weight = config.candidates[0] if config.weight == "auto" else config.weight
        self.weight = nn.Parameter(torch.tensor(float(weight)), requires_grad=False)

    @torch.inference_mode()
    def evidence(self, histories: Histories, *, without: SequenceSet | None = None) -> Tensor:
        """Weighted sum of both; float32 ``(batch, item)``."""
        rules = self.rules.evidence(histories, without=without)
        if self.weight == 0:
            return rules
        return rules.addcmul_(self.content.evidence(histories), self.weight)

    def item_vectors(self) -> Tensor:
        """Those of its rules, since those of texts are available without it; ``(item, dim)``."""
        return self.rules.item_vectors()

    @torch.no_grad()
    def choose(self, valid: SequenceSet, selection: Selection) -> None:
        """Set the weight to the candidate that is best on validation, if it is ``auto``."""
        if self.config.weight != "auto":
            return
        subset = validation_subset(EvaluationConfig(validation_targets=self.config.targets), valid)

        def reached(weight: float) -> float:
            self.weight.fill_(weight)
            ranks = rank_by_scores(self, valid, subset=subset, title=f"content weight {weight:g}")
            return selection.value(ranks, "expected")

        values = {weight: reached(weight) for weight in self.config.candidates}
        best = max(values, key=values.__getitem__)
        self.weight.fill_(best)
        logger.info("weight of content %g, by %s of %s", best, selection.label, values)

    def chosen(self) -> dict[str, float]:
        """The weight of content, unless it was given."""
        if self.config.weight != "auto":
            return {}
        return {"weight of content": round(float(self.weight), 6)}
