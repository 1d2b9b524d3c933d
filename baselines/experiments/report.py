"""Reports of a comparison: the same cells as Markdown or as a rich table for the console."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from baselines.experiments.comparison import ArmRow, Comparison, Difference, Estimate
from baselines.experiments.strata import by_id_sections, strata_sections
from baselines.experiments.tables import NOTHING, duration, figure, markdown_table, signed

UNKNOWN = "unknown"


def comparison_table(comparison: Comparison, *, policy: str = "removed") -> Table:
    """One row per arm: headline metrics, gain over each reference, consistency and cost.

    Gains are in the last headline metric. Teachers are shown in bold.

    Raises:
        ValueError: If the records were not evaluated under ``policy``.
    """
    if policy not in comparison.policies:
        known = ", ".join(comparison.policies)
        raise ValueError(f"policy must be one of {known}, got {policy!r}")
    metrics = comparison.headlines
    table = Table(
        title=f"Seen items {policy}",
        caption=_method(comparison),
        caption_justify="left",
        box=SIMPLE_HEAD,
        show_lines=True,
    )
    table.add_column("arm\nseeds", overflow="fold")
    gains = [f"{metrics[-1]} minus\n{escape(reference)}" for reference in comparison.references]
    for name in (*metrics, *gains, "top-1 =\nteacher", "size\ntime"):
        table.add_column(name, justify="right", overflow="fold")
    for row in comparison.rows:
        cells = [
            _gain(comparison, row.arm, to, policy, metrics[-1]) for to in comparison.references
        ]
        arm, *figures = (cell.replace(" ± ", "\n± ") for cell in _result(row, policy, metrics))
        seeds, agreement, _, time = _cost(row)
        weights = f", weight {_weights(row)}" if _weights(row) else ""
        table.add_row(
            f"{escape(arm)}\n{seeds} seed{'' if seeds == '1' else 's'}{weights}",
            *figures,
            *map(escape, cells),
            agreement.replace(" ± ", "\n± "),
            f"{row.parameters / 1e6:.2f} M\n{time}",
            style="bold" if row.role == "teacher" else None,
        )
    return table


def comparison_page(comparison: Comparison) -> str:
    """The report as Markdown: settings, ID schemes, then results under each seen-item policy."""
    names = comparison.metric_names
    parts = ["# Comparison"]
    if comparison.settings:
        facts = [(key, _inline(value)) for key, value in comparison.settings.items()]
        parts.append(markdown_table(("setting", "value"), facts))
    if comparison.schemes:
        parts += ["## Semantic IDs", *_schemes(comparison.schemes)]
    for policy in comparison.policies:
        parts.append(f"## Seen items {policy}")
        header = ("arm", *names, "seeds", "top-1 = teacher", "parameters", "training", "beam")
        lines = [
            (*_result(row, policy, names), *_cost(row), _certificate(row))
            for row in comparison.rows
        ]
        parts.append(markdown_table(header, lines))
        gains = [
            _gain_cells(found)
            for found in comparison.differences
            if found.policy == policy and found.metric in comparison.headlines
        ]
        if gains:
            header = ("arm", "minus", "metric", "difference", "relative", "interval", "p", "Holm p")
            parts.append(markdown_table(header, gains))
            parts += _sizes(comparison, policy)
    rows = comparison.rows
    parts += [*strata_sections(comparison), *by_id_sections(comparison)]
    parts += [*_chosen(rows), *_lists(rows), *_agreement(rows), *_fusion(rows), *_questions(rows)]
    parts.append(
        f"Mean ± standard deviation over seeds; {NOTHING}: none. beam: recall of the exact best "
        "items, and share of paths that belong to no item, on a few histories. "
        f"{_method(comparison)}"
    )
    return "\n\n".join(parts) + "\n"


def _sizes(comparison: Comparison, policy: str) -> tuple[str, ...]:
    """Effect sizes over users, seed noise, and the users and seeds that a difference needs."""
    lines = [
        (
            found.arm,
            found.reference,
            found.metric,
            f"{found.d_z:+.3f}",
            UNKNOWN if found.seed_sd is None else figure(found.seed_sd),
            NOTHING if found.needed_users is None else f"{found.needed_users:,}",
            _seeds_needed(found),
        )
        for found in comparison.differences
        if found.policy == policy and found.metric in comparison.headlines
    ]
    header = ("arm", "minus", "metric", "d_z", "seed sd", "users needed", "seeds needed")
    legend = (
        "d_z: difference divided by its standard deviation over users. seed sd: standard deviation "
        "of the difference over seeds, on the same users. needed: users with these seeds, or seeds "
        "per arm with these users, that find a difference of this size with "
        f"{comparison.statistics['power']:.0%} power; {NOTHING}: no number does."
    )
    return markdown_table(header, lines), legend


def _schemes(cards: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """A table of ID schemes, one row per scheme, and its legend."""
    header = ("arms", "scheme", "sizes", "collisions", "before", "after", "codes used")
    lines = []
    for card in cards:
        resolved = card["collisions"] or {}
        line = (
            NOTHING if card["name"] is None else f"@{card['name']}",
            card["scheme"],
            "x".join(map(str, card["sizes"])),
            resolved.get("strategy", NOTHING),
            str(resolved.get("colliding_items", NOTHING)),
            str(card["colliding_items"]),
            ", ".join(f"{level['utilisation']:.1%}" for level in card["levels"]),
        )
        lines.append(line)
    legend = (
        "collisions: the strategy; before, after: items with the same codes as another one, before "
        "and after it; codes used: share of the codes of each level."
    )
    return markdown_table(header, lines), legend


def _agreement(rows: Sequence[ArmRow]) -> tuple[str, ...]:
    """Agreement of each arm's list of unseen items with the teacher's, and hits of either."""
    lines = []
    for row in rows:
        found = [one["agreement"] for one in row.evaluations if "agreement" in one]
        if found:
            cells = [
                [one[key] for one in found]
                for key in ("top-1", "overlap@10", "kendall", "spearman")
            ]
            for whose in ("both", "recommender_only", "teacher_only"):
                cells.append([one["hits@10"][whose] for one in found])
            lines.append((row.arm, *map(_of_seeds, cells)))
    if not lines:
        return ()
    header = (
        "arm",
        "top-1",
        "overlap@10",
        "Kendall",
        "Spearman",
        "both",
        "arm only",
        "teacher only",
    )
    legend = (
        "The ten best unseen items of the arm and of the teacher with the same seed. overlap@10: "
        "share of items in both lists; Kendall, Spearman: rank correlation over these items; both, "
        "arm only, teacher only: share of users whose target is in both lists or in only one."
    )
    return "## Agreement with the teacher", markdown_table(header, lines), legend


def _chosen(rows: Sequence[ArmRow]) -> tuple[str, ...]:
    """What teachers and counted scorers have chosen on validation."""
    lines = []
    for row in rows:
        found = [one["chosen"] for one in row.evaluations if "chosen" in one]
        for name in found[0] if found else ():
            lines.append((row.arm, name, ", ".join(f"{one[name]:g}" for one in found)))
    if not lines:
        return ()
    return "## Chosen on validation", markdown_table(("row", "setting", "each seed"), lines)


def _fusion(rows: Sequence[ArmRow]) -> tuple[str, ...]:
    """Weights of the rows with the teacher in the beam, and the validation metric at each."""
    fused = [row for row in rows if _weights(row)]
    if not fused:
        return ()
    values = {row.arm: [one["fusion"]["validation"] for one in row.evaluations] for row in fused}
    tried = list(values[fused[0].arm][0])
    lines = [
        (
            row.arm,
            _weights(row),
            *(_of_seeds([one[weight] for one in values[row.arm]]) for weight in tried),
        )
        for row in fused
    ]
    header = ("arm", "generator's weight", *(f"validation at {weight}" for weight in tried))
    legend = (
        "The weight selected for each seed, and the validation metric at each weight; the settings "
        "name the metric."
    )
    return "## Teacher in the beam", markdown_table(header, lines), legend


def _questions(rows: Sequence[ArmRow]) -> tuple[str, ...]:
    """How well yes/no arms separate targets from negative items."""
    lines = []
    for row in rows:
        found = [one["questions"] for one in row.evaluations if "questions" in one]
        if found:
            cells = (_of_seeds([one[key] for one in found]) for key in ("AUC", "UAUC"))
            lines.append((row.arm, *cells))
    if not lines:
        return ()
    legend = (
        "P(yes) of the test targets compared with that of random unseen items, one per target, "
        "over all pairs of a target and such an item (AUC) and within each user (UAUC)."
    )
    return "## Yes or no", markdown_table(("arm", "AUC", "UAUC"), lines), legend


def _lists(rows: Sequence[ArmRow]) -> tuple[str, ...]:
    """Metrics of all users' lists together, if the evaluation computes any."""
    by_arm = {row.arm: [one["lists"] for one in row.evaluations if "lists" in one] for row in rows}
    by_arm = {arm: of_seeds for arm, of_seeds in by_arm.items() if of_seeds}
    if not by_arm:
        return ()
    names = tuple(next(iter(by_arm.values()))[0])
    lines = [
        (arm, *(_of_seeds([one[name] for one in of_seeds]) for name in names))
        for arm, of_seeds in by_arm.items()
    ]
    legend = (
        "Computed over the lists of all users together, seen items removed. coverage: share of the "
        "catalogue that is listed; gini: inequality of how often each item is listed; novelty: "
        "mean self-information of the listed items in bits; diversity: mean distance of the texts "
        "of two items in a list; cold: share of listed items without a training event."
    )
    return "## Beyond accuracy", markdown_table(("arm", *names), lines), legend


