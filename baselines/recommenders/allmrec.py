"""A-LLMRec (arXiv:2404.11343): a frozen language model reads joint collaborative-text vectors."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.contracts.backbone import BuildContext, Stage
from baselines.data.batches import Histories, TrainBatch, Windows
from baselines.data.sequences import SequenceSet
from baselines.lm.config import LanguageModelConfig
from baselines.recommenders.config import AllmrecConfig
from baselines.recommenders.vectors import UserVectorBackbone, rms
from baselines.teachers.losses import binary_loss, draw_outside, require_outside
from semid.catalog import Catalog
from semid.embed import embeddings_from
from semid.provenance import hash_arrays
from tca.objective import ObjectiveOutput

_ALIGNMENT, _ANSWERS = "alignment", "answers"
_JOINT = 128  # width of the joint vectors, in paper and code
_OF_VECTORS, _OF_TEXT = 0.5, 0.2  # weights of the two reconstructions


class Autoencoder(nn.Module):
    """A linear encoder with sigmoid, and a linear decoder.

    Args:
        dim: Input width.
        joint: Width of the latent vectors.
    """

    def __init__(self, dim: int, joint: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(dim, joint)
        self.decoder = nn.Linear(joint, dim)

    def encode(self, vectors: Tensor) -> Tensor:
        """Latent vectors in (0, 1); float ``(n, joint)``."""
        joint: Tensor = self.encoder(vectors).sigmoid()
        return joint

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Latent vectors ``(n, joint)`` and reconstructions ``(n, dim)``."""
        joint = self.encode(vectors)
        return joint, self.decoder(joint)


