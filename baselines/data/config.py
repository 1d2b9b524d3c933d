"""Names of the protocols and policies that settings choose among, and of sources of data."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

SYNTHETIC = re.compile(r"synthetic(:\d+x\d+)?")
"""What is no folder: the synthetic world, with a number of users and items."""

Split = Literal["auto", "leave_one_out", "global_time", "windows"]
Ties = Literal["file", "item", "shuffle"]
Repeats = Literal["keep", "exact"]


def require_source(source: str | os.PathLike[str]) -> None:
    """Refuse what is neither a folder nor the synthetic world; nothing in it is read.

    Raises:
        FileNotFoundError: If it is neither.
    """
    if not SYNTHETIC.fullmatch(str(source)) and not Path(source).is_dir():
        raise FileNotFoundError(
            f"no folder {source}; give a folder in the plain layout, or 'synthetic'"
        )
