"""What a report tells, read from the folder of a finished comparison; nothing is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from baselines.experiments.arms import Arm
from baselines.experiments.comparison import ArmRow, Comparison, Difference
from baselines.experiments.folder import ComparisonFolder
from baselines.experiments.lists import EXAMPLES
from baselines.experiments.rows import IN_THE_BEAM
from baselines.reporting.pairs import differences_of
from semid.provenance import Provenance, read_json


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The training of one arm and seed.

    Attributes:
        arm: Label of the row.
        seed: Its seed.
        epochs: The epochs after which it was validated.
        values: The validation value after each of these.
        best_epoch: The epoch whose weights were kept.
    """

    arm: str
    seed: int
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    best_epoch: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportSource:
    """A comparison and the pairs of rows that answer its question.

    Attributes:
        run: Its folder.
        comparison: Its table.
    """

    run: ComparisonFolder
    comparison: Comparison

    @classmethod
    def read(cls, folder: Path, *, backbones: Collection[str] = ()) -> ReportSource:
        """Read a folder that ``semid compare`` has finished; arguments and errors as there.

        Raises:
            ValueError: As in `ComparisonFolder.read`.
        """
        run = ComparisonFolder.read(folder, backbones=backbones)
        return cls(run=run, comparison=Comparison.read(folder / "comparison.json"))

    @property
    def policy(self) -> str:
        """The seen-item policy of the headline results."""
        return self.comparison.policies[0]

    @property
    def metric(self) -> str:
        """The metric that the question is answered by."""
        return self.comparison.headlines[-1]

    @cached_property
    def rows(self) -> dict[str, ArmRow]:
        """The rows of the table, by label."""
        return {row.arm: row for row in self.comparison.rows}

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """The arms that were trained, by label."""
        return {arm.label: arm for arm in self.run.arms}

    @cached_property
    def counterparts(self) -> dict[str, str]:
        """The row without alignment that each aligned row is measured against.

        An arm with a teacher in its loss has the arm without one; a row with the teacher in the
        beam has the same model alone, or, if its loss is aligned, the other model in the beam.
        """
        found = {}
        for label, arm in self.arms.items():
            other = arm.counterpart(self.run.arms)
            fused = label + IN_THE_BEAM
            if other is not None:
                found[label] = other.label
                found[fused] = other.label + IN_THE_BEAM
            else:
                found[fused] = label
        return {row: own for row, own in found.items() if {row, own} <= self.rows.keys()}

    @cached_property
    def counted(self) -> str | None:
        """The best row that only counts: of popularity, rules and contents; None without any."""
        able = [row for row in self.comparison.rows if row.role != "arm" and not row.parameters]
        by_value = {row.arm: row.metrics[self.policy][self.metric].mean for row in able}
        return max(by_value, key=by_value.__getitem__, default=None)

    def own(self, row: str) -> Difference | None:
        """A row minus its counterpart in `metric`; None if it has none."""
        return self._differences.get((row, self.counterparts.get(row)))

    def over_counted(self, row: str) -> Difference | None:
        """An arm minus the best row that only counts, in `metric`; None of other rows."""
        return self._differences.get((row, self.counted))

    @cached_property
    def beyond(self) -> Sequence[Difference]:
        """Differences that the table does not hold: to `counted`, and to counterparts."""
        arms = [row.arm for row in self.comparison.rows if row.role == "arm"]
        pairs = list(self.counterparts.items())
        return differences_of(
            self.run.folder, self.comparison, arms=arms, reference=self.counted, pairs=pairs
        )

    @cached_property
    def _differences(self) -> Mapping[tuple[str, str | None], Difference]:
        """Those in `metric` under `policy`; recorded ones win, as in the tables of the folder."""
        known = [*self.beyond, *self.comparison.differences]
        wanted = (self.policy, self.metric)
        return {
            (one.arm, one.reference): one for one in known if (one.policy, one.metric) == wanted
        }

    @cached_property
    def curves(self) -> Sequence[Curve]:
        """The validation of every arm and seed that was validated while it trained."""
        found = []
        for label, arm in self.arms.items():
            for seed in self.run.config.seeds:
                path = self.run.trained(arm, seed) / "state.json"
                state = read_json(path, take_unsealed=True) or {"history": ()}
                known = [
                    (epoch, one["validation"])
                    for epoch, one in enumerate(state["history"], start=1)
                    if "validation" in one
                ]
                if known:
                    epochs, values = zip(*known, strict=True)
                    best = state["best_epoch"]
                    curve = Curve(
                        arm=label, seed=seed, epochs=epochs, values=values, best_epoch=best
                    )
                    found.append(curve)
        return found

    @cached_property
    def lineages(self) -> dict[str, Provenance]:
        """What each trained model was made from, by the name of its folder."""
        folders = {
            self.run.trained(arm, seed): None
            for arm in self.run.arms
            for seed in self.run.config.seeds
        }
        whole = [folder for folder in folders if (folder / "provenance.json").exists()]
        return {folder.name: Provenance.read(folder) for folder in whole}

    @cached_property
    def examples(self) -> dict[str, Any] | None:
        """What `baselines.experiments.lists.examples` returns; None in an older folder."""
        return read_json(self.run.folder / EXAMPLES)
