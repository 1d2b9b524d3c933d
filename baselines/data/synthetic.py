"""A synthetic world with known structure, for demonstrations and tests without real data.

Its structure:

- **Items.** Categories hold four subcategories each and have six brands of their own; twelve
  styles are shared by all. The title is brand, style, two of the three words of the subcategory
  and a model name; ``brand`` and ``categories`` are columns. Text reveals the hierarchy; ids are
  unrelated to it.
- **Popularity.** An item's weight follows Zipf's law, ``1 / rank ** zipf`` with ranks drawn at
  random over the whole catalogue; a subcategory has the total weight of its items.
- **Users.** Each has a favourite style, a favourite brand in each category, and two tastes over
  categories, one for the beginning and one for the end of their lifetime, mixed in proportion:
  tastes drift. At each event the user is in one subcategory; with probability ``drift_rate`` they
  leave it, half of the time for one of the same category, else for one of a category drawn by
  taste, in both cases by weight.
- **Sequence.** With probability ``complement_share`` the next item is a complement of the last
  one: each item has three, with weights 0.5, 0.3, 0.2, drawn uniformly from other categories.
  **Only sequences reveal them**, not text. Else it is an item of the current subcategory, by
  popularity and favourites. A complement does not change the subcategory, so more than the last
  item matters. No user has an item twice.
- **Cold items.** A share ``cold_share`` of the items appears only in the last fifth of the time.
  They are drawn like others, but have few or no training interactions.
- **Time.** In days; about a third of the steps stay within the day, so ties occur. The file
  order within a day is the true one.

The world serves to check that all parts work. Its shares were set so that popularity, text and
sequence each carry signal. They were not tuned for the result of any method: neither TCA nor
semantic IDs need come out ahead on it. It says nothing about real users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from baselines.data.config import Split, Ties
from baselines.data.dataset import Dataset, split_interactions
from baselines.data.interactions import Interactions
from semid.arrays import FloatArray, IntArray
from semid.catalog import Catalog
from semid.checks import require_real

SUBCATEGORIES, BRANDS, STYLES = 4, 6, 12  # of each category, of each category, of the world
SUCCESSORS = (0.5, 0.3, 0.2)  # how often each complement of an item follows it
BRAND_PULL, STYLE_PULL = 1.5, 1.0  # log-odds of a user's favourites
CANDIDATES = 8  # items of the current subcategory among which a user chooses
MIN_LENGTH, MAX_LENGTH = 4, 50
FIRST_DAY, NUM_DAYS, DAY = 16_071, 1_000, 86_400  # 2014-01-01, days after it, seconds


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Strength of the signals in the world.

    Attributes:
        complement_share: Share of steps to a complement of the last item; in ``[0, 1]``.
        drift_rate: Share of steps at which a user leaves the subcategory; in ``[0, 1]``.
        zipf: Exponent of popularity, at least 0; 0 makes all items equally popular.
        cold_share: Share of items that appear late; in ``[0, 1)``.

    Raises:
        ValueError: If a value is out of its range.
    """

    complement_share: float = 0.3
    drift_rate: float = 0.2
    zipf: float = 1.0
    cold_share: float = 0.1

    def __post_init__(self) -> None:
        require_real("complement_share", self.complement_share, low=0, high=1)
        require_real("drift_rate", self.drift_rate, low=0, high=1)
        require_real("zipf", self.zipf, low=0)
        require_real("cold_share", self.cold_share, low=0, below=1)


_PLANTED = Planted()


def synthetic_dataset(
    *,
    num_users: int = 2000,
    num_items: int = 500,
    num_categories: int = 8,
    mean_length: float = 9.0,
    planted: Planted = _PLANTED,
    split: Split = "auto",
    ties: Ties = "file",
    seed: int = 0,
) -> Dataset:
    """Generate a world of items with text and of users with sequences of them.

    Args:
        num_users: At least 1; too few for three targets is an error of the split.
        num_items: At least four for each category.
        num_categories: At least 2.
        mean_length: Approximate mean number of events per user; at least 4, the minimum.
        planted: Strength of each signal.
        split: See ``load_dataset``; ``windows`` is not available.
        ties: See ``Interactions.from_table``.
        seed: The world is a deterministic function of these arguments.

    Raises:
        ValueError: If an argument is out of its range.
    """
    least = {"num_users": 1, "num_categories": 2, "mean_length": MIN_LENGTH}
    given = (num_users, num_categories, mean_length)
    for (name, low), value in zip(least.items(), given, strict=True):
        if value < low:
            raise ValueError(f"{name} must be at least {low}, got {value}")
    if num_items < num_categories * SUBCATEGORIES:
        raise ValueError(
            f"num_items must be at least {SUBCATEGORIES} for each of {num_categories} categories, "
            f"got {num_items}"
        )
    rng = np.random.default_rng(seed)
    items = _draw_items(rng, num_items, num_categories, planted.zipf, planted.cold_share)
    users = _draw_users(rng, num_users, num_categories, mean_length)
    events = _walk(rng, items, users, planted.complement_share, planted.drift_rate)

    catalog = _catalog(rng, items)
    interactions = Interactions.from_table(
        pl.DataFrame(
            {
                "user_id": events[0] + 1,
                "item_id": items.public_row[events[1]] + 1,
                "timestamp": (FIRST_DAY + events[2]) * DAY,
            }
        ),
        catalog,
        ties=ties,
        seed=seed,
    )
    return Dataset(
        name="synthetic",
        catalog=catalog,
        splits=split_interactions(interactions, split),
        interactions=interactions,
    )


