"""Settings of ``semid report``."""

from __future__ import annotations

from dataclasses import dataclass

from semid.checks import require_text
from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of ``semid report``.

    Attributes:
        run: Folder of a finished comparison.
        wide: Also print all metrics, under both seen-item policies, and the strata.
        trec: Also write the lists as TREC run files with their qrels.
        backbone: Class paths of the run's backbones that are not built in.
    """

    run: str
    wide: bool = False
    trec: bool = False
    backbone: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_types(self)
        require_text("run", self.run)
