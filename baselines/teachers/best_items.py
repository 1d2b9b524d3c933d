"""The best items of a teacher whose scores are dot products, without scoring all in Python."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.data.batches import Histories
from baselines.teachers.scorer import ItemScorer
from tca.top_k import sampled_tail, uniform_tail

Tail = Literal["sampled", "uniform"]

_SAMPLE = 4096  # items that the tail is estimated from


@runtime_checkable
class DotProductScorer(ItemScorer, Protocol):
    """A teacher whose score of an item is a vector of the history times one of the item."""

    def user_vectors(self, histories: Histories) -> Tensor:
        """One vector a history; float32 ``(batch, dim)``."""
        ...

    def item_vectors(self) -> Tensor:
        """One vector an item; float32 ``(item, dim)``."""
        ...


def require_dot_product(scorer: ItemScorer) -> DotProductScorer:
    """The same scorer, known to have vectors.

    Raises:
        ValueError: If it has none.
    """
    if not isinstance(scorer, DotProductScorer):
        raise ValueError(
            f"top_k needs a teacher whose scores are dot products (user_vectors, item_vectors), "
            f"got {type(scorer).__name__}. Leave top_k out to score all items."
        )
    return scorer


class BestItems:
    """The ``k`` items with the largest dot products, by faiss, and what the others hold together.

    The sample behind the tail ``sampled`` is drawn once, with a seed of its own, so the same
    vectors always give the same result.

    Args:
        item_vectors: Float ``(item, dim)``.
        k: Items wanted, at most those of the catalogue.
        tail: As in ``MassConfig``.
        temperature: Of the tail's mass, above 0.
        lists: None searches all vectors and is exact. Else the vectors are kept in so many lists,
            of which ``probed`` are searched, and some of the best items may be missed.
        probed: Lists searched for a history.

    Raises:
        ValueError: If ``k`` is not within the catalogue.
    """

    def __init__(
        self,
        item_vectors: Tensor,
        k: int,
        *,
        tail: Tail = "sampled",
        temperature: float = 1.0,
        lists: int | None = None,
        probed: int = 16,
    ) -> None:
        num_items = len(item_vectors)
        if not 1 <= k <= num_items:
            raise ValueError(
                f"k must be in [1, {num_items}], the items of the catalogue, got {k}. "
                "Lower it, or leave top_k out to score all items."
            )
        self.k, self.tail, self.temperature, self.num_items = k, tail, temperature, num_items
        vectors = item_vectors.detach().float().cpu()
        self._index = _index(vectors.numpy(), lists, probed)
        gen = torch.Generator().manual_seed(0)
        sample = torch.randperm(num_items, generator=gen)[:_SAMPLE]
        self._sample = vectors[sample]
        self._place_in_sample = torch.full((num_items + 1,), len(sample))  # one for no item, last
        self._place_in_sample[sample] = torch.arange(len(sample))

    def __call__(self, user_vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Search.

        Args:
            user_vectors: Float ``(batch, dim)``.

        Returns:
            Scores float32 ``(batch, k)``, best first; items int64 ``(batch, k)``; and the log mass
            of all others at the temperature, float32 ``(batch,)``; on the CPU. With ``lists`` there
            may be fewer items, -1 with the score ``-inf`` in place of the rest.

        Raises:
            ValueError: If a vector holds NaN or infinity.
        """
        users = user_vectors.detach().float().cpu()
        if (broken := ~users.isfinite().all(dim=1)).any():
            raise ValueError(
                f"row {int(broken.nonzero()[0])} of user_vectors holds NaN or infinity. "
                "Check the teacher's output for that row."
            )
        found: tuple[Any, Any] = self._index.search(users.numpy(), self.k)
        items = torch.from_numpy(found[1])
        scores = torch.from_numpy(found[0]).masked_fill_(items < 0, -torch.inf)
        temperature = self.temperature
        if self.tail == "uniform":
            return scores, items, uniform_tail(scores, self.num_items, temperature=temperature)
        sample_scores = torch.cat([users @ self._sample.T, users.new_empty(len(users), 1)], dim=1)
        sample_scores.scatter_(1, self._place_in_sample[items], -torch.inf)
        sample_scores = sample_scores[:, :-1]
        tail = sampled_tail(scores, sample_scores, self.num_items, temperature=temperature)
        return scores, items, tail


def _index(vectors: NDArray[np.float32], lists: int | None, probed: int) -> Any:
    import faiss

    num_items, dim = vectors.shape
    flat = faiss.IndexFlatIP(dim)
    if lists is None:
        flat.add(vectors)
        return flat
    if not 1 <= probed <= lists <= num_items:
        raise ValueError(
            f"expected 1 <= probed <= lists <= {num_items}, the items of the catalogue, "
            f"got probed {probed} and lists {lists}"
        )
    index = faiss.IndexIVFFlat(flat, dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = probed
    index.cp.min_points_per_centroid = 1  # few items a list are no reason for a warning
    index.train(vectors)
    index.add(vectors)
    return index
