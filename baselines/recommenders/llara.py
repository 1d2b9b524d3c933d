"""LLaRA (arXiv:2312.02445): each title is followed by the item's projected vector."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from baselines.contracts.backbone import BuildContext
from baselines.data.batches import TrainBatch
from baselines.lm.config import LanguageModelConfig
from baselines.lm.prompts import Prompts
from baselines.recommenders.config import Curriculum, LlaraConfig
from baselines.recommenders.vectors import VectorBackbone


class LlaraBackbone(VectorBackbone):
    """Titles with item vectors, learned by a curriculum that starts from titles alone.

    The projector is two layers with GELU, as wide as the language model. Training moves from the
    easy to the hard task (the paper's curriculum prompt tuning): a batch contains vectors with a
    rising probability, else text alone, which leaves the projector unchanged. Decoding always uses
    vectors.

    Args:
        config: The language model and the text-only prompt.
        context: Catalogue, semantic IDs, seed, and the trained teacher.
        extra: Settings specific to LLaRA.

    Raises:
        ValueError: As ``VectorBackbone``.
    """

    extra_config_class: ClassVar[type[Any] | None] = LlaraConfig
    label: ClassVar[str] = "LLaRA"

    def __init__(
        self, config: LanguageModelConfig, context: BuildContext, extra: LlaraConfig
    ) -> None:
        super().__init__(config, context, item=extra.item)
        self.seed, self.curriculum = context.seed, extra.curriculum
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            dim, width = self.item_vectors.shape[1], self.width
            self.projector = nn.Sequential(
                nn.Linear(dim, width), nn.GELU(), nn.Linear(width, width)
            )
        self.match_embedding_scale(self.projector, self.item_vectors[self.sample_items()])

    def prompts_of(self, batch: TrainBatch | None) -> Prompts:
        """Prompts with vectors, or of text alone, as the curriculum decides."""
        if batch is None or not self.training or has_vectors(self.seed, batch, self.curriculum):
            return self.prompts
        return self.text_prompts

    def project_items(self, items: Tensor) -> Tensor:
        """Projected vectors of items int64 ``(n,)``; float ``(n, width)``."""
        vectors: Tensor = self.projector(self.item_vectors[items])
        return vectors


def has_vectors(seed: int, batch: TrainBatch, curriculum: Curriculum = "paper") -> bool:
    """Whether the prompts of a batch contain vectors.

    The draw depends only on the seed, the training progress and, for ``released``, the index of the
    micro-batch, so it is the same in every process and after a resume.

    Args:
        seed: Seed of the run.
        batch: The batch; only its progress and part are read.
        curriculum: See ``LlaraConfig``.
    """
    if curriculum == "none":
        return True
    step = [seed, int(batch.progress * 2**53)]
    if curriculum == "released":
        return bool(np.random.default_rng([*step, batch.part]).random() < batch.since_epoch)
    return bool(np.random.default_rng(step).random() < batch.progress)
