"""BIGRec: generate a title freely, then ground it to the items with the nearest titles."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from baselines.backbones.language import LanguageBackbone
from baselines.contracts.backbone import BuildContext
from baselines.data.batches import Histories
from baselines.lm.config import LanguageModelConfig
from baselines.lm.fluency import write_titles
from baselines.lm.prompts import positions
from baselines.recommenders.config import BigrecConfig

_AT_ONCE = 256  # titles read together


class BigrecBackbone(LanguageBackbone):
    """BIGRec (arXiv:2308.08434): unconstrained generation, then grounding to items.

    Tuned by next-token prediction, including the prompt's tokens as in the released code, the model
    generates one unconstrained title after the prompt. The base without adapters then embeds that
    title and every title of the catalogue, and items are ranked by the L2 distance between the
    states of the last tokens. Items with equal titles tie. The paper's re-weighting by popularity
    or a collaborative model is not implemented.

    An ``ItemScorer``: the score of an item is its negative distance.

    Args:
        config: Base model, prompt, and what is trained.
        context: Catalogue and seed; the semantic IDs are ignored.
        extra: Settings specific to BIGRec.

    Raises:
        ValueError: As ``LanguageBackbone``, or with codes, or if the base itself is trained.
    """

    extra_config_class: ClassVar[type[Any] | None] = BigrecConfig
    shares_weights_with: ClassVar[str | None] = "lm"
    label: ClassVar[str] = "BIGRec"
    prompt_loss: ClassVar[bool] = True

    title_of_item: Tensor

    def __init__(
        self, config: LanguageModelConfig, context: BuildContext, extra: BigrecConfig
    ) -> None:
        self.require_settings(config, len(context.codes))
        super().__init__(config, context)
        self.extra = extra
        assert context.catalog is not None  # titles require it
        titles = context.catalog.texts(config.title)
        place = {title: number for number, title in enumerate(dict.fromkeys(titles))}
        self._titles = list(place)
        number = torch.tensor([place[title] for title in titles])
        self.register_buffer("title_of_item", number, persistent=False)

    @classmethod
    def require_settings(cls, config: LanguageModelConfig, num_items: int) -> None:
        """Raise for codes, and for a base that is itself trained."""
        if config.items != "titles":
            raise ValueError(
                f"{cls.label} compares generated titles, got items {config.items}. "
                "Use --backbones.lm.items titles."
            )
        if config.lora.r == 0:
            raise ValueError(
                f"{cls.label} embeds titles with the base as it was before training, which r 0 "
                "changes. Set --backbones.lm.lora.r."
            )

    @torch.no_grad()
    def score(self, histories: Histories) -> Tensor:
        """Negative distance of each item's title to the generated one.

        Args:
            histories: On any device.

        Returns:
            float32 ``(batch, item)``.
        """
        written = self.read_alone(self.write(histories))
        exactly = (
            "donot_use_mm_for_euclid_dist"  # the faster mode loses small distances to rounding
        )
        return -torch.cdist(written, self._of_titles, compute_mode=exactly)[:, self.title_of_item]

    def write(self, histories: Histories) -> list[str]:
        """Generate a title for each history, at most as long as the catalogue's longest.

        Args:
            histories: On any device.
        """
        tokens, mask = self.prompts(histories.to(self.paths.device))
        return write_titles(
            self.base,
            self.tokenizer,
            [row[real].tolist() for row, real in zip(tokens, mask, strict=True)],
            num_beams=self.extra.beams,
            max_new_tokens=self.trie.depth,
        )

    @torch.no_grad()
    def read_alone(self, texts: Sequence[str]) -> Tensor:
        """Last-token states of texts, each read on its own by the base without adapters.

        A text is tokenised without special tokens and preceded by ``bos`` (``eos`` if the tokenizer
        has no ``bos``); an empty text is that token alone.

        Args:
            texts: At least one.

        Returns:
            float32 ``(text, dim)``.
        """
        begin = self.tokenizer.bos_token_id
        begin = self.tokenizer.eos_token_id if begin is None else begin
        tokens = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        rows = [torch.tensor([begin, *row]) for row in tokens]
        length = torch.tensor([len(row) for row in rows])
        found = torch.empty(len(rows), self.base.config.hidden_size, device=self.paths.device)
        with self.lm.disable_adapter():
            for chosen in torch.split(length.argsort(stable=True), _AT_ONCE):
                batch = pad_sequence([rows[row] for row in chosen], batch_first=True)
                real = torch.arange(batch.shape[1]) < length[chosen].unsqueeze(1)
                batch, real = batch.to(found.device), real.to(found.device)
                states = self.read(batch, real, positions(real))
                last = length[chosen].to(found.device) - 1
                found[chosen] = states[torch.arange(len(chosen)), last].float()
        return found

    @cached_property
    def _of_titles(self) -> Tensor:
        """States of the catalogue's titles; independent of what is trained."""
        return self.read_alone(self._titles)
