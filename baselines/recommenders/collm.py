"""CoLLM (arXiv:2310.19488): collaborative user and item vectors, learned after the text."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from baselines.contracts.backbone import WHOLE, BuildContext, Stage
from baselines.data.batches import TrainBatch
from baselines.lm.config import LanguageModelConfig
from baselines.lm.prompts import Prompts
from baselines.recommenders.config import CollmConfig
from baselines.recommenders.vectors import UserVectorBackbone

_TEXT, _VECTORS = "text", "vectors"


class CollmBackbone(UserVectorBackbone):
    """User state and item vectors in the prompt, through one projector with ReLU.

    Trained in two stages, the paper's two-step tuning: ``text`` learns the language model's
    adapters, and any code tokens, from prompts without vectors; ``vectors`` freezes them and learns
    the projector from prompts with vectors. With ``together``, both are learned in one stage. The
    teacher is frozen throughout.

    Args:
        config: The language model and the text-only prompt.
        context: Catalogue, semantic IDs, seed, and the trained teacher.
        extra: Settings specific to CoLLM.

    Raises:
        ValueError: As ``UserVectorBackbone``.
    """

    extra_config_class: ClassVar[type[Any] | None] = CollmConfig
    label: ClassVar[str] = "CoLLM"

    def __init__(
        self, config: LanguageModelConfig, context: BuildContext, extra: CollmConfig
    ) -> None:
        super().__init__(config, context, template=extra.template, item=extra.item)
        language = self.trainable_names()
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            dim = self.item_vectors.shape[1]
            hidden = extra.expansion * dim
            self.projector = nn.Sequential(
                nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, self.width)
            )
        self.match_embedding_scale(self.projector, self.item_vectors[self.sample_items()])
        self._stage: str | None = None
        stages = (Stage(name=_TEXT), Stage(name=_VECTORS))
        self._stages = (WHOLE,) if extra.together else stages
        self._trainable_in = {
            None: self.trainable_names(),
            WHOLE.name: self.trainable_names(),
            _TEXT: language,
            _VECTORS: self.trainable_names() - language,
        }

    @property
    def stages(self) -> tuple[Stage, ...]:
        """``text`` and ``vectors``, or a single stage."""
        return self._stages

    def begin_stage(self, stage: str | None) -> None:
        """Freeze what the stage does not train, and switch to its prompts."""
        self._stage = stage
        self.set_trainable(self._trainable_in[stage])

    def prompts_of(self, batch: TrainBatch | None) -> Prompts:
        """Text-only prompts in the first stage."""
        return self.text_prompts if self._stage == _TEXT else self.prompts

    def project_items(self, items: Tensor) -> Tensor:
        """Projected vectors of items int64 ``(n,)``; float ``(n, width)``."""
        vectors: Tensor = self.projector(self.item_vectors[items])
        return vectors

    def project_users(self, states: Tensor) -> Tensor:
        """Projected states ``(n, dim)`` of users; float ``(n, width)``."""
        vectors: Tensor = self.projector(states)
        return vectors