@dataclass(frozen=True, kw_only=True)
class _Items:
    """All arrays are ``(item,)`` unless noted; items are numbered subcategory by subcategory."""

    subcategory: IntArray
    first_of_subcategory: IntArray  # (subcategory + 1,)
    brand: IntArray
    style: IntArray
    mass: FloatArray  # (item + 1,), cumulative popularity
    complements: IntArray  # (item, 3)
    first_day: IntArray
    public_row: IntArray  # the row in the catalogue

    @property
    def category(self) -> IntArray:
        return self.subcategory // SUBCATEGORIES


@dataclass(frozen=True, kw_only=True)
class _Users:
    favourite_brand: IntArray  # (user, category)
    favourite_style: IntArray  # (user,)
    tastes: FloatArray  # (user, begin or end, category), cumulative
    lengths: IntArray  # (user,)
    days: IntArray  # (user, pos)


def _draw_items(
    rng: np.random.Generator, num_items: int, num_categories: int, zipf: float, cold_share: float
) -> _Items:
    num_subcategories = num_categories * SUBCATEGORIES
    every_one = np.arange(num_subcategories)
    others = rng.integers(num_subcategories, size=num_items - num_subcategories)
    subcategory = np.sort(np.concatenate([every_one, others]))
    category = subcategory // SUBCATEGORIES
    by_category = [np.flatnonzero(category != c) for c in range(num_categories)]
    complements = np.stack(
        [rng.choice(by_category[c], size=len(SUCCESSORS), replace=False) for c in category]
    )
    cold = rng.permutation(num_items) < round(cold_share * num_items)
    late = NUM_DAYS - rng.integers(1, NUM_DAYS // 5, size=num_items)
    return _Items(
        subcategory=subcategory,
        first_of_subcategory=np.searchsorted(subcategory, np.arange(num_subcategories + 1)),
        brand=rng.integers(BRANDS, size=num_items) + BRANDS * category,
        style=rng.integers(STYLES, size=num_items),
        mass=np.concatenate([[0.0], np.cumsum((1.0 + rng.permutation(num_items)) ** -zipf)]),
        complements=complements,
        first_day=np.where(cold, late, 0),
        public_row=rng.permutation(num_items),
    )


def _draw_users(
    rng: np.random.Generator, num_users: int, num_categories: int, mean_length: float
) -> _Users:
    more = rng.geometric(1 / (mean_length - MIN_LENGTH + 1), size=num_users) - 1
    lengths = np.minimum(MIN_LENGTH + more, MAX_LENGTH)
    gaps = rng.geometric(0.05, size=(num_users, lengths.max()))
    gaps[rng.random(gaps.shape) < 1 / 3] = 0
    age = np.cumsum(gaps, axis=1)
    age -= age[:, :1]
    life = np.take_along_axis(age, lengths[:, None] - 1, axis=1)
    birth = rng.random((num_users, 1)) * np.maximum(NUM_DAYS - life, 1)
    return _Users(
        favourite_brand=rng.integers(BRANDS, size=(num_users, num_categories))
        + BRANDS * np.arange(num_categories),
        favourite_style=rng.integers(STYLES, size=num_users),
        tastes=np.cumsum(rng.dirichlet(np.full(num_categories, 0.3), size=(num_users, 2)), axis=2),
        lengths=lengths,
        days=np.minimum(birth.astype(np.int64) + age, NUM_DAYS - 1),
    )


def _walk(
    rng: np.random.Generator,
    items: _Items,
    users: _Users,
    complement_share: float,
    drift_rate: float,
) -> tuple[IntArray, IntArray, IntArray]:
    """Users, items and days of all events, each user's in order; loops over positions only."""
    num_users, longest = users.days.shape
    past = np.full((num_users, longest), -1)
    subcategory = np.zeros(num_users, dtype=np.int64)
    for pos in range(longest):
        who = np.flatnonzero(users.lengths > pos)
        leaves = rng.random(len(who)) < (drift_rate if pos else 1.0)
        stays_near = (rng.random(len(who)) < 0.5) & (pos > 0)
        at_end = (rng.random(len(who)) * users.lengths[who] < pos).astype(np.int64)
        taste = users.tastes[who, at_end]
        liked = (rng.random((len(who), 1)) * taste[:, -1:] >= taste[:, :-1]).sum(axis=1)
        category = np.where(stays_near, subcategory[who] // SUBCATEGORIES, liked)
        first = items.first_of_subcategory[category * SUBCATEGORIES]
        last = items.first_of_subcategory[(category + 1) * SUBCATEGORIES]
        entered = items.subcategory[_by_popularity(rng, items, first, last, 1)[:, 0]]
        subcategory[who] = np.where(leaves, entered, subcategory[who])

        choices = _choices(rng, items, users, who, subcategory[who])
        follows = np.searchsorted(np.cumsum(SUCCESSORS)[:-1], rng.random(len(who)))
        complement = items.complements[past[who, pos - 1], follows]
        wants = (rng.random(len(who)) < complement_share) & (past[who, pos - 1] >= 0)
        choices = np.column_stack([np.where(wants, complement, choices[:, 0]), choices])

        possible = items.first_day[choices] <= users.days[who, pos, None]
        possible &= (choices[:, :, None] != past[who, None, :pos]).all(axis=2)
        chosen = choices[np.arange(len(who)), possible.argmax(axis=1)]
        past[who, pos] = np.where(possible.any(axis=1), chosen, -1)
    user, event = np.nonzero(past >= 0)
    return user, past[user, event], users.days[user, event]


def _by_popularity(
    rng: np.random.Generator, items: _Items, first: IntArray, last: IntArray, count: int
) -> IntArray:
    """``(user, count)`` draws with replacement from the items ``first:last`` of each user."""
    low, high = items.mass[first, None], items.mass[last, None]
    draw = low + (high - low) * rng.random((len(first), count))
    drawn = np.searchsorted(items.mass, draw, side="right") - 1
    return np.clip(drawn, first[:, None], last[:, None] - 1)


def _choices(
    rng: np.random.Generator, items: _Items, users: _Users, who: IntArray, subcategory: IntArray
) -> IntArray:
    """Candidate items of each user, best first: ``(user, candidate)``.

    First come draws from the subcategory by popularity, ordered by favourites with Gumbel noise;
    then two draws from the whole catalogue, for users who already have all the others.
    """
    first = items.first_of_subcategory[subcategory]
    last = items.first_of_subcategory[subcategory + 1]
    near = _by_popularity(rng, items, first, last, CANDIDATES)
    favourite = users.favourite_brand[who, subcategory // SUBCATEGORIES]
    liking = rng.gumbel(size=near.shape)
    liking += BRAND_PULL * (items.brand[near] == favourite[:, None])
    liking += STYLE_PULL * (items.style[near] == users.favourite_style[who, None])
    near = np.take_along_axis(near, np.argsort(-liking, axis=1, kind="stable"), axis=1)
    nothing, everything = np.zeros_like(first), np.full_like(last, len(items.subcategory))
    far = _by_popularity(rng, items, nothing, everything, 2)
    return np.concatenate([near, far], axis=1)


def _catalog(rng: np.random.Generator, items: _Items) -> Catalog:
    num_items = len(items.subcategory)
    num_subcategories = len(items.first_of_subcategory) - 1
    num_categories = num_subcategories // SUBCATEGORIES
    counts = (num_categories, num_categories * BRANDS, STYLES, num_subcategories * 3, num_items)
    words = iter(_words(rng, sum(counts)))
    categories, brands, styles, nouns, models = ([next(words) for _ in range(n)] for n in counts)
    rows = []
    for item in np.argsort(items.public_row):
        subcategory = int(items.subcategory[item])
        name = [nouns[3 * subcategory + k] for k in sorted(rng.permutation(3)[:2])]
        brand = brands[items.brand[item]].capitalize()
        category = categories[items.category[item]].capitalize()
        rows.append(
            {
                "title": " ".join([brand, styles[items.style[item]], *name, models[item]]),
                "brand": brand,
                "categories": [category, f"{category} > {nouns[3 * subcategory]}"],
            }
        )
    return Catalog(item_ids=list(range(1, num_items + 1)), fields=pl.DataFrame(rows))


def _words(rng: np.random.Generator, count: int) -> list[str]:
    """Distinct words of two to four syllables."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words: dict[str, None] = {}
    while len(words) < count:
        parts = rng.integers(len(syllables), size=rng.integers(2, 5))
        words["".join(syllables[k] for k in parts)] = None
    return list(words)
