"""TALLRec's own form: will the user like this item, yes or no?"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import WHOLE, BuildContext, Stage
from baselines.contracts.scorer import ItemScorer, checked_scores
from baselines.data.batches import Histories, TrainBatch, Windows, histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.evaluation.metrics import auc, user_auc
from baselines.evaluation.ranking import stable_topk
from baselines.lm.config import LanguageModelConfig
from baselines.lm.loading import project
from baselines.lm.prompts import Prompts, words_around
from baselines.recommenders.config import YesNoConfig
from baselines.teachers.losses import draw_outside, require_outside
from semid.prefixes import Prefixes
from semid.provenance import hash_arrays, hash_json
from semid.titles import title_paths
from semid.trie import CodeTrie
from tca.candidates import Positions
from tca.collaborative import CollaborativeTokenizer

if TYPE_CHECKING:
    from baselines.lm.prefixes import LanguagePrefixes


YES, NO = 0, 1  # rows of the answers' paths
_AT_ONCE = 16  # candidates of a history processed at a time


@dataclass(frozen=True, kw_only=True)
class Questions(TrainBatch):
    """Questions about the last item of each window, one question per window.

    Attributes:
        answer: int64 ``(target,)``, ``YES`` or ``NO``: a row of the answers' paths.
        other: int64 ``(target,)``, the item that the candidate is paired with.
    """

    answer: Tensor
    other: Tensor

    @property
    def target_items(self) -> Tensor:
        """The answers, which the model generates."""
        return self.answer

    @property
    def candidate(self) -> Tensor:
        """int64 ``(target,)``, the items in question."""
        return self.windows.items[:, -1]


class YesNoBackbone(LanguageBackbone):
    """TALLRec (arXiv:2305.00447): asked about an item, the model answers yes or no.

    Training asks two questions per target: one about the target itself (yes), one about an item
    drawn uniformly from outside its window (no). The paper asks about liked and disliked items;
    implicit data have no disliked ones. The paths are the two answers, so every objective works.
    The teacher's distribution over the answers is our addition: the softmax over its scores of the
    candidate and of the paired item, i.e. the Collaborative Tokenizer on a catalogue of these two.

    An ``ItemScorer``: the odds of yes against no re-rank the teacher's best items; all others
    follow in the teacher's order.

    Args:
        config: Base model, spelling of items, and what is trained.
        context: Catalogue, semantic IDs, seed, and the teacher whose best items are re-ranked.
        extra: Settings of the questions.

    Raises:
        ValueError: As ``LanguageBackbone``, or if a window could hold the whole catalogue.
    """

    extra_config_class: ClassVar[type[Any] | None] = YesNoConfig
    needs_teacher: ClassVar[bool] = True
    label: ClassVar[str] = "TALLRec yes/no"

    tails: Tensor
    tail_mask: Tensor
    title_of_item: Tensor

    def __init__(
        self, config: LanguageModelConfig, context: BuildContext, extra: YesNoConfig
    ) -> None:
        self.require_settings(config, len(context.codes))
        config = dataclasses.replace(config, template=extra.template)
        super().__init__(config, context)
        self.extra = extra
        self.num_items = len(self.paths)
        assert context.teacher is not None
        self._teacher = (context.teacher,)  # in a tuple so that nn.Module does not register it
        self._ask(self.spelled_items())
        self.end_token = True  # answers end with one

    @classmethod
    def require_settings(cls, config: LanguageModelConfig, num_items: int) -> None:
        """Raise if a window could contain the whole catalogue."""
        require_outside(num_items, config.max_history + 1)

    def _ask(self, written: list[list[int]]) -> None:
        """Replace prompts by questions, and titles by the two answers."""
        config = self.config

        def tokens(text: str) -> list[int]:
            found: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return found

        before, after = words_around(self.tokenizer, config)
        middle, closing = after.split("{candidate}")
        left, right = map(tokens, config.item.split("{item}"))
        end = [*right, *tokens(closing)]
        tails = [torch.tensor([*left, *item, *end]).flip(0) for item in written]
        length = torch.tensor([len(tail) for tail in tails]).unsqueeze(1)
        table = pad_sequence(tails, batch_first=True).flip(1)
        mask = torch.arange(table.shape[1]) >= table.shape[1] - length
        answers = title_paths([self.extra.yes, self.extra.no], self.tokenizer).paths
        self.prompts = Prompts(
            self.tokenizer,
            config,
            written,
            answer=table.shape[1] + answers.shape[1],
            context=self.context,
            around=(before, middle),
        )
        self._input_hashes |= {
            "prompts": hash_json(
                [self.prompts.content_hash(), hash_arrays(table.numpy(), mask.numpy())]
            ),
            "answers": hash_arrays(answers.numpy()),
        }
        num_tokens = self.trie.num_tokens
        self.register_buffer("tails", table, persistent=False)
        self.register_buffer("tail_mask", mask, persistent=False)
        alike = torch.unique(table.masked_fill(~mask, -1), dim=0, return_inverse=True)[1]
        self.register_buffer("title_of_item", alike, persistent=False)
        self.register_buffer("paths", answers, persistent=False)
        self.trie = CodeTrie.from_paths(answers, num_tokens)

    @property
    def max_history(self) -> int:
        """Maximum number of history items read by the model or by the teacher."""
        return max(self.config.max_history, self._teacher[0].max_history)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """A single stage; its epoch is chosen by the ranking of all items."""
        return (dataclasses.replace(WHOLE, scorer=self),)

    def prepare_batch(self, batch: TrainBatch) -> Questions:
        """Ask about each target, and about an item drawn from outside its window.

        Draws from PyTorch's default generator.

        Args:
            batch: One target per window, its last item.

        Returns:
            Twice as many questions: first about the targets, then about the negatives, in the same
            order.
        """
        windows, target = batch.windows, batch.target_items
        seen = windows.items.masked_fill(~windows.mask, -1)
        drawn = draw_outside(seen, self.num_items, 1)
        twice = Histories(
            items=torch.cat([windows.items, torch.cat([windows.items[:, :-1], drawn], dim=1)]),
            mask=windows.mask.repeat(2, 1),
            users=windows.users.repeat(2),
        )
        answer = torch.full_like(target, YES)
        return Questions(
            windows=twice,
            target_row=torch.arange(len(twice.items), device=target.device),
            target_pos=batch.target_pos.repeat(2),
            target_id=batch.target_id.repeat(2),
            progress=batch.progress,
            answer=torch.cat([answer, torch.full_like(target, NO)]),
            other=torch.cat([drawn.squeeze(1), target]),
        )

    def target_prompts(self, batch: TrainBatch) -> tuple[Tensor, Tensor]:
        """The questions about the last item of each window."""
        return self._questions(batch.windows)

    def start(self, histories: Histories) -> Prefixes:
        """Encode the question about the last item of each history, given the items before it."""
        tokens, mask = self._questions(histories)
        return self.read_prompts(tokens, mask, histories.without_last())

    def _questions(self, windows: Histories) -> tuple[Tensor, Tensor]:
        prompt, mask = self.prompts(windows.without_last())
        candidate = windows.items[:, -1]
        tokens = torch.cat([prompt, self.tails[candidate]], dim=1)
        return tokens, torch.cat([mask, self.tail_mask[candidate]], dim=1)

    @torch.no_grad()
    def log_odds(self, histories: Histories, candidates: Tensor) -> Tensor:
        """``log P(yes) - log P(no)`` for several items per history; each history is encoded once.

        Only the first token at which the two answers differ is compared. Items that are spelled
        alike have exactly equal odds.

        Args:
            histories: On the device of this module.
            candidates: int64 ``(batch, candidate)``, catalogue rows.

        Returns:
            float32 ``(batch, candidate)``.
        """
        at = int((self.paths[YES] != self.paths[NO]).nonzero()[0])
        common, rivals = self.paths[YES, :at], self.paths[:, at]
        tokens, mask = self.prompts(histories)
        after = self.read_prompts(tokens, mask, histories)
        parts = torch.split(candidates, _AT_ONCE, dim=1)
        odds = torch.cat([self._log_odds(after, part, common, rivals) for part in parts], dim=1)
        title = self.title_of_item[candidates]
        of_title = odds.new_empty(len(odds), self.num_items).scatter_(1, title, odds)
        return of_title.gather(1, title)  # rounding differs between batch positions

    def _log_odds(
        self, after: LanguagePrefixes, candidates: Tensor, common: Tensor, rivals: Tensor
    ) -> Tensor:
        shape = *candidates.shape, len(common)
        tokens = torch.cat([self.tails[candidates], common.expand(shape)], dim=2)
        real = torch.cat([self.tail_mask[candidates], tokens.new_ones(shape).bool()], dim=2)
        states = after.read_after(tokens, real)[:, :, -1]
        head = self.base.get_output_embeddings()
        bias = None if getattr(head, "bias", None) is None else head.bias[rivals].float()
        logits = project(self.base, states, head.weight[rivals].float(), bias)  # bfloat16 would tie
        return logits[..., YES] - logits[..., NO]

    @torch.no_grad()
    def score(self, histories: Histories) -> Tensor:
        """The teacher's scores, with its best items re-ranked on top by their odds of yes.

        Args:
            histories: On any device.

        Returns:
            float32 ``(batch, item)``; for re-ranked items a rank position, not log-odds.
        """
        device = self.tails.device
        scores = checked_scores(self._teacher[0], histories).float().to(device)
        chosen = stable_topk(scores, self.extra.candidates)
        odds = self.log_odds(histories.to(device), chosen)
        others = scores.scatter(1, chosen, -torch.inf).amax(dim=1, keepdim=True)
        others = others.masked_fill(others == -torch.inf, 0.0)
        below = torch.searchsorted(odds.sort(dim=1).values, odds)  # integers keep ties exact
        place = others.floor() + 1 + below
        place = place.masked_fill(scores.gather(1, chosen) == -torch.inf, -torch.inf)
        return scores.scatter(1, chosen, place)

    def distributions(
        self, scorer: ItemScorer, train: SequenceSet, temperature: float
    ) -> PairDistributions:
        """A teacher's distributions over yes and no."""
        tokenizer = CollaborativeTokenizer(self.trie, temperature=temperature)
        return PairDistributions(scorer, tokenizer, train)

    def notes(self, data: SequenceSet) -> dict[str, Any]:
        """AUC and UAUC of the targets, each against one item that its user has not chosen.

        That item is drawn uniformly, with the same draw for all models. Users who have chosen every
        item are left out.

        Returns:
            ``questions``: ``AUC``, ``UAUC`` and the number of ``targets``.
        """
        target_items, users = data.items[data.targets()[1]], data.users[data.targets()[0]]
        generator = torch.Generator().manual_seed(0)
        scores, who = [], []
        for number, histories in histories_of_targets(data, int(data.lengths.max()), _AT_ONCE):
            target = torch.from_numpy(target_items[number])
            draw = torch.rand(len(number), self.num_items, generator=generator)
            draw.scatter_(1, target.unsqueeze(1), -1.0)
            row, pos = histories.mask.nonzero().unbind(1)
            draw[row, histories.items[row, pos]] = -1.0
            some = draw.amax(dim=1) >= 0
            pair = torch.stack([target, draw.argmax(dim=1)], dim=1).to(self.tails.device)
            odds = self.log_odds(histories.to(self.tails.device), pair).cpu()
            scores.append(odds[some].numpy())
            who.append(users[number][some.numpy()])
        found, owner = np.concatenate(scores), np.concatenate(who).repeat(2)
        is_positive = np.tile([True, False], len(found))
        return {
            "questions": {
                "AUC": auc(found.ravel(), is_positive),
                "UAUC": user_auc(found.ravel(), is_positive, owner),
                "targets": len(found),
            }
        }


class PairDistributions:
    """A teacher's distributions over yes and no: its softmax over the two items of a question.

    Args:
        scorer: The frozen teacher.
        tokenizer: Over the paths of the answers.
        train: The training sequences, from which its histories are taken.
    """

    def __init__(
        self, scorer: ItemScorer, tokenizer: CollaborativeTokenizer, train: SequenceSet
    ) -> None:
        self.scorer, self.tokenizer = scorer, tokenizer
        self._windows = Windows.per_target(train, scorer.max_history)

    @torch.no_grad()
    def __call__(self, batch: TrainBatch, at: Positions) -> Tensor:
        """Score the histories, and normalise over the two items of each question."""
        assert isinstance(batch, Questions)
        number, row = np.unique(batch.target_id.cpu().numpy(), return_inverse=True)
        past = self._windows.batch(number).windows.without_last()
        scores = checked_scores(self.scorer, past).to(at.pos.device)[torch.from_numpy(row)]
        pair = torch.stack(
            [batch.candidate, batch.other], dim=1
        )  # in the order of the answers: yes, no
        p = self.tokenizer(scores.gather(1, pair), batch.answer)
        return p[at.target, at.pos]
