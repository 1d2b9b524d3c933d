"""Did alignment help? The answer of a comparison in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from baselines.experiments.comparison import Difference
from baselines.experiments.controls import TWO_SEEDS
from baselines.experiments.rows import IN_THE_BEAM
from baselines.experiments.tables import figure, signed
from baselines.reporting.source import ReportSource

Verdict = Literal["helped", "hurt", "undecided"]

_ABOVE = {"helped": "above", "hurt": "below", "undecided": "against"}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to the question whether alignment helped.

    Attributes:
        verdict: In one word: that of all aligned rows, ``mixed``, or ``not asked`` without any.
        headline: In one sentence.
        sentences: What stands behind it, the most important first.
    """

    verdict: Verdict | Literal["mixed", "not asked"]
    headline: str
    sentences: tuple[str, ...]


def answer_of(found: ReportSource) -> Answer:
    """The answer by the headline metric, with seen items as the first policy has them."""
    level = 1 - float(found.comparison.statistics["confidence"])
    gains = {row: gain for row in found.counterparts if (gain := found.own(row)) is not None}
    if not gains:
        best = _best(found, [row.arm for row in found.comparison.rows if row.role == "arm"])
        headline = "Not asked: no aligned arm stands beside its counterpart without alignment."
        return Answer(verdict="not asked", headline=headline, sentences=_beside(found, best, level))
    best = _best(found, list(gains))
    verdict, verdicts = (
        verdict_of(gains[best], level),
        [verdict_of(gain, level) for gain in gains.values()],
    )
    return Answer(
        verdict=verdict if len(set(verdicts)) == 1 else "mixed",
        headline=_headline(verdicts),
        sentences=(
            _own(found, gains[best], verdict, alone=len(gains) == 1),
            *_needed(gains[best], verdict),
            *_beside(found, best, level),
            *_one_seed(found, best),
        ),
    )


def verdict_of(gain: Difference, level: float) -> Verdict:
    """Whether a difference is told from none at this level, after Holm's correction."""
    if gain.p_holm >= level or gain.low <= 0 <= gain.high:
        return "undecided"
    return "helped" if gain.mean > 0 else "hurt"


def short_label(row: str) -> str:
    """A row's label for narrow places."""
    row = row.replace(IN_THE_BEAM, " + beam").replace(TWO_SEEDS, " x 2 seeds")
    return row.replace("alpha=", "\N{GREEK SMALL LETTER ALPHA}=")


def p_value(p: float) -> str:
    """``p = .012``, or ``p < .001``."""
    return "p < .001" if p < 0.001 else f"p = {f'{p:.3f}'.lstrip('0') if p < 1 else '1'}"


def interval(gain: Difference) -> str:
    """``+.0010 to +.0052``."""
    return f"{signed(gain.low)} to {signed(gain.high)}"


def _headline(verdicts: list[Verdict]) -> str:
    if len(verdicts) == 1:
        return {
            "helped": "Yes: alignment helped.",
            "hurt": "No: alignment hurt.",
            "undecided": "Undecided: alignment made no difference that these runs can tell.",
        }[verdicts[0]]
    helped, hurt, total = verdicts.count("helped"), verdicts.count("hurt"), len(verdicts)
    if helped == total:
        return f"Yes: alignment helped all {total} aligned rows."
    if hurt == total:
        return f"No: alignment hurt all {total} aligned rows."
    if not helped and not hurt:
        return f"Undecided: alignment made no difference that can be told in any of {total} rows."
    counts = {"helped": helped, "hurt": hurt, "made no clear difference in": total - helped - hurt}
    parts = [f"{what} {count}" for what, count in counts.items() if count]
    return f"Mixed: of {total} aligned rows, alignment {' and '.join(parts)}."


def _own(found: ReportSource, gain: Difference, verdict: Verdict, *, alone: bool) -> str:
    value = _value(found, gain.arm)
    who = gain.arm if alone else f"The best of them, {gain.arm},"
    share = "" if gain.relative is None else f" ({gain.relative:+.1f} %)"
    confidence = f"{found.comparison.statistics['confidence']:.0%}"
    return (
        f"{who} reaches {found.metric} {figure(value)}: {signed(gain.mean)}{share} "
        f"{_ABOVE[verdict]} {gain.reference} "
        f"({confidence} interval {interval(gain)}, {p_value(gain.p_holm)})."
    )


def _needed(gain: Difference, verdict: Verdict) -> tuple[str, ...]:
    if verdict != "undecided":
        return ()
    ways = []
    if gain.needed_seeds is not None:
        ways.append(f"{gain.needed_seeds:,} seeds")
    if gain.needed_users is not None:
        ways.append(f"{gain.needed_users:,} users")
    if not ways:
        return ()
    return (f"A difference of this size would take about {' or '.join(ways)} to find.",)


def _beside(found: ReportSource, row: str, level: float) -> tuple[str, ...]:
    """How a row stands against the best one that only counts."""
    gain = found.over_counted(row)
    if gain is None:
        return ()
    facts = f"{signed(gain.mean)}, {interval(gain)}, {p_value(gain.p_holm)}"
    said = {
        "helped": f"{row} beats {gain.reference}, the best row that only counts ({facts}).",
        "hurt": f"{row} stays below {gain.reference}, which only counts ({facts}).",
        "undecided": f"{row} cannot be told from {gain.reference}, which only counts ({facts}).",
    }
    return (said[verdict_of(gain, level)],)


def _one_seed(found: ReportSource, row: str) -> tuple[str, ...]:
    if len(found.rows[row].seeds) > 1:
        return ()
    return ("There is one seed: the intervals hold for these trained models only.",)


def _best(found: ReportSource, rows: list[str]) -> str:
    return max(rows, key=lambda row: _value(found, row))


def _value(found: ReportSource, row: str) -> float:
    return found.rows[row].metrics[found.policy][found.metric].mean
