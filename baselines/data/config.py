"""Names of the protocols and policies that settings choose among, and kinds of data sources."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from semid.registry import is_import_path

SYNTHETIC = re.compile(r"synthetic(:\d+x\d+)?")
"""What is no folder: the synthetic world, with a number of users and items."""

Split = Literal["auto", "leave_one_out", "global_time", "windows"]
Ties = Literal["file", "item", "shuffle"]
Repeats = Literal["keep", "exact"]


def source_kind(source: str | os.PathLike[str]) -> Literal["synthetic", "folder", "reader"]:
    """What a source of data is; nothing in it is read, and no module imported.

    A folder wins over a reader, which is a function ``package.module:function``.

    Raises:
        FileNotFoundError: If it has the form of none.
    """
    if SYNTHETIC.fullmatch(str(source)):
        return "synthetic"
    if Path(source).is_dir():
        return "folder"
    if is_import_path(str(source)):
        return "reader"
    raise FileNotFoundError(
        f"no folder {source}; give a folder in the plain layout or 'synthetic', or a reader "
        "package.module:function"
    )


def require_source(source: str | os.PathLike[str]) -> None:
    """Refuse what is no source of data, as ``source_kind`` does."""
    source_kind(source)
