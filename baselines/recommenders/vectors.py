"""Language models whose prompts contain projected vectors of a frozen collaborative teacher."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Collection
from functools import cached_property
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import BuildContext
from baselines.contracts.scorer import DotProductScorer, ItemVectors
from baselines.data.batches import Histories
from baselines.lm.config import LanguageModelConfig
from baselines.lm.prompts import FIRST_ITEM, USER
from baselines.recommenders.config import ITEM
from baselines.teachers.model import TeacherModel
from semid.provenance import hash_arrays

_SAMPLE = 1024  # items, or tokens, by which the scale of vectors is measured


class VectorBackbone(LanguageBackbone):
    """A language model that reads projected item vectors along with its tokens.

    The teacher is frozen and not part of the weights: its item vectors are a non-persistent buffer.
    Only the items of a batch are projected.

    Vectors are divided by their root mean square over all items. Teachers differ in scale, and with
    a randomly initialised projector the bias would dominate short vectors.

    Args:
        config: The language model and the text-only prompt.
        context: Catalogue, semantic IDs, seed, and the trained teacher in eval mode.
        template: The prompt with vectors; None for that of ``config``.
        item: An item of the history, with ``{item}`` and ``{vector}``.

    Raises:
        ValueError: As ``LanguageBackbone``; if the teacher lacks vectors for a slot.
    """

    reads_vectors: ClassVar[bool] = True
    needs_teacher: ClassVar[bool] = True
    slots: ClassVar[tuple[str, ...]] = ("{vector}",)

    item_vectors: Tensor

    def __init__(
        self,
        config: LanguageModelConfig,
        context: BuildContext,
        *,
        template: str | None = None,
        item: str = ITEM,
    ) -> None:
        teacher = cast("TeacherModel | None", context.teacher)
        if teacher is None:
            raise ValueError(f"{self.label} needs a teacher with vectors, got none")
        self.require_teacher(type(teacher))
        super().__init__(config, context)
        self.text_prompts = self.prompts
        written = dataclasses.replace(config, template=template or config.template, item=item)
        self.prompts = self.write_prompts(written, slots=self.slots)
        assert isinstance(teacher, ItemVectors)
        vectors = teacher.item_vectors().detach().float().cpu()
        self.item_rms = rms(vectors)
        self.register_buffer("item_vectors", vectors / self.item_rms, persistent=False)
        self._input_hashes |= {
            "prompts_with_vectors": self.prompts.content_hash(),
            "item_vectors": hash_arrays(vectors.numpy()),
        }
        self._teacher = (teacher,)  # in a tuple so that nn.Module does not register it

    @classmethod
    def require_teacher(cls, teacher: type[TeacherModel]) -> None:
        """Check that a class of teachers has a vector for every slot.

        Raises:
            ValueError: If it lacks one.
        """
        if lacks := cls.lacking(teacher):
            raise ValueError(
                f"{cls.label} reads vectors of its teacher, but {teacher.__name__} has no "
                f"{' and no '.join(lacks)}. Use --teacher.model sasrec."
            )

    @classmethod
    def lacking(cls, teacher: type[TeacherModel]) -> list[str]:
        """Vectors that have a slot but that a class of teachers does not offer."""
        return [] if issubclass(teacher, ItemVectors) else ["item vectors"]

    @property
    def width(self) -> int:
        """Width of the language model's input embeddings."""
        return int(self.base.get_input_embeddings().weight.shape[1])

    def trainable_names(self) -> frozenset[str]:
        """Names of the parameters that require gradients."""
        return frozenset(name for name, value in self.named_parameters() if value.requires_grad)

    def set_trainable(self, names: Collection[str]) -> None:
        """Freeze all parameters except these."""
        for name, value in self.named_parameters():
            value.requires_grad_(name in names)

    @abstractmethod
    def project_items(self, items: Tensor) -> Tensor:
        """Vectors for the slots of items int64 ``(n,)``; float ``(n, width)``."""

    def inputs(self, tokens: Tensor, past: Histories | None) -> dict[str, Tensor]:
        """Input embeddings, with item slots filled by projected vectors."""
        slot = tokens < 0
        if past is None or not slot.any():
            return super().inputs(tokens, past)
        vectors = self.embed(tokens.masked_fill(slot, 0))
        row, pos = (tokens <= FIRST_ITEM).nonzero(as_tuple=True)
        items, place = torch.unique(FIRST_ITEM - tokens[row, pos], return_inverse=True)
        projected = self.project_items(items)[place]
        vectors = vectors.index_put((row, pos), projected.to(vectors.dtype))
        return {"inputs_embeds": vectors}

    @torch.no_grad()
    def match_embedding_scale(self, projector: nn.Sequential, vectors: Tensor) -> None:
        """Scale the projector's last layer so that its output starts at the scale of embeddings.

        The output of a fresh projector may be many times larger than the learned input embeddings
        and dominate them, or so small that it is lost.

        Args:
            projector: Ends with a ``Linear`` layer; changed in place.
            vectors: Float ``(n, dim)``, a sample of its inputs.
        """
        embedding, last = self.base.get_input_embeddings(), projector[-1]
        assert isinstance(last, nn.Linear)
        rows = torch.linspace(0, len(embedding.weight) - 1, _SAMPLE).long()
        words = embedding(rows.to(embedding.weight.device))
        factor = rms(words) / rms(projector(vectors))
        last.weight.mul_(factor)
        last.bias.mul_(factor)

    def sample_items(self) -> Tensor:
        """Items by which the scale of vectors is measured; int64 ``(n,)``."""
        return torch.arange(min(len(self.item_vectors), _SAMPLE))


