"""Training texts of a small language model: a catalogue's titles, and lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.data.dataset import Dataset
from baselines.pretraining.config import TextsConfig
from semid.provenance import hash_json

SEPARATOR = "\n"  # between the titles of a list
_STEP = 2.0**-32  # resolution of a title's place


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """Training texts and held-out titles.

    Attributes:
        titles: Each distinct title that is not held out, once.
        further: Each distinct further text of the items of these titles, once.
        lists: Lists of such titles, in the order of training sequences.
        held_out: Each distinct title that is held out, once.
        items_without_title: Items whose title is empty; they are left out of everything.
    """

    titles: list[str]
    further: list[str]
    lists: list[list[str]]
    held_out: list[str]
    items_without_title: int

    @property
    def content_hash(self) -> str:
        """Hash of all training texts and held-out titles."""
        return hash_json([self.titles, self.further, self.lists, self.held_out])


def make_texts(dataset: Dataset, config: TextsConfig, *, seed: int) -> Texts:
    """Take the texts of a catalogue, and lists of titles from its training sequences.

    Any title of the catalogue may be used, including those of validation and test targets, since a
    catalogue is known before any interaction. Which titles follow each other is taken from the
    training sequences alone. Whether a title is held out depends only on a hash of it, so items
    that share a title are held out together, and they stay held out as the catalogue grows. In a
    small catalogue, at least one title is held out.

    Args:
        dataset: Catalogue and split.
        config: Settings of the texts.
        seed: Seed of the choice of sequences.

    Raises:
        ValueError: If a template names an unknown column, or no title is left for training.
    """
    of_item = [text.strip() for text in dataset.catalog.texts(config.title)]
    place = {title: _place(title) for title in dict.fromkeys(of_item) if title}
    border = max(config.held_out, min(place.values(), default=0.0) + _STEP)
    held_out = [title for title, where in place.items() if where < border]
    titles = [title for title, where in place.items() if where >= border]
    kept = set(titles)
    learned = [title in kept for title in of_item]
    if not titles or not held_out:
        raise ValueError(
            f"expected titles to train on and titles to hold out, got {len(titles)} and "
            f"{len(held_out)} of {len(of_item)} items. Choose another held_out than "
            f"{config.held_out}, or add titles."
        )
    more = [dataset.catalog.texts(template) for template in config.further]
    further = [
        text.strip()
        for texts in more
        for text, take in zip(texts, learned, strict=True)
        if take and text.strip()
    ]
    further = list(dict.fromkeys(further))
    alone = len(titles) + len(further)
    return Texts(
        titles=titles,
        further=further,
        lists=_lists(dataset, of_item, learned, config, alone=alone, seed=seed),
        held_out=held_out,
        items_without_title=sum(not title for title in of_item),
    )


def _lists(
    dataset: Dataset,
    title_of_item: Sequence[str],
    learned: Sequence[bool],
    config: TextsConfig,
    *,
    alone: int,
    seed: int,
) -> list[list[str]]:
    wanted = round(alone * config.lists / (1 - config.lists))
    train = dataset.splits.train
    lists: list[list[str]] = []
    for sequence in np.random.default_rng(seed).permutation(len(train)):
        if len(lists) >= wanted:
            break
        items = train.items[train.offsets[sequence] : train.offsets[sequence + 1]]
        named = [title_of_item[item] for item in items if learned[item]]
        if len(named) >= 2:
            lists.append(named[-config.list_titles :])
    return lists


def _place(title: str) -> float:
    """A number in ``[0, 1)`` derived from the title by hashing."""
    return int(hash_json(title)[:8], 16) * _STEP
