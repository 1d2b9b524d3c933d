"""R-VQ: residual vector quantisation of the embeddings, without an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from semid.tokenizers.training import ResidualVQ

__all__ = ["RVQ"]


@dataclass(kw_only=True, eq=False)
class RVQ(ResidualVQ):
    """Residual codebooks trained in mini-batches on the embeddings, all levels jointly.

    ``sum_l ||r[l] - e[l]||^2`` with ``r[0]`` the centred embedding and ``r[l + 1] = r[l] - e[l]``
    (SoundStream, arXiv:2107.03312, section III-C, with the identity as encoder). RQ-KMeans has the
    same objective; here each step costs only a batch and all levels are learned jointly. For the
    quantiser and the training see `semid.tokenizers.RQVAE`.

    Attributes:
        codebook_sizes: Number of codewords per level.
        codebook_update: ``ema``, moving averages (as in that paper), or ``gradient``, by AdamW.
        ema_decay: Decay of the moving averages (there: 0.99).
        start: ``kmeans``, ``kmeans++`` or ``balanced``.
        epochs: Number of passes over the items.
        batch_size: Items per step.
        learning_rate: AdamW's learning rate; unused with ``ema``.
        restart_every: Epochs between restarts of unused codes; none in the last quarter.
        kmeans_iterations: Lloyd iterations of the k-means start.
        seed: Seed of start, batches and restarts.
        on_epoch: Called with each new entry of ``history_``.
        history_: As in `semid.tokenizers.RQVAE`; ``reconstruction`` is of the centred embeddings.
    """

    codebook_update: str = "ema"
    epochs: int = 50

    def _scaling(self, embeddings: Tensor) -> dict[str, Tensor]:
        return {"mean": embeddings.double().mean(dim=0).float()}
