"""Beam search over the trie with vLLM: every result is an item.

vLLM's own constrained beam search drops a list of allowed tokens with more than 1,024 entries, and
takes log-probabilities before its mask. Here no mask is given: each step asks for the
log-probabilities of exactly the tokens that may follow, and compares them itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .catalogue import Catalogue, ItemId

_AT_ONCE = 128  # tokens whose log-probabilities vLLM returns for one request


class Beam(NamedTuple):
    """A prefix: its node, its log-probability and its tokens."""

    node: int
    score: float
    tokens: tuple[int, ...]


class TrieBeamSearch:
    """Beam search with the scores of the model that was exported.

    Args:
        llm: A ``vllm.LLM`` of the export's folder, with ``max_logprobs`` of at least 128. Its
            prefix cache makes repeated prompts cheap.
        catalogue: The items.
        beam: Prefixes kept for each history.
    """

    def __init__(self, llm: Any, catalogue: Catalogue, beam: int = 50) -> None:
        self.llm = llm
        self.catalogue = catalogue
        self.beam = beam

    def recommend(
        self, histories: Sequence[Sequence[ItemId]], k: int = 10
    ) -> list[list[tuple[ItemId, float]]]:
        """The best ``k`` items of each history, with their log-probabilities.

        Args:
            histories: IDs of items, oldest first.
            k: Length of the lists.
        """
        prompts = [self.catalogue.prompt(history) for history in histories]
        beams = [[Beam(0, 0.0, ())] for _ in prompts]
        for _ in range(self.catalogue.depth):
            beams = self._step(prompts, beams)
        return [
            self.catalogue.items([b.node for b in kept], [b.score for b in kept], k)
            for kept in beams
        ]

    def _step(self, prompts: list[list[int]], beams: list[list[Beam]]) -> list[list[Beam]]:
        """Extend every unfinished prefix by one token, and keep the best of each history."""
        known = self.catalogue
        open_beams = [(row, b) for row, kept in enumerate(beams) for b in kept if self._is_open(b)]
        asked = [(row, b) for row, b in open_beams if not self._is_certain(b)]
        found = iter(self._log_probs([([*prompts[row], *b.tokens], b.node) for row, b in asked]))
        reached = [[b for b in kept if not self._is_open(b)] for kept in beams]
        for row, b in open_beams:
            children = known.children(b.node)
            log_probs = np.zeros(1) if self._is_certain(b) else next(found)
            for child, log_prob in zip(children.tolist(), log_probs.tolist(), strict=True):
                token = int(known.token_of_node[child])
                reached[row].append(Beam(child, b.score + log_prob, (*b.tokens, token)))
        return [self._best(kept) for kept in reached]

    def _best(self, beams: list[Beam]) -> list[Beam]:
        """The best prefixes, equal ones in the order of their paths."""
        possible = [b for b in beams if b.score > -math.inf]
        order = sorted(possible, key=lambda b: (-b.score, self.catalogue.first_item[b.node]))
        return order[: self.beam]

    def _is_open(self, beam: Beam) -> bool:
        return len(self.catalogue.children(beam.node)) > 0

    def _is_certain(self, beam: Beam) -> bool:
        """Whether the next token has probability one, so that the model need not be asked."""
        return self.catalogue.among_children and len(self.catalogue.children(beam.node)) == 1

    def _log_probs(self, prefixes: list[tuple[list[int], int]]) -> list[npt.NDArray[np.float64]]:
        """Log-probabilities of the children of each node after its tokens."""
        from vllm import SamplingParams  # type: ignore[import-not-found]

        prompts, params, owners = [], [], []
        for owner, (tokens, node) in enumerate(prefixes):
            children = self.catalogue.token_of_node[self.catalogue.children(node)].tolist()
            for start in range(0, len(children), _AT_ONCE):
                wanted = children[start : start + _AT_ONCE]
                prompts.append({"prompt_token_ids": tokens})
                params.append(
                    SamplingParams(
                        max_tokens=1, temperature=0.0, logprob_token_ids=wanted, detokenize=False
                    )
                )
                owners.append(owner)
        values: list[list[float]] = [[] for _ in prefixes]
        if prompts:
            answers = self.llm.generate(prompts, params, use_tqdm=False)
            for owner, asked, answer in zip(owners, params, answers, strict=True):
                of_token = answer.outputs[0].logprobs[0]
                values[owner] += [of_token[token].logprob for token in asked.logprob_token_ids]
        return [self._relative(np.array(each)) for each in values]

    def _relative(self, log_probs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Log-probabilities relative to the children, where the model's scores are."""
        if not self.catalogue.among_children or log_probs.max() == -math.inf:
            return log_probs
        best = log_probs.max()
        total: npt.NDArray[np.float64] = log_probs - best - np.log(np.exp(log_probs - best).sum())
        return total
