"""A language model whose prompts have slots for vectors of a frozen collaborative teacher."""

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

_SAMPLE = 1024  # items whose vectors say how large vectors are


class VectorBackbone(LanguageBackbone):
    """A language model that reads projected vectors of items beside its tokens.

    The teacher is frozen, and no part of the weights: its item vectors are a buffer that no file
    holds. Only the items of a batch are projected.

    Vectors are divided by the root of their mean square, over all items: how long a teacher's
    vectors are is its own affair, and in a projector that starts at random the bias would drown
    short ones.

    Args:
        config: The language model, and the text-only prompt.
        context: Catalogue, semantic IDs, seed, and the trained teacher in eval mode.
        template: The prompt with vectors; None for that of ``config``.
        item: An item of it, with ``{item}`` and ``{vector}``.

    Raises:
        ValueError: As ``LanguageBackbone``; if the teacher lacks vectors that have a slot.
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
            raise ValueError(f"{self.label} reads the vectors of a teacher, got none")
        self.require_teacher(type(teacher))
        super().__init__(config, context)
        self.text_prompts = self.prompts
        written = dataclasses.replace(config, template=template or config.template, item=item)
        self.prompts = self.write_prompts(written, slots=self.slots)
        assert isinstance(teacher, ItemVectors)
        vectors = teacher.item_vectors().detach().float().cpu()
        self.item_size = size_of(vectors)
        self.register_buffer("item_vectors", vectors / self.item_size, persistent=False)
        self._made_from |= {
            "prompts_with_vectors": self.prompts.content_hash(),
            "item_vectors": hash_arrays(vectors.numpy()),
        }
        self._teacher = (teacher,)  # in a tuple, where it is not taken for a part of this module

    @classmethod
    def require_teacher(cls, teacher: type[TeacherModel]) -> None:
        """Refuse a class of teachers that have no vectors for a slot.

        Raises:
            ValueError: If it lacks some.
        """
        if lacks := cls.lacking(teacher):
            raise ValueError(
                f"{cls.label} reads vectors of its teacher, but {teacher.__name__} has no "
                f"{' and no '.join(lacks)}. Take --teacher.model sasrec."
            )

    @classmethod
    def lacking(cls, teacher: type[TeacherModel]) -> list[str]:
        """Which vectors a class of teachers has not, of those that have a slot."""
        return [] if issubclass(teacher, ItemVectors) else ["item vectors"]

    @property
    def width(self) -> int:
        """Of the language model's input vectors."""
        return int(self.base.get_input_embeddings().weight.shape[1])

    def learned(self) -> frozenset[str]:
        """Names of the parameters that are not frozen."""
        return frozenset(name for name, value in self.named_parameters() if value.requires_grad)

    def learn(self, names: Collection[str]) -> None:
        """Freeze all parameters but these."""
        for name, value in self.named_parameters():
            value.requires_grad_(name in names)

    @abstractmethod
    def project_items(self, items: Tensor) -> Tensor:
        """Vectors for the slots of items int64 ``(n,)``; float ``(n, width)``."""

    def inputs(self, tokens: Tensor, past: Histories | None) -> dict[str, Tensor]:
        """Input vectors, those of slots projected."""
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
    def begin_as_large_as_words(self, projector: nn.Sequential, vectors: Tensor) -> None:
        """Scale the last layer, so that vectors begin as large as the words around them.

        How large a language model's input vectors are is learned. What a fresh projector makes may
        be many times as large, and a model would read little else; or so small that it is lost.

        Args:
            projector: Its last layer is a ``Linear``.
            vectors: Float ``(n, dim)``, some of what it will be given.
        """
        embedding, last = self.base.get_input_embeddings(), projector[-1]
        assert isinstance(last, nn.Linear)
        rows = torch.linspace(0, len(embedding.weight) - 1, _SAMPLE).long()
        words = embedding(rows.to(embedding.weight.device))
        factor = size_of(words) / size_of(projector(vectors))
        last.weight.mul_(factor)
        last.bias.mul_(factor)

    def some_items(self) -> Tensor:
        """Items of the catalogue to measure by; int64 ``(n,)``."""
        return torch.arange(min(len(self.item_vectors), _SAMPLE))


class UserVectorBackbone(VectorBackbone):
    """A language model that reads a projected state of the user as well.

    States are computed for each batch, from the items that the prompt may hold, and divided by the
    root of their mean square over the histories of one item. Arguments and errors are those of
    ``VectorBackbone``.
    """

    slots: ClassVar[tuple[str, ...]] = ("{vector}", "{user}")

    @classmethod
    def lacking(cls, teacher: type[TeacherModel]) -> list[str]:
        """Item vectors, or states of users."""
        states = [] if issubclass(teacher, DotProductScorer) else ["states of users"]
        return super().lacking(teacher) + states

    @property
    def made_from(self) -> dict[str, str]:
        """With all weights of the teacher, which the states are computed by."""
        (teacher,) = self._teacher
        weights = teacher.state_dict()
        users = hash_arrays(*(weights[name].cpu().numpy() for name in sorted(weights)))
        return super().made_from | {"users": users}

    @abstractmethod
    def project_users(self, states: Tensor) -> Tensor:
        """Vectors for the slots of users, from their states ``(n, dim)``; float ``(n, width)``."""

    @cached_property
    def user_size(self) -> float:
        """What states are divided by."""
        return size_of(self._states(Histories.alone(self.some_items())))

    def user_states(self, past: Histories) -> Tensor:
        """The teacher's states, as large as a projector takes them; float32 ``(batch, dim)``."""
        return self._states(past) / self.user_size

    def _states(self, past: Histories) -> Tensor:
        (teacher,) = self._teacher
        assert isinstance(teacher, DotProductScorer)
        with torch.autocast(self.item_vectors.device.type, enabled=False):
            states = teacher.user_vectors(past.last(self.max_history))
        return states.to(self.item_vectors.device).clone()

    def inputs(self, tokens: Tensor, past: Histories | None) -> dict[str, Tensor]:
        """Input vectors, those of slots projected."""
        given = super().inputs(tokens, past)
        row, pos = (tokens == USER).nonzero(as_tuple=True)
        if past is not None and len(row):
            vectors = given["inputs_embeds"]
            projected = self.project_users(self.user_states(past))[row]
            given["inputs_embeds"] = vectors.index_put((row, pos), projected.to(vectors.dtype))
        return given


def size_of(vectors: Tensor) -> float:
    """Root of the mean square of all numbers, not zero."""
    return max(float(vectors.detach().float().square().mean().sqrt()), 1e-12)
