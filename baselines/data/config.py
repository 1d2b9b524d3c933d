"""Names of the protocols and policies that settings choose among."""

from __future__ import annotations

from typing import Literal

Split = Literal["auto", "leave_one_out", "global_time", "windows"]
Ties = Literal["file", "item", "shuffle"]
Repeats = Literal["keep", "exact"]
