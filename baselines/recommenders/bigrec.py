"""BIGRec: write a title freely, then look for the items whose titles are nearest to it."""

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
    """BIGRec (arXiv:2308.08434): generation in the space of language, then grounded to items.

    Tuned by next-token prediction, of the prompt's tokens too as in the released code, the model
    writes one title after the prompt, held to nothing. What it wrote and every title of the
    catalogue are read alone by the base, without adapters, and items are ranked by the L2 distance
    between the states of the last tokens. Items of one title tie. The paper's re-weighting by
    popularity or a collaborative model is not done.

    An ``ItemScorer``: the score of an item is minus its distance.

    Args:
        config: Which model, what it is asked, what is trained.
        context: Catalogue and seed; the semantic IDs are ignored.
        extra: How it writes.

    Raises:
        ValueError: As ``LanguageBackbone``, or if codes are to be written, or there is no base
            without adapters.
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
        assert context.catalog is not None  # titles are written
        titles = context.catalog.texts(config.title)
        place = {title: number for number, title in enumerate(dict.fromkeys(titles))}
        self._titles = list(place)
        number = torch.tensor([place[title] for title in titles])
        self.register_buffer("title_of_item", number, persistent=False)

    @classmethod
    def require_settings(cls, config: LanguageModelConfig, num_items: int) -> None:
        """Refuse codes, and a base that is trained itself."""
        if config.items != "titles":
            raise ValueError(
                f"{cls.label} compares written titles, got items {config.items}. "
                "Take --backbones.lm.items titles."
            )
        if config.lora.r == 0:
            raise ValueError(
                f"{cls.label} reads titles by the base as it was before training, which lora.r 0 "
                "changes. Give --backbones.lm.lora.r."
            )

    @torch.no_grad()
    def score(self, histories: Histories) -> Tensor:
        """Minus the distance of each item's title to the one that is written.

        Args:
            histories: On any device.

        Returns:
            float32 ``(batch, item)``.
        """
        written = self.read_alone(self.write(histories))
        exactly = "donot_use_mm_for_euclid_dist"  # the other way small distances drown in rounding
        return -torch.cdist(written, self._of_titles, compute_mode=exactly)[:, self.title_of_item]

    def write(self, histories: Histories) -> list[str]:
        """The title that is written after each prompt, at most as long as the catalogue's longest.

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
        """States of the base without adapters at the last token of each text.

        A text is read after the token that begins one (``eos`` where a tokenizer has no ``bos``),
        tokenised without special tokens; an empty text is that token alone.

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
        """States of the catalogue's titles; what is trained has no part in them."""
        return self.read_alone(self._titles)