def _weights(row: ArmRow) -> str:
    """The generator's weight for each seed; empty if no teacher is in the beam."""
    found = [one["fusion"]["weight"] for one in row.evaluations if "fusion" in one]
    return ", ".join(f"{weight:g}" for weight in found)


def _of_seeds(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return _estimate(Estimate.of(known)) if known else NOTHING


def _method(comparison: Comparison) -> str:
    facts = comparison.statistics
    once = [row.arm for row in comparison.rows if len(row.seeds) == 1 and row.seeds[0] is not None]
    unknown = (
        f" Trained on one seed, so that seed noise is unknown and intervals hold for the trained "
        f"model only: {', '.join(once)}."
        if once
        else ""
    )
    return (
        f"Differences: {facts['confidence']:.0%} {facts['interval']} ({facts['users']} users); "
        f"p: {facts['test']}, {facts['correction']}.{unknown}"
    )


def _result(row: ArmRow, policy: str, metrics: Sequence[str]) -> tuple[str, ...]:
    return (row.arm, *(_estimate(row.metrics[policy][metric]) for metric in metrics))


def _cost(row: ArmRow) -> tuple[str, ...]:
    agreement = _estimate(row.consistency) if row.consistency else NOTHING
    spent = duration(row.train_seconds)
    if any(found.get("stopped_by_time") for found in row.evaluations):
        spent += ", stopped by time"
    return str(len(row.seeds)), agreement, f"{row.parameters:,}", spent


def _certificate(row: ArmRow) -> str:
    """Mean recall of the exact best items over seeds, and the share of illegal paths."""
    proofs = [found["certificate"] for found in row.evaluations if "certificate" in found]
    if not proofs:
        return NOTHING
    recall = fmean(proof["recall"][str(proof["beam"])] for proof in proofs)
    illegal = fmean(proof["illegal"] for proof in proofs)
    return f"{recall:.3f}, {illegal:.3f} illegal"


def _estimate(value: Estimate) -> str:
    sd = NOTHING if value.sd is None else figure(value.sd)
    return f"{figure(value.mean)} ± {sd}"


def _gain(comparison: Comparison, arm: str, reference: str, policy: str, metric: str) -> str:
    try:
        found = comparison.difference(arm, reference, policy=policy, metric=metric)
    except KeyError:
        return NOTHING
    return f"{signed(found.mean)} p {found.p_holm:.3f}\n{_interval(found)}"


def _gain_cells(found: Difference) -> tuple[str, ...]:
    relative = NOTHING if found.relative is None else f"{found.relative:+.1f} %"
    return (
        found.arm,
        found.reference,
        found.metric,
        signed(found.mean),
        relative,
        _interval(found),
        f"{found.p:.4f}",
        f"{found.p_holm:.4f}",
    )


def _seeds_needed(found: Difference) -> str:
    if found.seed_sd is None:
        return UNKNOWN
    return NOTHING if found.needed_seeds is None else str(found.needed_seeds)


def _interval(found: Difference) -> str:
    return f"[{signed(found.low)}, {signed(found.high)}]"


def _inline(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
