"""The valid next tokens of a prefix and their log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from semid.config import Renormalize
from semid.prefixes import Prefixes
from semid.trie import CodeTrie


@dataclass(frozen=True, kw_only=True, eq=False)
class Successors:
    """The children of prefixes of one depth, in slots.

    Attributes:
        nodes: int64 ``(batch, beam, slot)``; an arbitrary node of the depth where not valid.
        valid: bool ``(batch, beam, slot)``.
        log_probs: float32 ``(batch, beam, slot)``, ``-inf`` where not valid.
        broken: bool ``()``, whether a logit was NaN or +inf; reading it synchronises with the
            device, so do that last.
    """

    nodes: Tensor
    valid: Tensor
    log_probs: Tensor
    broken: Tensor


def successors(
    prefixes: Prefixes, trie: CodeTrie, nodes: Tensor, depth: int, renormalize: Renormalize
) -> Successors:
    """Look up the valid next tokens and their log-probabilities.

    A node's children are contiguous, so two adjacent entries of one table identify them, whatever
    the size of the trie. The number of slots is the largest number of children at this depth, so
    shapes do not depend on the nodes.

    Args:
        prefixes: The prefixes that the model has read.
        trie: The valid paths.
        nodes: int64 ``(batch, beam)``, the nodes of ``prefixes``, at ``depth``; -1 has no
            successors.
        depth: Number of tokens of the prefixes.
        renormalize: See ``Renormalize``.

    Raises:
        ValueError: If the logits have the wrong shape.
    """
    first, last = trie.first_child[nodes.clamp_min(0)], trie.first_child[nodes.clamp_min(0) + 1]
    slot = torch.arange(trie.width_of_depth(depth), device=nodes.device)
    child = first.unsqueeze(-1) + slot
    valid = (child < last.unsqueeze(-1)) & (nodes >= 0).unsqueeze(-1)
    child = torch.where(valid, child, trie.level_start[depth + 1])
    if renormalize == "children":
        logits = _logits(prefixes, nodes, trie.tokens_of_depth(depth), trie.num_tokens)
        column = trie.column_of_node[child].long()
        chosen = logits.gather(-1, column).float().masked_fill(~valid, -torch.inf)
        norm = chosen.logsumexp(dim=-1, keepdim=True)
    else:
        logits = _logits(prefixes, nodes, None, trie.num_tokens)
        column = trie.token_of_node[child].long()
        chosen = logits.gather(-1, column).float().masked_fill(~valid, -torch.inf)
        norm = logits.float().logsumexp(dim=-1, keepdim=True)
    read = (nodes >= 0).unsqueeze(-1)  # ignore beams without a prefix
    broken = (read & (norm.isnan() | (norm == torch.inf))).any()
    norm = norm.masked_fill(norm == -torch.inf, 0.0)  # no child is allowed: log 0, not NaN
    return Successors(nodes=child.long(), valid=valid, log_probs=chosen - norm, broken=broken)


def is_decided(trie: CodeTrie, nodes: Tensor, renormalize: Renormalize) -> Tensor:
    """Whether a node's score is final: at a leaf, or above a single one.

    Args:
        trie: Paths that may be written.
        nodes: int64, any shape.
        renormalize: Only with ``"children"`` is an only child certain.

    Returns:
        bool in the shape of ``nodes``.
    """
    if renormalize == "children":
        return trie.has_one_leaf[nodes]
    return trie.num_children(nodes) == 0


def refuse_broken(broken: Tensor) -> None:
    """Raise if any logit or log-probability of a guide was NaN or +inf.

    Raises:
        ValueError: If ``broken`` is true.
    """
    if broken:
        raise ValueError(
            "logits and log-probabilities of a guide must not be NaN or +inf. "
            "Has the model diverged?"
        )


def check_renormalize(renormalize: str) -> None:
    """Refuse a name that is not a ``Renormalize``."""
    if renormalize not in ("children", "none"):
        raise ValueError(f"renormalize must be 'children' or 'none', got {renormalize!r}")


def _logits(prefixes: Prefixes, nodes: Tensor, tokens: Tensor | None, num_tokens: int) -> Tensor:
    logits = prefixes.logits(tokens)
    expected = (*nodes.shape, num_tokens if tokens is None else len(tokens))
    if tuple(logits.shape) != expected:
        raise ValueError(
            f"prefixes must return logits (batch, beam, token) = {expected}, got "
            f"{tuple(logits.shape)}. Is the trie made with the model's own vocabulary?"
        )
    return logits
