"""The main table of a comparison for a paper, in LaTeX with booktabs."""

from __future__ import annotations

from baselines.experiments.comparison import ArmRow
from baselines.experiments.tables import figure, signed
from baselines.reporting.answer import verdict_of
from baselines.reporting.source import ReportSource

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex_table(found: ReportSource) -> str:
    r"""The rows with their metrics, and the gain over each counterpart; to be ``\input``.

    Bold: the best arm. A dagger: told from no difference after Holm's correction.
    """
    comparison, policy = found.comparison, found.policy
    names = comparison.metric_names
    arms = [row for row in comparison.rows if row.role == "arm"]
    best = {name: max(row.metrics[policy][name].mean for row in arms) for name in names}
    lines: list[str] = []
    for role in ("reference", "teacher", "arm"):
        rows = [row for row in comparison.rows if row.role == role]
        if rows and lines:
            lines.append(r"\midrule")
        lines += [_line(found, row, best if role == "arm" else {}) for row in rows]
    header = " & ".join(["", *map(escaped, names), f"$\\Delta$ {escaped(found.metric)}"])
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{_caption(found)}}}",
            f"  \\begin{{tabular}}{{l{'r' * len(names)}l}}",
            r"    \toprule",
            f"    {header} \\\\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def escaped(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(_SPECIAL.get(sign, sign) for sign in text)


def _line(found: ReportSource, row: ArmRow, best: dict[str, float]) -> str:
    cells = [escaped(row.arm)]
    for name, value in row.metrics[found.policy].items():
        text = figure(value.mean)
        cells.append(f"\\textbf{{{text}}}" if best.get(name) == value.mean else text)
    gain = found.own(row.arm)
    if gain is None:
        return " & ".join([*cells, ""]) + r" \\"
    level = 1 - float(found.comparison.statistics["confidence"])
    mark = "" if verdict_of(gain, level) == "undecided" else r"^{\dagger}"
    return " & ".join([*cells, f"${signed(gain.mean)}{mark}$"]) + r" \\"


def _caption(found: ReportSource) -> str:
    settings, statistics = found.comparison.settings, found.comparison.statistics
    return escaped(
        f"{settings.get('data', 'Data')}: {statistics['users']} test targets, mean over "
        f"{len(found.run.config.seeds)} seed(s), seen items {found.policy}. "
    ) + (
        rf"$\Delta$: gain over the counterpart without alignment; $\dagger$: "
        rf"$p < {1 - float(statistics['confidence']):.2g}$ after Holm's correction."
    )
