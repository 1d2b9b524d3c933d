"""Arms of a comparison: a backbone on semantic IDs, trained with an objective."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from baselines.experiments.config import ALL, CompareConfig
from baselines.models.config import BACKBONES
from baselines.teachers.config import MassConfig
from semid.checks import did_you_mean
from tca.config import LETTER_TAU, OBJECTIVES, AlphaPolicy, ObjectiveConfig

if TYPE_CHECKING:
    from baselines.contracts.backbone import Backbone


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("expected a number") from error


def _number_or_adaptive(text: str) -> float | str:
    return text if text == "adaptive" else _number(text)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("expected true or false")
    return text == "true"


def _names(text: str) -> tuple[str, ...]:
    return tuple(sorted(set(text.split("+"))))


def _labels(text: str) -> str:
    labels = re.sub(r"^crossfit(?=\d)", "crossfit:", text)
    return MassConfig(labels=labels).labels


# The values of an arm's options; names joined by "+" are checked where they are used.
_OF_OBJECTIVE: dict[str, Callable[[str], Any]] = {
    "tau": _number_or_adaptive,
    "masked": _truth,
    "labels": str,
    "mean": str,
    "reference": _names,
    "on_policy": _number,
}
_OF_POLICY: dict[str, Callable[[str], Any]] = {
    "alpha": str,
    "start": _number,
    "rise": _number,
    "cap": _truth,
    "half": _number,
    "gate": _number,
}
_OF_ARM: dict[str, Callable[[str], Any]] = {"labelled": _labels}
_FIELD = {"alpha": "by"}  # options whose names differ from those of their fields
_SOFTMAX = ("tau", "masked", "mean")  # shared by two losses that differ only in their labels
_SHARED = ("tau", "masked")  # set by a comparison for all its arms


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of a comparison.

    Attributes:
        backbone: One of ``BACKBONES``, or ``package.module:Class``.
        objective: Its training objective.
        scheme: Name of its ID scheme; None for the comparison's own.
        second: Name of the scheme of a second set of IDs that it learns; None for one set.
        overrides: Names of the shared settings (``tau``, ``masked``) that this arm overrides.
        prompt_loss: Whether it also learns from the tokens of prompts.
        labelled: Whose labels it learns from, one of ``MassConfig.labels``; None for the
            comparison's.
    """

    backbone: str
    objective: ObjectiveConfig
    scheme: str | None = None
    second: str | None = None
    overrides: tuple[str, ...] = ()
    prompt_loss: bool = False
    labelled: str | None = None

    @classmethod
    def parse(cls, text: str, *, masked: bool, tau: float, prompt_loss: bool | None = None) -> Arm:
        """Read ``backbone[@scheme[+second]]:objective[:alpha][:KEY=VALUE ...]``.

        For example, ``tiger:soft_ce:0.5`` or ``causal:soft_ntp:0.3:alpha=entropy:cap=true``.
        Backbone and objective are short names, or ``package.module:Name`` for your own. The keys
        are ``tau`` (a number or ``adaptive``), ``masked``, ``mean``, ``labels``, ``reference``
        (names joined by ``+``) and ``on_policy`` of ``ObjectiveConfig``, and ``alpha`` (its
        ``by``), ``start``, ``rise``, ``cap``, ``half`` and ``gate`` of ``AlphaPolicy``; and
        ``labelled``, one of the ``labels`` of ``MassConfig`` (``crossfit8`` for ``crossfit:8``).

        Args:
            text: The arm.
            masked: Whether softmaxes run over the tokens that may follow, unless the arm sets it;
                ``msl`` then always does.
            tau: Temperature of the model's softmax, unless the arm sets it; ``letter`` defaults to
                ``LETTER_TAU`` instead.
            prompt_loss: Whether language models also learn from prompts; None for each one's
                default.

        Raises:
            ValueError: If a name or key is unknown, a value is missing or out of range, or alpha is
                missing or superfluous.
        """
        backbone, schemes, name, rest, options = _split(text)
        masked = masked or name == "msl"
        try:
            of_objective, of_policy, of_arm = _read(options)
            alpha = _read_value("alpha", rest[0], _number) if rest else 0.0
            values: dict[str, Any] = {
                "name": name,
                "alpha": alpha,
                "policy": AlphaPolicy(**of_policy),
                "masked": masked,
                "tau": LETTER_TAU if name == "letter" else tau,
                "mean": "branching" if of_objective.get("tau") == "adaptive" else "all",
            }
            objective = ObjectiveConfig(**{**values, **of_objective})
        except ValueError as error:
            raise ValueError(f"{error} (in arm {text!r})") from error
        if rest and not objective.is_aligned:
            raise ValueError(f"{name} has no teacher, so arm {text!r} takes no alpha")
        if of_arm and not objective.is_aligned:
            raise ValueError(f"{name} has no teacher, so nobody labels arm {text!r}")
        if objective.is_aligned and not rest:
            begun = f"{backbone}@{'+'.join(schemes)}" if schemes else backbone
            raise ValueError(f"arm {text!r} needs an alpha, for example {begun}:{name}:0.5")
        differs = {
            "tau": objective.tau != tau or name == "letter",
            "masked": objective.masked != masked,
        }
        return cls(
            backbone=backbone,
            objective=objective,
            scheme=schemes[0] if schemes else None,
            second=schemes[1] if len(schemes) > 1 else None,
            overrides=tuple(key for key in _SHARED if differs[key]),
            prompt_loss=_class_of(backbone).learns_prompts(prompt_loss),
            **of_arm,
        )

    @property
    def backbone_class(self) -> type[Backbone]:
        """Class of its backbone."""
        return _class_of(self.backbone)

    @property
    def schemes(self) -> tuple[str | None, ...]:
        """Names of its ID schemes; None for the comparison's own."""
        return (self.scheme,) if self.second is None else (self.scheme, self.second)

    @property
    def label(self) -> str:
        """Label in reports; LETTER's loss on the scheme ``letter`` is named after LETTER."""
        objective, name = self.objective, self.backbone_class.label
        options = self._options()
        by = options.pop("alpha", "")
        suffix = "".join(f" {key}={value}" for key, value in options.items())
        if self.schemes == ("letter",) and objective.name == "letter":
            return f"LETTER-{name}{suffix}"
        name += self.at_schemes
        if objective.is_aligned:
            alpha = f"{objective.alpha:g}" + (f"*{by}" if by else "")
            return f"{name}+TCA {objective.name} alpha={alpha}{suffix}"
        return f"{name} {objective.name}{suffix}"

    @property
    def folder(self) -> str:
        """Folder name of the arm's training; arms with the same training share it."""
        objective = self.objective
        alpha = f"-{objective.alpha:g}" if objective.is_aligned else ""
        suffix = "".join(f"-{key}{value}" for key, value in self._options().items())
        suffix += "-prompt" if self.prompt_loss else ""
        backbone = self.backbone_class.shares_weights_with or self.backbone
        name = f"{backbone}{self.at_schemes}-{objective.name}{alpha}{suffix}"
        return name.replace(":", ".")

    @property
    def at_schemes(self) -> str:
        """The schemes as in the arm's text."""
        return "@" + "+".join(filter(None, self.schemes)) if self.scheme else ""

    @property
    def result_suffix(self) -> str:
        """Suffix of result files where arms share a training folder; else empty."""
        return f"-{self.backbone}" if self.backbone_class.shares_weights_with else ""

    def counterpart(self, arms: Sequence[Arm]) -> Arm | None:
        """The first of ``arms`` with this one's backbone, IDs and softmax, but without a teacher.

        None if there is none, or this arm has no teacher itself.
        """
        ours = self.objective
        if not ours.is_aligned:
            return None
        for arm in arms:
            objective = arm.objective
            alike = all(getattr(objective, name) == getattr(ours, name) for name in _SOFTMAX)
            same = (arm.backbone, arm.schemes) == (self.backbone, self.schemes)
            if same and alike and not objective.is_aligned:
                return arm
        return None

    def _options(self) -> dict[str, str]:
        """The options that differ from the shared values or the defaults, as written."""
        found = {}
        for key in (*_OF_OBJECTIVE, *_OF_POLICY):
            of: Any = self.objective.policy if key in _OF_POLICY else self.objective
            name = _FIELD.get(key, key)
            value = getattr(of, name)
            if key in self.overrides if key in _SHARED else value != getattr(type(of)(), name):
                found[key] = _written(value)
        if self.labelled is not None:
            found["labelled"] = self.labelled.replace(":", "")
        return found


