"""The top items after each history, as ranked by a trained model."""

from __future__ import annotations

import torch
from torch import Tensor

from baselines.contracts.scorer import ItemScorer, checked_scores
from baselines.data.batches import Histories
from baselines.models.trained import TrainedModel
from semid.boosts import ItemBoosts
from semid.decoding import RankedItems, apply_length_penalty, beam_search, rank_items
from semid.filters import ItemFilter


@torch.inference_mode()
def best_items(
    model: TrainedModel,
    histories: Histories,
    *,
    k: int,
    deny: Tensor | None = None,
    allow: Tensor | None = None,
    boosts: ItemBoosts | None = None,
) -> RankedItems:
    """The ``k`` best items of each history.

    Args:
        model: The model, on the device of ``histories``.
        histories: The users' past items.
        k: Length of the lists, at least 1.
        deny: Items that must not be listed, int64 ``(batch, n)``, padded with -1.
        allow: The only items that may be listed, in the same format.
        boosts: Added to the log-probability of items; made for the model's trie.
    """
    if isinstance(model.backbone, ItemScorer):
        scores = checked_scores(model.backbone, histories)
        return _best(_permitted(scores, deny=deny, allow=allow, boosts=boosts), k)
    backbone, how, fuse = model.backbone, model.spec.evaluation, model.fuse
    trie = backbone.trie
    within = None
    if deny is not None or allow is not None:
        within = ItemFilter(trie, deny=deny, allow=allow)
    found = beam_search(
        backbone.start(histories),
        trie,
        beam=max(how.beam, k),
        renormalize=how.renormalize,
        within=within,
        boosts=boosts,
        fusion=None if fuse is None else fuse(histories),
    )
    found = apply_length_penalty(found, trie, penalty=backbone.length_penalty)
    ranked = rank_items(found, trie, k=k, within=within, boosts=boosts)
    if (slots := model.slots) is None:
        return ranked
    scores = _permitted(slots.scores(histories), deny=deny, allow=allow, boosts=boosts)
    placed = slots.place(ranked, scores, k=k)
    return RankedItems(items=placed.items[:, :k], scores=placed.scores[:, :k])


def _permitted(
    scores: Tensor, *, deny: Tensor | None, allow: Tensor | None, boosts: ItemBoosts | None
) -> Tensor:
    """Boosted scores ``(batch, item)``; ``-inf`` for items that must not be listed."""
    forbidden = torch.zeros_like(scores, dtype=torch.bool)
    if allow is not None:
        forbidden = ~_marked(forbidden, allow)
    if deny is not None:
        forbidden = _marked(forbidden, deny)
    if boosts is not None:
        rows = torch.arange(scores.shape[1], device=scores.device)
        scores = scores + boosts.of_items(rows.expand_as(scores))
    return scores.masked_fill(forbidden, -torch.inf)


def _best(scores: Tensor, k: int) -> RankedItems:
    found = scores.topk(min(k, scores.shape[1]), dim=1)
    missing = (0, k - found.values.shape[1])
    values = torch.nn.functional.pad(found.values, missing, value=-torch.inf)
    items = torch.nn.functional.pad(found.indices, missing, value=-1)
    return RankedItems(items=items.masked_fill(values == -torch.inf, -1), scores=values)


def _marked(mask: Tensor, items: Tensor) -> Tensor:
    """The mask, also set to true for the items listed in each row."""
    row, place = (items >= 0).nonzero(as_tuple=True)
    mask = mask.clone()
    mask[row, items[row, place]] = True
    return mask
