"""The answer and the table of a comparison on a terminal of 80 columns, one line a row."""

from __future__ import annotations

from collections.abc import Iterator

from baselines.experiments.comparison import Difference
from baselines.experiments.tables import figure, signed
from baselines.reporting.answer import answer_of, p_value, short_label
from baselines.reporting.source import ReportSource

_LABEL, _VALUE, _GAIN = 34, 7, 15


def console_lines(found: ReportSource) -> Iterator[str]:
    """The answer in sentences, then a table of every row in the headline metrics.

    Lines of the table have at most 80 characters; sentences are not wrapped. Gains are in the last
    headline metric; ``p`` is after Holm's correction.
    """
    answer = answer_of(found)
    first, *others = answer.sentences or ("",)
    yield f"{answer.headline} {first}".rstrip()
    yield from (*others, "")
    metrics = found.comparison.headlines
    gains = [f"{found.metric} vs own"] if found.counterparts else []
    gains += ["vs counting"] if found.counted else []
    yield (
        f"{'seen items ' + found.policy:{_LABEL}}"
        + "".join(f"{name:>{_VALUE}}" for name in metrics)
        + "".join(f"{name:>{_GAIN}}" for name in gains)
    )
    for row in found.comparison.rows:
        means = (figure(row.metrics[found.policy][name].mean) for name in metrics)
        cells = [_gain(found.own(row.arm))] if found.counterparts else []
        cells += [_gain(found.over_counted(row.arm))] if found.counted else []
        yield (
            f"{_cut(row.arm):{_LABEL}}"
            + "".join(f"{mean:>{_VALUE}}" for mean in means)
            + "".join(f"{cell:>{_GAIN}}" for cell in cells)
        ).rstrip()
    if found.counterparts:
        yield "own: the same row without alignment"
    if found.counted:
        yield f"counting: {found.counted}, the best row that only counts"


def _gain(gain: Difference | None) -> str:
    if gain is None:
        return ""
    return f"{signed(gain.mean)} {p_value(gain.p_holm)}".replace(" = ", " ").replace(" < ", "<")


def _cut(label: str) -> str:
    """A label of at most the column's width, without its middle if need be."""
    label = short_label(label)
    if len(label) < _LABEL:
        return label
    half = (_LABEL - 2) // 2
    return f"{label[:half]}…{label[-(_LABEL - 2 - half) :]}"