class AllmrecBackbone(UserVectorBackbone):
    """Joint item vectors and user states for a frozen language model.

    Trained in two stages, Stage-1 and Stage-2 of the paper. ``alignment`` learns two autoencoders,
    one of the teacher's item vectors and one of the items' text embeddings, whose latent vectors
    are pulled together; the latents of the item vectors are the joint vectors. ``answers`` freezes
    both and learns two projectors into the language model with the arm's objective, and any code
    tokens. ``lm.template``, ``lm.item`` and ``lm.lora`` are ignored.

    Args:
        config: The language model.
        context: Catalogue, semantic IDs, seed, and the trained teacher.
        extra: Settings specific to A-LLMRec.

    Raises:
        ValueError: As ``UserVectorBackbone``; if there are no texts, or their embeddings cannot be
            read, belong to another catalogue or were trained on interactions, or the catalogue is
            no larger than a window.
    """

    extra_config_class: ClassVar[type[Any] | None] = AllmrecConfig
    label: ClassVar[str] = "A-LLMRec"
    adapted: ClassVar[bool] = False

    texts: Tensor

    def __init__(
        self, config: LanguageModelConfig, context: BuildContext, extra: AllmrecConfig
    ) -> None:
        self.require_settings(config, len(context.codes))
        super().__init__(config, context, template=extra.template, item=extra.item)
        self.extra = extra
        texts = _embedded(extra, context.catalog)
        self.register_buffer("texts", texts / rms(texts), persistent=False)
        del self._input_hashes["prompts"]  # the text-only prompts, which are unused here
        self._input_hashes["texts"] = hash_arrays(texts.numpy())
        dim, width = self.item_vectors.shape[1], self.width
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            self.of_vectors = Autoencoder(dim, _JOINT)
            self.of_texts = Autoencoder(texts.shape[1], _JOINT)
            self.user_projector = _projector(dim, width, nn.LeakyReLU())
            self.item_projector = _projector(_JOINT, width, nn.GELU())
        aligned = {
            name for name in self.trainable_names() if name.startswith(("of_vectors", "of_texts"))
        }
        self._trainable_in = {
            None: self.trainable_names(),
            _ALIGNMENT: frozenset(aligned),
            _ANSWERS: self.trainable_names() - aligned,
        }
        some = self.sample_items()
        with torch.no_grad():
            joint = self.of_vectors.encode(self.item_vectors[some])
        self.match_embedding_scale(self.item_projector, joint)
        states = self.user_states(Histories.alone(some))
        self.match_embedding_scale(self.user_projector, states)

    @classmethod
    def require_settings(cls, config: LanguageModelConfig, num_items: int) -> None:
        """Raise if a window could contain the whole catalogue."""
        require_outside(num_items, config.max_history + 1)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """``alignment``, which learns the vectors, then ``answers``."""
        scorer = _ReconstructionScorer(self)
        return (
            Stage(name=_ALIGNMENT, loss=self.alignment_loss, scorer=scorer),
            Stage(name=_ANSWERS),
        )

    def begin_stage(self, stage: str | None) -> None:
        """Freeze everything that the stage does not train."""
        self.set_trainable(self._trainable_in[stage])

    def windows(self, data: SequenceSet) -> Windows:
        """One window per target, or only the last of each user."""
        windows = super().windows(data)
        return windows.last_of_users() if self.extra.targets == "last" else windows

    def alignment_loss(self, batch: TrainBatch) -> ObjectiveOutput:
        """Loss of the first stage, over each target and one negative drawn from outside its window.

        ``recommendation + matching + 0.5 vectors + 0.2 texts``: binary cross-entropy of the
        teacher's state times the reconstructed item vectors; mean squared error between the two
        latent vectors; and the two reconstruction errors. The weights are those of paper and code.

        Returns:
            The loss and these four parts.
        """
        past = batch.windows.without_last()
        states = self.user_states(past) * self.user_rms
        windows = batch.windows.items.masked_fill(~batch.windows.mask, -1)
        negative = draw_outside(windows[batch.target_row], len(self.item_vectors), 1).squeeze(1)
        items = torch.stack([batch.target_items, negative])
        vectors, texts = self.item_vectors[items], self.texts[items]
        (joint, again), (joint_text, text_again) = self.of_vectors(vectors), self.of_texts(texts)
        logits = (states * again.float()).sum(dim=-1) * self.item_rms
        parts = {
            "recommendation": binary_loss(logits[0], logits[1].unsqueeze(1)),
            "matching": F.mse_loss(joint.float(), joint_text.float()),
            "vectors": F.mse_loss(again.float(), vectors),
            "texts": F.mse_loss(text_again.float(), texts),
        }
        loss = parts["recommendation"] + parts["matching"]
        loss = loss + _OF_VECTORS * parts["vectors"] + _OF_TEXT * parts["texts"]
        count = torch.tensor(len(negative), device=negative.device)
        detached = {name: part.detach() for name, part in parts.items()}
        return ObjectiveOutput(loss=loss, parts=detached, count=count)

    def project_items(self, items: Tensor) -> Tensor:
        """Projected joint vectors of items int64 ``(n,)``; float ``(n, width)``."""
        vectors: Tensor = self.item_projector(self.of_vectors.encode(self.item_vectors[items]))
        return vectors

    def project_users(self, states: Tensor) -> Tensor:
        """Projected states ``(n, dim)`` of users; float ``(n, width)``."""
        vectors: Tensor = self.user_projector(states)
        return vectors


class _ReconstructionScorer:
    """The teacher, with item vectors replaced by their reconstructions."""

    def __init__(self, backbone: AllmrecBackbone) -> None:
        self.backbone = backbone
        self.max_history = backbone.max_history

    @torch.inference_mode()
    def score(self, histories: Histories) -> Tensor:
        """State times item vector; float32 ``(batch, item)``."""
        backbone = self.backbone
        _, again = backbone.of_vectors(backbone.item_vectors)
        scores: Tensor = backbone.user_states(histories) @ again.T
        return scores


def _projector(dim: int, width: int, activation: nn.Module) -> nn.Sequential:
    layers = [nn.Linear(dim, width), nn.LayerNorm(width), activation, nn.Linear(width, width)]
    return nn.Sequential(*layers)


def _embedded(extra: AllmrecConfig, catalog: Catalog | None) -> Tensor:
    if catalog is None:
        raise ValueError("A-LLMRec needs a catalogue with texts, got none")
    found = embeddings_from(extra.embeddings, catalog, template=extra.text)
    if found.provenance.seen is not None:
        raise ValueError(
            f"expected embeddings of the items' texts, got {extra.embeddings!r}, trained on "
            "interactions. Use --backbones.allmrec.embeddings lsa, or a text encoder."
        )
    return torch.from_numpy(found.vectors)
