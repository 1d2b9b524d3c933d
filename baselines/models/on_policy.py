"""On-policy prefixes: paths that the student writes itself, labelled by the teacher.

Teacher forcing shows a generator only prefixes of targets, while a beam mostly extends other ones.
Here it also learns below prefixes drawn from its own distribution, as in on-policy distillation
(arXiv:2306.13649, section 3).
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from baselines.contracts.backbone import Backbone, CodeBackbone
from baselines.data.batches import ItemLabels, TrainBatch
from semid.trie import CodeTrie
from tca.config import ObjectiveConfig
from tca.functional import log_probs_over_candidates, log_probs_over_vocabulary
from tca.objective import ObjectiveOutput


class OnPolicyLoss:
    """Adds the loss of the student's own prefixes to that of the targets' paths.

    For a share of the targets, the student draws a path token by token from its distribution over
    the tokens that can follow. Wherever this path has left the target's, the loss is the
    cross-entropy to the teacher's distribution over the next tokens, given that the item is below
    the prefix; the target is not, so it has no part in the label. These are summed, and divided by
    the number of supervised positions that the paths' loss is a mean over.

    Args:
        backbone: The student.
        config: Its objective, with ``on_policy`` above 0.

    Raises:
        ValueError: If the backbone does not generate codes.
    """

    def __init__(self, backbone: Backbone, config: ObjectiveConfig) -> None:
        require_codes(type(backbone))
        self._backbone, self._share, self._tau = backbone, config.on_policy, float(config.tau)
        self._log_probs = log_probs_over_candidates if config.masked else log_probs_over_vocabulary

    def __call__(self, batch: TrainBatch, output: ObjectiveOutput) -> ObjectiveOutput:
        """Add the loss of a batch.

        Args:
            batch: With ``item_labels``.
            output: The loss of its paths.

        Returns:
            The sum; its part ``on_policy`` is what was added. Draws from PyTorch's default
            generator, which training seeds in every epoch.
        """
        drawn = torch.rand(len(batch.target_id)) < self._share
        chosen = drawn.nonzero().squeeze(1).to(batch.target_id.device)
        added = torch.zeros_like(output.loss)
        if len(chosen) > 0:
            added = self._total(batch.select_targets(chosen)) / output.count.clamp_min(1)
        parts = {**output.parts, "on_policy": added.detach()}
        return dataclasses.replace(output, loss=output.loss + added, parts=parts)

    def _total(self, batch: TrainBatch) -> Tensor:
        assert batch.item_labels is not None
        trie, total = self._backbone.trie, torch.zeros((), device=batch.target_id.device)
        path = trie.path(batch.target_items)
        node, only = torch.zeros_like(path[:, 0]), torch.zeros_like(path[:, :1])
        prefixes = self._backbone.start(batch.histories())
        for depth in range(trie.depth):
            child, valid = trie.children(node, trie.width_of_depth(depth))
            tokens = trie.token_of_node[child].long().masked_fill_(~valid, 0)
            log_p = self._log_probs(
                prefixes.logits(), tokens[:, None], valid[:, None], tau=self._tau
            )
            log_p = log_p.squeeze(1)
            p = next_token_distribution(trie, node, batch.item_labels)
            cross_entropy = -(p * log_p.masked_fill(~valid, 0)).sum(dim=1)
            total = total + (cross_entropy * (node != path[:, depth])).sum()
            slot = torch.multinomial(log_p.detach().softmax(dim=1), 1)
            node = child.gather(1, slot).squeeze(1)
            if depth + 1 < trie.depth:
                prefixes = prefixes.extend(only, tokens.gather(1, slot))
        return total


def next_token_distribution(trie: CodeTrie, node: Tensor, labels: ItemLabels) -> Tensor:
    """The teacher's distribution over the next tokens of any prefixes, target or not.

    The probability of a child is that of the items below it, divided by that of the items below the
    prefix: exact for the distributions in ``labels``. A prefix without any probability below it is
    given a uniform distribution over its items.

    Args:
        trie: The paths of the catalogue.
        node: int64 ``(target,)``, the prefixes, all of one depth and none of them a leaf.
        labels: Distributions over whole items, one for each prefix.

    Returns:
        float32 ``(target, child)``, zero in invalid slots, with as many slots as a node of this
        depth can have children.
    """
    depth = int(trie.depth_of(node[0]))
    child, valid = trie.children(node, trie.width_of_depth(depth))
    size = (trie.last_item[child] - trie.first_item[child]) * valid
    on_path = trie.path(labels.items)[..., depth : depth + 2]
    is_below = on_path[..., 0] == node[:, None]
    slot = (on_path[..., 1] - trie.first_child[node][:, None]).masked_fill(~is_below, 0)
    rest = labels.rest[:, None]
    mass = rest * size
    mass = mass.scatter_add(1, slot, (labels.p - rest) * is_below)
    mass = mass.maximum(torch.finfo(mass.dtype).tiny * size)
    return mass / mass.sum(dim=1, keepdim=True)


def require_codes(backbone: type[Backbone]) -> None:
    """Raise unless a backbone can learn from prefixes of its own.

    Raises:
        ValueError: If it does not generate codes.
    """
    if not issubclass(backbone, CodeBackbone):
        raise ValueError(
            f"on_policy needs a backbone that generates codes, such as causal or tiger, got "
            f"{backbone.label}. Leave it out."
        )
