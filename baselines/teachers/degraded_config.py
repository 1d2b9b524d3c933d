"""Settings of a teacher that is made worse on purpose."""

from __future__ import annotations

from dataclasses import dataclass

from semid.checks import require_real
from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class DegradedConfig:
    """A teacher made worse on purpose, to see what its students owe to it; see ``Degraded``.

    Attributes:
        of: The teacher, any ``TeacherConfig.model`` but a hybrid, with the settings given for it.
        signal: Factor of its scores; 0 for a flat teacher, to which all items are alike.
        noise: Gaussian noise added to the scores, in standard deviations of a history's scores.
        shuffled: Give each item the scores of another one, drawn at random and kept.
        share: Share of the users whose training events it learns from. Smaller shares are part of
            larger ones.

    Raises:
        ValueError: If a value is out of its range.
    """

    of: str = "rules+content"
    signal: float = 1.0
    noise: float = 0.0
    shuffled: bool = False
    share: float = 1.0

    def __post_init__(self) -> None:
        require_types(self)
        require_real("signal", self.signal, low=0)
        require_real("noise", self.noise, low=0)
        require_real("share", self.share, above=0, high=1)
