"""Names of split protocols and policies, and kinds of data sources."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from semid.checks import did_you_mean
from semid.registry import is_import_path

SYNTHETIC = re.compile(r"synthetic(:\d+x\d+)?")
"""The synthetic world, optionally with a number of users and items."""

PUBLIC = re.compile(r"amazon-(2014|2018|2023)/[a-z-]+|movielens-(1m|20m|32m)|steam|yelp")
"""Names of public sets that are downloaded, see ``baselines.data.public_sets``."""

HUB = re.compile(r"hf:[\w.-]+/[\w.-]+(:[\w.-]+)?")
"""Names of data sets on the Hugging Face Hub, optionally with that of a configuration."""

INSTALLED = ("movielens-100k", "completejourney")
"""Data sets that are read from an installed package."""

Split = str
"""One of ``SPLITS``, or what a class of ``SETTINGS`` parses; see ``require_split``."""

SPLITS = ("auto", "leave_one_out", "global_time", "windows")

Ties = Literal["file", "item", "shuffle"]
Repeats = Literal["keep", "exact"]


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """The setting of a cold-start split, written ``cold:SHARE`` or ``cold:SHARE:DRAW``.

    Attributes:
        share: Share of the items that are taken out of training, in (0, 1).
        draw: Which items these are: the seed of their choice.

    Raises:
        ValueError: If one is out of range.
    """

    share: float
    draw: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"share must lie between 0 and 1, got {self.share}")
        if self.draw < 0:
            raise ValueError(f"draw must be at least 0, got {self.draw}")

    @classmethod
    def parse(cls, split: Split) -> ColdStart | None:
        """The setting in a split's name; None if it is no cold-start split.

        Raises:
            ValueError: If the share or the draw is no number or out of range.
        """
        kind, _, setting = split.partition(":")
        if kind != "cold":
            return None
        share, _, draw = setting.partition(":")
        try:
            return cls(share=float(share), draw=int(draw or 0))
        except ValueError:
            raise ValueError(
                "split must be cold:SHARE or cold:SHARE:DRAW, with a share between 0 and 1 and a "
                f"draw of 0 or above, such as cold:0.5 or cold:0.5:1, got {split!r}"
            ) from None

    def __str__(self) -> str:
        return f"cold:{self.share}:{self.draw}"


@dataclass(frozen=True, kw_only=True)
class TimeCuts:
    """Where a split by time ends training and validation: at shares of the events, or at dates.

    Written ``global_time`` (8:1:1), ``global_time:0.7,0.1,0.2``, or
    ``global_time:2017-06-01,2017-12-01``.

    Attributes:
        ratios: Shares of the events in training, validation and test; they sum to 1. Ignored if
            there are dates.
        dates: The times, with a time zone, at which validation and test begin; None to cut by
            shares.

    Raises:
        ValueError: If the ratios are not three positive shares that sum to 1, or the dates do not
            ascend.
    """

    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    dates: tuple[datetime, datetime] | None = None

    def __post_init__(self) -> None:
        _require_shares(self.ratios)
        if self.dates is not None and not self.dates[0] < self.dates[1]:
            raise ValueError(
                "test must begin after validation does, got "
                f"{self.dates[0].isoformat()} and {self.dates[1].isoformat()}"
            )

    @classmethod
    def parse(cls, split: Split) -> TimeCuts | None:
        """The cuts in a split's name; None if it is no split by time.

        A date without a time of day means its midnight, and one without a time zone is UTC.

        Raises:
            ValueError: If the settings are neither three shares nor two ascending ISO dates.
        """
        kind, colon, setting = split.partition(":")
        if kind != "global_time":
            return None
        if not colon:
            return cls()
        parts = setting.split(",")
        try:
            if len(parts) == 2:
                valid, test = map(utc_date, parts)
                return cls(dates=(valid, test))
            train_share, valid_share, test_share = map(float, parts)
            return cls(ratios=(train_share, valid_share, test_share))
        except ValueError as error:
            raise ValueError(
                "split must be global_time, global_time:TRAIN,VALID,TEST with shares that sum to "
                "1, such as global_time:0.8,0.1,0.1, or global_time:DATE,DATE with the dates at "
                "which validation and test begin, such as global_time:2017-06-01,2017-12-01, "
                f"got {split!r} ({error})"
            ) from None

    def __str__(self) -> str:
        if self.dates is None:
            return f"global_time {':'.join(f'{share:g}' for share in self.ratios)}"
        return f"global_time {', '.join(date.isoformat() for date in self.dates)}"


@dataclass(frozen=True, kw_only=True)
class UserShares:
    """The setting of a user-disjoint split, written ``users:TRAIN,VALID,TEST`` or ``...:DRAW``.

    Attributes:
        ratios: Shares of the users in training, validation and test; they sum to 1.
        draw: Which users these are: the seed of their choice.

    Raises:
        ValueError: If the ratios are not three positive shares that sum to 1, or the draw is
            negative.
    """

    ratios: tuple[float, float, float] = (0.8, 0.1, 0.1)
    draw: int = 0

    def __post_init__(self) -> None:
        _require_shares(self.ratios)
        if self.draw < 0:
            raise ValueError(f"draw must be at least 0, got {self.draw}")

    @classmethod
    def parse(cls, split: Split) -> UserShares | None:
        """The setting in a split's name; None if it is not user-disjoint.

        Raises:
            ValueError: If the shares or the draw are no numbers or out of range.
        """
        kind, _, setting = split.partition(":")
        if kind != "users":
            return None
        shares, _, draw = setting.partition(":")
        try:
            train_share, valid_share, test_share = map(float, shares.split(","))
            return cls(ratios=(train_share, valid_share, test_share), draw=int(draw or 0))
        except ValueError as error:
            raise ValueError(
                "split must be users:TRAIN,VALID,TEST with shares that sum to 1, or "
                "users:TRAIN,VALID,TEST:DRAW with a draw of 0 or above, such as users:0.8,0.1,0.1 "
                f"or users:0.8,0.1,0.1:1, got {split!r} ({error})"
            ) from None

    def __str__(self) -> str:
        return f"users:{','.join(f'{share:g}' for share in self.ratios)}:{self.draw}"


SETTINGS = (ColdStart, TimeCuts, UserShares)
"""Splits with settings in their name; each has ``parse``."""


def _require_shares(ratios: tuple[float, ...]) -> None:
    whole = math.isclose(sum(ratios), 1, abs_tol=1e-6)
    if len(ratios) != 3 or min(ratios) <= 0 or not whole:
        raise ValueError(f"ratios must be three positive shares that sum to 1, got {ratios}")


def utc_date(date: str) -> datetime:
    """An ISO date with its time zone, UTC if it names none; ``ValueError`` if it is none."""
    time = datetime.fromisoformat(date.strip())
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def require_split(split: Split) -> None:
    """Raise ``ValueError`` unless this is the name of a split."""
    if split not in SPLITS and all(kind.parse(split) is None for kind in SETTINGS):
        raise ValueError(
            f"split must be one of {', '.join(SPLITS)}, global_time:CUTS, users:SHARES or "
            f"cold:SHARE, got {split!r}.{did_you_mean(split, SPLITS)}"
        )


def source_kind(
    source: str | os.PathLike[str],
) -> Literal["synthetic", "folder", "file", "installed", "public", "hub", "reader"]:
    """The kind of a data source, without reading it or importing a module.

    A reader is a function ``package.module:function``; a folder or file of that name comes first.

    Raises:
        FileNotFoundError: If it is none of these.
    """
    if SYNTHETIC.fullmatch(str(source)):
        return "synthetic"
    if Path(source).is_dir():
        return "folder"
    if Path(source).is_file():
        return "file"
    if str(source) in INSTALLED:
        return "installed"
    if PUBLIC.fullmatch(str(source)):
        return "public"
    if HUB.fullmatch(str(source)):
        return "hub"
    if is_import_path(str(source)):
        return "reader"
    raise FileNotFoundError(
        f"no folder {source}; give a folder, a file of events, one of synthetic, "
        f"{', '.join(INSTALLED)}, a public set such as movielens-1m or amazon-2014/beauty, "
        "hf:OWNER/NAME, or a reader package.module:function"
    )


def require_source(source: str | os.PathLike[str]) -> None:
    """Raise, as ``source_kind`` does, unless this is a data source."""
    source_kind(source)
