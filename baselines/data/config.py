"""Names of split protocols and policies, and kinds of data sources."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from semid.checks import did_you_mean
from semid.registry import is_import_path

SYNTHETIC = re.compile(r"synthetic(:\d+x\d+)?")
"""The synthetic world, optionally with a number of users and items."""

Split = str
"""One of ``SPLITS``, or what ``ColdStart.parse`` reads; see ``require_split``."""

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


def require_split(split: Split) -> None:
    """Raise ``ValueError`` unless this is the name of a split."""
    if split not in SPLITS and ColdStart.parse(split) is None:
        raise ValueError(
            f"split must be one of {', '.join(SPLITS)} or cold:SHARE, got {split!r}."
            f"{did_you_mean(split, SPLITS)}"
        )


def source_kind(source: str | os.PathLike[str]) -> Literal["synthetic", "folder", "reader"]:
    """The kind of a data source, without reading it or importing a module.

    A reader is a function ``package.module:function``; a folder of the same name takes precedence.

    Raises:
        FileNotFoundError: If it is none of these.
    """
    if SYNTHETIC.fullmatch(str(source)):
        return "synthetic"
    if Path(source).is_dir():
        return "folder"
    if is_import_path(str(source)):
        return "reader"
    raise FileNotFoundError(
        f"no folder {source}; give a folder in the plain layout, 'synthetic', or a reader "
        "package.module:function"
    )


def require_source(source: str | os.PathLike[str]) -> None:
    """Raise, as ``source_kind`` does, unless this is a data source."""
    source_kind(source)
