"""Names of split protocols and policies, and kinds of data sources."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from semid.registry import is_import_path

SYNTHETIC = re.compile(r"synthetic(:\d+x\d+)?")
"""The synthetic world, optionally with a number of users and items."""

Split = Literal["auto", "leave_one_out", "global_time", "windows"]
Ties = Literal["file", "item", "shuffle"]
Repeats = Literal["keep", "exact"]


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
