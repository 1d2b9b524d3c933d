"""Published sizes of public data sets, to compare a data set with."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """Sizes that a paper or a publisher states.

    Attributes:
        name: The data set, with its version.
        source: Who states them.
        words: What the names of folders with this data set contain, in small letters and digits.
        users: Number of users.
        items: Number of items with interactions.
        interactions: Number of interactions.
    """

    name: str
    source: str
    words: str
    users: int
    items: int
    interactions: int

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Users, items and interactions."""
        return self.users, self.items, self.interactions


def _of(source: str, *sets: tuple[str, str, tuple[int, int, int]]) -> tuple[Published, ...]:
    return tuple(
        Published(
            name=name, source=source, words=words, users=users, items=items, interactions=events
        )
        for name, words, (users, items, events) in sets
    )


PUBLISHED = (
    *_of(
        "S3-Rec, arXiv:2008.07873",
        ("Amazon 2014 Beauty, 5-core", "beauty", (22363, 12101, 198502)),
        ("Amazon 2014 Sports and Outdoors, 5-core", "sports", (35598, 18357, 296337)),
        ("Amazon 2014 Toys and Games, 5-core", "toys", (19412, 11924, 167597)),
        ("Yelp 2019, 5-core", "yelp", (30431, 20033, 316354)),
        ("LastFM, 5-core", "lastfm", (1090, 3646, 52551)),
    ),
    *_of(
        "release of LETTER, arXiv:2405.07314",
        ("Amazon 2018 Musical Instruments, 5-core", "instruments", (24772, 9922, 206153)),
    ),
    *_of(
        "GroupLens",
        ("MovieLens 100K", "movielens100k", (943, 1682, 100_000)),
        ("MovieLens 1M", "movielens1m", (6040, 3706, 1_000_209)),
        ("MovieLens 20M", "movielens20m", (138493, 26744, 20_000_263)),
        ("MovieLens 32M", "movielens32m", (200948, 84432, 32_000_204)),
    ),
)


def published_like(name: str, sizes: tuple[int, int, int]) -> list[Published]:
    """The data sets whose name is in this one's, or that share two of its sizes.

    Args:
        name: Name of a data set.
        sizes: Its users, items with interactions, and interactions.
    """
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    return [
        known
        for known in PUBLISHED
        if known.words in letters
        or sum(own == other for own, other in zip(known.sizes, sizes, strict=True)) >= 2
    ]