def _class_of(backbone: str) -> type[Backbone]:
    from baselines.models.registry import backbone_class  # loads torch

    return backbone_class(backbone)


def _split(text: str) -> tuple[str, list[str], str, list[str], list[str]]:
    """Backbone, schemes, objective, the parts between it and the options, and the options.

    A first part that is not a built-in backbone starts a class path unless an objective follows.

    Raises:
        ValueError: If there is no backbone or no objective, or more than an alpha follows it, or
            schemes are not one or two different names.
    """
    parts = text.split(":")
    plain = list(takewhile(lambda part: "=" not in part, parts))
    options = parts[len(plain) :]
    head, _, _ = plain[0].partition("@") if plain else ("", "", "")
    if head not in BACKBONES and len(plain) > 2 and plain[1] not in OBJECTIVES:
        plain[:2] = [":".join(plain[:2])]
    if len(plain) > 2 and plain[1] not in OBJECTIVES and not _is_number(plain[2]):
        plain[1:3] = [":".join(plain[1:3])]
    backbone, at, named = plain[0].partition("@") if plain else ("", "", "")
    known = backbone in BACKBONES or ":" in backbone
    if len(plain) not in (2, 3) or not known or (at and not named):
        raise ValueError(
            "expected an arm backbone[@scheme]:objective[:alpha][:KEY=VALUE ...] with a "
            f"backbone out of {', '.join(BACKBONES)} or package.module:Class, got {text!r}; "
            f"for example tiger:soft_ce:0.5.{did_you_mean(backbone, BACKBONES)}"
        )
    schemes = named.split("+") if named else []
    if not all(schemes) or len(schemes) > 2 or len(set(schemes)) < len(schemes):
        raise ValueError(
            f"expected one scheme after @, or two different ones joined by +, got {named!r} in arm "
            f"{text!r}. The first is what the search writes."
        )
    return backbone, schemes, plain[1], plain[2:], options


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read(parts: list[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Fields of the objective, its alpha policy and the arm that the ``KEY=VALUE`` parts set."""
    of_objective: dict[str, Any] = {}
    of_policy: dict[str, Any] = {}
    of_arm: dict[str, Any] = {}
    known = _OF_OBJECTIVE | _OF_POLICY | _OF_ARM
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or key not in known:
            raise ValueError(
                f"expected KEY=VALUE with a key out of {', '.join(known)}, got {part!r}."
                f"{did_you_mean(key, known)}"
            )
        fields = of_arm if key in _OF_ARM else of_policy if key in _OF_POLICY else of_objective
        name = _FIELD.get(key, key)
        if name in fields:
            raise ValueError(f"expected {key} once, got {part!r} too")
        fields[name] = _read_value(key, value, known[key])
    return of_objective, of_policy, of_arm


def _read_value(key: str, value: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{error} for {key}, got {value!r}") from error


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "+".join(value)
    return value if isinstance(value, str) else f"{value:g}"


def backbones_of(config: CompareConfig) -> set[str]:
    """Names of the backbones in a comparison's arms, without importing them.

    Raises:
        ValueError: If an arm names no backbone.
    """
    return {_split(text)[0] for text in config.arms}


def parse_arms(config: CompareConfig) -> list[Arm]:
    """The arms of a comparison, completed by its settings.

    Raises:
        ValueError: If an arm cannot be parsed, there is no arm or no seed, or one is given twice.
    """
    arms = [_parse(config, text) for text in config.arms]
    if not arms or not config.seeds:
        raise ValueError("expected at least one arm and one seed; see --arms and --seeds")
    labels = {arm.backbone_class.label: arm.backbone for arm in arms}
    for arm in arms:
        if (other := labels[arm.backbone_class.label]) != arm.backbone:
            raise ValueError(
                f"expected a label of each backbone's own, got {arm.backbone_class.label!r} of "
                f"{arm.backbone} and {other}. Give yours another label."
            )
    given: dict[str, list[Any]] = {"arm": [a.label for a in arms], "seed": list(config.seeds)}
    for what, values in given.items():
        if len(set(values)) < len(values):
            raise ValueError(f"expected every {what} once, got {values}")
    return arms


def arms_to_fuse(config: CompareConfig, arms: Sequence[Arm]) -> set[Arm]:
    """The arms that are also decoded with their teacher.

    Raises:
        ValueError: If one is not in ``arms`` or is ranked without a beam, or controls are requested
            with fewer than two seeds.
    """
    from baselines.models.registry import is_searched

    fusion = config.fusion
    if fusion.controls and len(config.seeds) < 2:
        raise ValueError(f"controls need at least two seeds, got {list(config.seeds)}")
    everything = fusion.arms == (ALL,)
    chosen = (
        dict.fromkeys(arms, ALL)
        if everything
        else {_parse(config, text): text for text in fusion.arms}
    )
    for arm, text in chosen.items():
        if arm not in arms:
            raise ValueError(
                f"expected arms with the teacher in the beam out of the comparison's arms "
                f"({', '.join(arm.label for arm in arms)}), got {text!r}"
            )
        if not is_searched(arm.backbone_class):
            raise ValueError(
                "expected arms with the teacher in the beam that a beam search ranks, got "
                f"{arm.label}, which has no beam. Leave it out of fusion.arms."
            )
    return set(chosen)


def _parse(config: CompareConfig, text: str) -> Arm:
    prompt_loss = config.backbones.lm.prompt_loss
    return Arm.parse(text, masked=config.masked, tau=config.tau, prompt_loss=prompt_loss)
