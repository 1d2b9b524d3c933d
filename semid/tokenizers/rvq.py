"""R-VQ: residual vector quantisation of the embeddings themselves, without an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from semid.tokenizers.training import ResidualVQ

__all__ = ["RVQ"]


@dataclass(kw_only=True, eq=False)
class RVQ(ResidualVQ):
    """Residual codebooks trained in batches on the embeddings, all levels at once.

    ``sum_l ||r[l] - e[l]||^2`` with ``r[0]`` the centred embedding and ``r[l + 1] = r[l] - e[l]``
    (SoundStream, arXiv:2107.03312, section III-C, with the identity for its encoder). RQ-KMeans
    has the same aim; this keeps each step's cost to a batch, and learns all levels together. The
    quantiser and the training are those of `semid.tokenizers.RQVAE`, which says what they do.

    Attributes:
        codebook_sizes: Codewords of each level.
        codebook_update: ``ema``, moving averages (there too), or ``gradient``, by AdamW.
        ema_decay: Weight of what was, in a moving average (there: 0.99).
        start: ``kmeans``, ``kmeans++`` or ``balanced``.
        epochs: Passes over the items.
        batch_size: Items a step.
        learning_rate: Of AdamW; unused with ``ema``.
        restart_every: Epochs between restarts of unused codes; none in the last quarter.
        kmeans_iterations: Lloyd iterations of the start.
        seed: Of start, batches and restarts.
        on_epoch: Called with each entry of ``history_`` as it is made.
        history_: As in `semid.tokenizers.RQVAE`; ``reconstruction`` is of the centred embeddings.
    """

    codebook_update: str = "ema"
    epochs: int = 50

    def _scaling(self, embeddings: Tensor) -> dict[str, Tensor]:
        return {"mean": embeddings.double().mean(dim=0).float()}
