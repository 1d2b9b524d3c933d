"""Top-k items of a teacher whose scores are dot products, through faiss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from baselines.teachers.config import Tail
from semid.trie import CodeTrie
from tca.top_k import sampled_tail, uniform_tail

_SAMPLE = 4096  # items from which the tail is estimated
_NEAR = 8192  # maximum number of items near the target to score, if more than k
_AT_ONCE = 2**16  # neighbours scored at a time; 16 MB of vectors


class TopK(NamedTuple):
    """Scored items and a tail for the rest, the input of ``TopKTokenizer``.

    Attributes:
        scores: float32 ``(batch, entry)``; ``-inf`` for padding.
        items: int64 ``(batch, entry)``, distinct catalogue rows; -1 for padding.
        tail_log_mass: float32 ``(batch,)``, log of the summed mass of all unlisted items.
    """

    scores: Tensor
    items: Tensor
    tail_log_mass: Tensor


class TopKIndex:
    """Exact search for the ``k`` largest dot products, with an estimate of the remaining mass.

    The sample for the tail ``sampled`` is drawn once with a fixed seed, so the same vectors always
    give the same result.

    Args:
        item_vectors: Float ``(item, dim)``.
        k: Number of items, at most the size of the catalogue.
        tail: As in ``MassConfig``.
        temperature: Temperature of the tail's mass, above 0.

    Raises:
        ValueError: If ``k`` exceeds the catalogue, or a vector contains NaN or infinity.
    """

    def __init__(
        self,
        item_vectors: Tensor,
        k: int,
        *,
        tail: Tail = "sampled",
        temperature: float = 1.0,
    ) -> None:
        num_items = len(item_vectors)
        if not 1 <= k <= num_items:
            raise ValueError(
                f"k must be in [1, {num_items}], the items of the catalogue, got {k}. "
                "Lower it, or leave top_k out to score all items."
            )
        self.k, self.tail, self.temperature, self.num_items = k, tail, temperature, num_items
        self._vectors = item_vectors.detach().float().cpu()
        _require_finite(self._vectors, "item_vectors")
        self._index = _index(self._vectors.numpy())
        gen = torch.Generator().manual_seed(0)
        sample = torch.randperm(num_items, generator=gen)[:_SAMPLE]
        self._sample = self._vectors[sample]
        self._place_in_sample = torch.full((num_items + 1,), len(sample))  # last entry: padding
        self._place_in_sample[sample] = torch.arange(len(sample))

    def __call__(self, user_vectors: Tensor) -> TopK:
        """Find the top k items.

        Args:
            user_vectors: Float ``(batch, dim)``.

        Returns:
            The best ``k`` items, best first, on the CPU.

        Raises:
            ValueError: If a vector contains NaN or infinity.
        """
        users = user_vectors.detach().float().cpu()
        _require_finite(users, "user_vectors")
        with _matrix_products():
            found: tuple[Any, Any] = self._index.search(users.numpy(), self.k)
        scores, items = map(torch.from_numpy, found)
        temperature = self.temperature
        if self.tail == "uniform":
            bound = uniform_tail(scores, self.num_items, temperature=temperature)
            return TopK(scores, items, bound)
        sample_scores = torch.cat([users @ self._sample.T, users.new_empty(len(users), 1)], dim=1)
        sample_scores.scatter_(1, self._place_in_sample[items], -torch.inf)
        sample_scores = sample_scores[:, :-1]
        tail = sampled_tail(scores, sample_scores, self.num_items, temperature=temperature)
        return TopK(scores, items, tail)

    def with_prefix_neighbours(
        self, user_vectors: Tensor, trie: CodeTrie, target_items: Tensor
    ) -> TopK:
        """Top-k items plus all items sharing a long enough prefix with the target.

        These are the items below the shortest prefix of the target's path that at most
        ``max(k, 8192)`` items share. At and below it the distributions are exact; only above it do
        they depend on the search and the tail. Items that remain unlisted keep their share of the
        tail.

        Args:
            user_vectors: Float ``(batch, dim)``.
            trie: The paths of the catalogue.
            target_items: int64 ``(batch,)``, catalogue rows.

        Returns:
            The items, in no particular order, on the CPU.

        Raises:
            ValueError: If a vector contains NaN or infinity.
        """
        found, users = self(user_vectors), user_vectors.detach().float().cpu()
        owner, near, node = prefix_neighbours(trie, target_items, max(self.k, _NEAR))
        count = (trie.last_item - trie.first_item)[node].long().cpu()
        column = torch.arange(len(near)) - (count.cumsum(0) - count)[owner]
        items = torch.full((len(users), int(count.max())), -1).index_put_((owner, column), near)
        rows = max(1, _AT_ONCE // items.shape[1])
        blocks = zip(torch.split(users, rows), torch.split(items, rows), strict=True)
        scores = torch.cat([self._scores(user, item) for user, item in blocks])

        place = trie.place_of_item[found.items.clamp_min(0).to(trie.device)]
        is_near = (place >= trie.first_item[node, None]) & (place < trie.last_item[node, None])
        is_near = is_near.cpu()
        items = torch.cat([found.items.masked_fill(is_near, -1), items], dim=1)
        scores = torch.cat([found.scores.masked_fill(is_near, -torch.inf), scores], dim=1)
        others = [self.num_items - (listed >= 0).sum(dim=1) for listed in (found.items, items)]
        share = found.tail_log_mass - others[0].log()
        tail = torch.where(others[1] > 0, share + others[1].log(), -torch.inf)
        return TopK(scores, items, tail)

    def _scores(self, users: Tensor, items: Tensor) -> Tensor:
        vectors = self._vectors.index_select(0, items.clamp_min(0).flatten())
        scores = torch.bmm(vectors.view(*items.shape, -1), users.unsqueeze(2)).squeeze(2)
        return scores.masked_fill_(items < 0, -torch.inf)


def prefix_neighbours(
    trie: CodeTrie, target_items: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Items below the shortest prefix of each target's path that at most ``most`` items share.

    Returns:
        Batch row and item of each entry, both int64 ``(entry,)`` on the CPU, ordered by row; and
        the node of each prefix, int64 ``(batch,)``. A leaf is used however many items it has.
    """
    path = trie.path(target_items.to(trie.device))
    fits = (trie.last_item - trie.first_item)[path] <= most
    fits[:, -1] = True
    node = path.gather(1, fits.to(torch.uint8).argmax(dim=1, keepdim=True)).squeeze(1)
    row, item = trie.items_below_each(node)
    return row.cpu(), item.cpu(), node


def _require_finite(vectors: Tensor, name: str) -> None:
    if (broken := ~vectors.isfinite().all(dim=1)).any():
        raise ValueError(
            f"row {int(broken.nonzero()[0])} of {name} contains NaN or infinity. "
            "Check the teacher's output for that row."
        )


@contextmanager
def _matrix_products() -> Iterator[None]:
    """Make faiss search by matrix products, five times faster for dozens of vectors.

    Its default threshold is more vectors than a batch has.
    """
    import faiss

    before = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 20
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = before


def _index(vectors: NDArray[np.float32]) -> Any:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index