class UserVectorBackbone(VectorBackbone):
    """A language model that also reads a projected user state.

    States are computed per batch, from the items that fit the prompt, and divided by their root
    mean square over single-item histories. Arguments and errors are those of ``VectorBackbone``.
    """

    slots: ClassVar[tuple[str, ...]] = ("{vector}", "{user}")

    @classmethod
    def lacking(cls, teacher: type[TeacherModel]) -> list[str]:
        """Missing item vectors or user states."""
        states = [] if issubclass(teacher, DotProductScorer) else ["states of users"]
        return super().lacking(teacher) + states

    @property
    def input_hashes(self) -> dict[str, str]:
        """The hashes, including one of all teacher weights, which produce the states."""
        (teacher,) = self._teacher
        weights = teacher.state_dict()
        users = hash_arrays(*(weights[name].cpu().numpy() for name in sorted(weights)))
        return super().input_hashes | {"users": users}

    @abstractmethod
    def project_users(self, states: Tensor) -> Tensor:
        """Vectors for user slots, from states ``(n, dim)``; float ``(n, width)``."""

    @cached_property
    def user_rms(self) -> float:
        """Root mean square of states, by which they are divided."""
        return rms(self._states(Histories.alone(self.sample_items())))

    def user_states(self, past: Histories) -> Tensor:
        """The teacher's normalised user states; float32 ``(batch, dim)``."""
        return self._states(past) / self.user_rms

    def _states(self, past: Histories) -> Tensor:
        (teacher,) = self._teacher
        assert isinstance(teacher, DotProductScorer)
        with torch.autocast(self.item_vectors.device.type, enabled=False):
            states = teacher.user_vectors(past.last(self.max_history))
        return states.to(self.item_vectors.device).clone()

    def inputs(self, tokens: Tensor, past: Histories | None) -> dict[str, Tensor]:
        """Input embeddings, with item and user slots filled by projected vectors."""
        given = super().inputs(tokens, past)
        row, pos = (tokens == USER).nonzero(as_tuple=True)
        if past is not None and len(row):
            vectors = given["inputs_embeds"]
            projected = self.project_users(self.user_states(past))[row]
            given["inputs_embeds"] = vectors.index_put((row, pos), projected.to(vectors.dtype))
        return given


def rms(vectors: Tensor) -> float:
    """Root mean square over all elements, bounded away from zero."""
    return max(float(vectors.detach().float().square().mean().sqrt()), 1e-12)
