"""Hyper-parameter search of a study: trials that optuna suggests, judged on validation alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from semid.checks import require_int, require_real
from semid.field_types import require_types

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_ROLE = {"compare": "arm", "teacher train": "teacher"}  # of the row that a trial is judged by

Params = dict[str, Any]
"""Values of the options that are searched, by dotted name."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """The ``search`` of a study: trials of one command, whose options optuna suggests.

    A trial is judged by the validation value of its only arm, or teacher, averaged over its seeds.

    Attributes:
        command: The command, ``compare`` or ``teacher train``.
        trials: Number of trials.
        hours: Planned hours of each.
        space: By dotted name of an option, a list of its values, or ``low`` and ``high`` (whole
            numbers for a whole number), with ``log: true`` for a logarithmic scale.
        options: Options of every trial, as of a run.
        seed: Seed of the suggestions.

    Raises:
        ValueError: If a number is out of range, the command cannot be searched, or the space is
            empty or of another form.
    """

    command: str
    trials: int
    hours: float
    space: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        require_types(self)
        require_int("trials", self.trials, 1, 1000)
        require_real("hours", self.hours, low=0)
        if self.command not in _ROLE:
            raise ValueError(f"search must be of {' or '.join(_ROLE)}, got {self.command!r}")
        if not self.space:
            raise ValueError("space must name at least one option, got none")
        for name, values in self.space.items():
            _require_values(name, values)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the trials, in order."""
        return tuple(f"trial-{number:03d}" for number in range(self.trials))

    def first_values(self) -> Params:
        """One point of the space: the first of listed values, and the lower end of ranges."""
        return {
            name: values[0] if isinstance(values, list) else values["low"]
            for name, values in self.space.items()
        }

    def require_one_arm(self, settings: Any) -> None:
        """Refuse a comparison of several arms, between which a trial could not be judged.

        Raises:
            ValueError: If the settings name more than one arm.
        """
        arms = getattr(settings, "arms", ())
        if len(arms) > 1:
            raise ValueError(f"a search needs one arm, got {', '.join(arms)}. Name one only.")

    def suggested(self, judged: Sequence[tuple[Params, float]]) -> Params:
        """The next point to try; the same for the same finished trials.

        Args:
            judged: The options and the validation value of each finished trial.

        Raises:
            ValueError: If optuna is not installed.
        """
        try:
            import optuna
        except ImportError as error:
            raise ValueError(
                "a search needs the package optuna, which is not installed. "
                "pip install 'semid[search]'"
            ) from error
        logging.getLogger("optuna").setLevel(logging.WARNING)
        space = {name: _distribution(values) for name, values in self.space.items()}
        sampler = optuna.samplers.TPESampler(seed=self.seed + len(judged))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for params, value in judged:
            own = {name: _to_optuna(self.space[name], each) for name, each in params.items()}
            study.add_trial(optuna.create_trial(params=own, distributions=space, value=value))
        found = study.ask(space).params
        return {name: _from_optuna(self.space[name], value) for name, value in found.items()}

    def params_of(self, options: Mapping[str, Any]) -> Params | None:
        """The searched options among all options of a trial; None if one is not in the space."""
        found = {}
        for name, values in self.space.items():
            value: Any = options
            for part in name.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if not _allows(values, value):
                return None
            found[name] = value
        return found

    def value_of(self, result: Mapping[str, Any]) -> float:
        """The validation value of a finished trial.

        Raises:
            ValueError: If its result has more than one arm, or teacher, or no validation value.
        """
        role = _ROLE[self.command]
        rows = [row for row in result["rows"] if row["role"] == role]
        values = [
            value
            for row in rows
            for notes in row["evaluations"]
            for name, value in notes.items()
            if name.startswith("validation_") and name != "validation_seconds"
        ]
        if len(rows) != 1 or not values:
            raise ValueError(
                f"a search needs one {role} with a validation value, got {len(rows)} with "
                f"{len(values)}. Search over one that is trained, without its teacher in the beam."
            )
        return fmean(values)


def nested(params: Params) -> dict[str, Any]:
    """Options by dotted name as nested options."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        *above, last = name.split(".")
        at = found
        for part in above:
            at = at.setdefault(part, {})
        at[last] = value
    return found


def _require_values(name: str, values: Any) -> None:
    if isinstance(values, list) and values:
        return
    known = {"low", "high", "log"}
    if isinstance(values, Mapping) and {"low", "high"} <= values.keys() <= known:
        ends = [values["low"], values["high"]]
        if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
            raise ValueError(f"space.{name} must have numbers (1.0e-3, not 1e-3), got {ends}")
        require_real(f"space.{name}.low", ends[0], below=ends[1])
        if values.get("log") and ends[0] <= 0:
            raise ValueError(f"space.{name}.low must be above 0 on a logarithmic scale")
        return
    raise ValueError(f"space.{name} must be a list of values, or low and high, got {values!r}")


def _is_whole(values: Mapping[str, Any]) -> bool:
    return isinstance(values["low"], int) and isinstance(values["high"], int)


def _distribution(values: Any) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(values, list):  # by place, as optuna takes no lists as values
        return CategoricalDistribution(range(len(values)))
    kind = IntDistribution if _is_whole(values) else FloatDistribution
    return kind(values["low"], values["high"], log=bool(values.get("log")))


def _to_optuna(values: Any, value: Any) -> Any:
    return values.index(value) if isinstance(values, list) else value


def _from_optuna(values: Any, value: Any) -> Any:
    return values[value] if isinstance(values, list) else value


def _allows(values: Any, value: Any) -> bool:
    if isinstance(values, list):
        return value in values
    is_number = isinstance(value, int if _is_whole(values) else int | float)
    return is_number and values["low"] <= value <= values["high"]
