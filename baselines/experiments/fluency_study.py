"""The titles that the arms of a comparison write: how fluent they are, and whether they exist.

Open question 4 of TCA4Rec (arXiv:2601.18457): does aligning a language model with a teacher harm
its language? Each arm writes one title after each of the same prompts, freely and within the
catalogue, and the base model scores the titles.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from baselines.backbones.language import LanguageBackbone
from baselines.data.batches import histories_of_targets
from baselines.data.sequences import SequenceSet
from baselines.evaluation.significance import paired_bootstrap
from baselines.experiments.arms import Arm
from baselines.experiments.config import FluencyConfig
from baselines.experiments.folder import ComparisonFolder
from baselines.experiments.tables import markdown_table
from baselines.lm.fluency import Fluency, existing, log_likelihoods, normalised, write_titles
from baselines.models.merging import load_adapter
from baselines.runtime.progress import track
from semid.arrays import FloatArray, IntArray
from semid.provenance import Provenance, atomic_write, read_json, write_json

if TYPE_CHECKING:
    from rich.table import Table

FREELY, WITHIN, NEXT = "freely", "within the catalogue", "the true next titles"
_BASE, _CATALOGUE = "the base model", "the catalogue"
_FOLDER = "fluency"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % percentile interval over resampled histories."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class FluencyRow:
    """Results of one writer, averaged over its seeds.

    Attributes:
        writer: Label of an arm, the base, or the catalogue itself.
        how: Freely, within the catalogue, or the true next titles.
        seeds: Seeds of the trainings.
        perplexity: As in ``Fluency``, over the tokens of all seeds.
        text_perplexity: As in ``Fluency``, each title once.
        exact: Share of titles that exist in the catalogue character by character.
        normalised: The same, ignoring white space.
        distinct: Share of distinct titles within one seed.
        hit: Share of titles that are the target's, ignoring white space.
        perplexity_ratio: Its ``text_perplexity`` divided by that of the first arm with the same
            ``how``, history by history; None for the first arm and for the catalogue.
        exact_gain: Its ``exact`` minus that of the first arm, likewise.
        hit_gain: Its ``hit`` minus that of the first arm, likewise.
        of_seeds: ``perplexity``, ``text_perplexity``, ``exact``, ``normalised``, ``distinct`` and
            ``hit`` of each seed.
    """

    writer: str
    how: str
    seeds: tuple[int, ...]
    perplexity: float
    text_perplexity: Interval
    exact: Interval
    normalised: Interval
    distinct: float
    hit: Interval
    perplexity_ratio: Interval | None
    exact_gain: Interval | None
    hit_gain: Interval | None
    of_seeds: tuple[dict[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class FluencyStudy:
    """Comparison of the writers.

    Attributes:
        settings: Settings behind the numbers.
        first: Label of the arm that the others are measured against.
        rows: The catalogue, then the base and the arms for each way of writing.
    """

    settings: dict[str, Any]
    first: str
    rows: tuple[FluencyRow, ...]

    def to_json(self) -> str:
        """All results, as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False) + "\n"

    def to_markdown(self) -> str:
        """Settings and table, as Markdown."""
        lines = ["# Fluency of written titles", ""]
        lines += [f"- {name}: {value}" for name, value in self.settings.items()]
        lines += ["", markdown_table(self._header(), [self._cells(row) for row in self.rows])]
        lines += ["", "Perplexities are measured with the base model, for the title by itself. "]
        lines[-1] += "Brackets: 95 % intervals over resampled histories, averaged over seeds first."
        return "\n".join(lines) + "\n"

    def table(self) -> Table:
        """The table for the console."""
        from rich.markup import escape
        from rich.table import Table

        table = Table(*map(escape, self._header()))
        for row in self.rows:
            table.add_row(*map(escape, self._cells(row)))
        return table

    def _header(self) -> list[str]:
        return [
            "writer",
            "writes",
            "title perplexity",
            f"relative to {self.first}",
            "token perplexity",
            "in the catalogue",
            "ignoring white space",
            "distinct",
            "hit",
        ]

    def _cells(self, row: FluencyRow) -> list[str]:
        return [
            row.writer,
            row.how,
            _shown(row.text_perplexity, ".1f"),
            "" if row.perplexity_ratio is None else _shown(row.perplexity_ratio, ".3f"),
            f"{row.perplexity:.1f}",
            _shown(row.exact, ".3f"),
            f"{row.normalised.mean:.3f}",
            f"{row.distinct:.3f}",
            _shown(row.hit, ".4f"),
        ]


def study_fluency(config: FluencyConfig) -> FluencyStudy:
    """Generate titles with every arm of a comparison, and measure their fluency and validity.

    Writes ``fluency.json``, ``fluency.md`` and each writer's titles to ``fluency/`` in the
    comparison's folder; another call with the same settings reuses the titles.

    Raises:
        ValueError: If the folder holds no finished comparison, or no arm of it writes titles.
        ProvenanceError: If the base, the prompts or the weights have changed since the run.
    """
    finished = ComparisonFolder.read(config.run)
    arms = _that_write_titles(finished)
    seeds = finished.config.seeds
    test, lm = finished.dataset.splits.test, finished.config.backbones.lm
    chosen = np.random.default_rng(0).permutation(test.num_targets)[: config.histories]
    chosen = np.sort(chosen)
    titles = finished.dataset.catalog.texts(lm.title)
    targets = [titles[item] for item in test.items[test.targets()[1]][chosen]]
    writers = {_BASE: [_written(config, finished, arms[0], None, test, chosen)]}
    for arm in arms:
        writers[arm.label] = [_written(config, finished, arm, seed, test, chosen) for seed in seeds]
    judge = _writer(finished, arms[0], None)
    measured = _measure_all(
        writers,
        targets,
        partial(_Measured.of, judge, titles=titles, targets=targets, batch_size=config.batch_size),
    )
    first = arms[0].label
    study = FluencyStudy(
        settings={
            "comparison": config.run,
            "data": finished.dataset.name,
            "base": lm.model,
            "seeds": list(seeds),
            "test histories": f"{len(chosen)} of {test.num_targets}",
            "beam": config.beam,
            "maximum length": f"{judge.trie.depth} tokens, as the longest title and its end token",
            "resamples": config.resamples,
        },
        first=first,
        rows=tuple(
            _row(
                *(label, how),
                seeds if label in writers and label != _BASE else (),
                runs,
                None if label in (first, _CATALOGUE) else measured[first, how],
                resamples=config.resamples,
            )
            for (label, how), runs in measured.items()
        ),
    )
    out = finished.folder / _FOLDER
    atomic_write(out / "fluency.json", study.to_json())
    atomic_write(out / "fluency.md", study.to_markdown())
    return study


def _measure_all(
    writers: Mapping[str, Sequence[Mapping[str, Sequence[str]]]],
    targets: Sequence[str],
    measure: Callable[[Sequence[str]], _Measured],
) -> dict[tuple[str, str], list[_Measured]]:
    """By writer and way of writing, the measurements of each seed's titles."""
    with track("reading titles", 1 + 2 * sum(map(len, writers.values()))) as progress:
        measured = {(_CATALOGUE, NEXT): [measure(targets)]}
        progress.advance(1)
        for how in (FREELY, WITHIN):
            for label, of_seeds in writers.items():
                measured[label, how] = []
                for written in of_seeds:
                    measured[label, how].append(measure(written[how]))
                    progress.advance(1)
    return measured


def _that_write_titles(finished: ComparisonFolder) -> list[Arm]:
    lm = finished.config.backbones.lm
    arms = [arm for arm in finished.arms if arm.backbone == "lm" and lm.items == "titles"]
    if not arms:
        raise ValueError(
            f"expected a comparison with lm: arms that write titles, got {finished.folder} with "
            f"{', '.join(arm.label for arm in finished.arms)}"
            f"{' that write codes' if lm.items == 'codes' else ''}."
        )
    return arms


def _writer(finished: ComparisonFolder, arm: Arm, seed: int | None) -> LanguageBackbone:
    """An arm of a seed, or the base alone, whose untrained adapters have no effect."""
    backbone = finished.fresh(arm, finished.config.seeds[0] if seed is None else seed)
    assert isinstance(backbone, LanguageBackbone)
    if seed is not None:
        load_adapter(finished.trained(arm, seed), backbone)
    return backbone.eval()


def _written(
    config: FluencyConfig,
    finished: ComparisonFolder,
    arm: Arm,
    seed: int | None,
    test: SequenceSet,
    chosen: IntArray,
) -> dict[str, list[str]]:
    """The titles that an arm of a seed, or the base, writes; read from its file if it exists."""
    trained = finished.trained(arm, finished.config.seeds[0] if seed is None else seed)
    lineage = Provenance.read(trained)
    made_from = {name: lineage.inputs.get(name) for name in ("base", "prompts", "paths")}
    settings = {
        **made_from,
        "weights": None if seed is None else lineage.content,
        "histories": len(chosen),
        "beam": config.beam,
    }
    path = finished.folder / _FOLDER / f"{'base' if seed is None else trained.name}.json"
    found = read_json(path, made_from=settings)
    if found is not None:
        return {how: found[how] for how in (FREELY, WITHIN)}
    title = _BASE if seed is None else f"{arm.label}, seed {seed}"
    backbone = _writer(finished, arm, seed)
    written = _titles_after(backbone, test, chosen, config, title)
    write_json(path, {"settings": settings, **written}, made_from=settings)
    return written


def _titles_after(
    backbone: LanguageBackbone,
    test: SequenceSet,
    chosen: IntArray,
    config: FluencyConfig,
    title: str,
) -> dict[str, list[str]]:
    written = {how: [""] * len(chosen) for how in (FREELY, WITHIN)}
    search = {"num_beams": config.beam, "length_penalty": 0.0}  # ranked as in our beam search
    batches = histories_of_targets(test, backbone.max_history, config.batch_size, subset=chosen)
    with track(f"titles of {title}", len(chosen)) as progress:
        for places, histories in batches:
            tokens, mask = backbone.prompts(histories.to(backbone.paths.device))
            prompts = [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]
            for how, within in ((FREELY, None), (WITHIN, backbone.trie)):
                texts = write_titles(
                    backbone.base,
                    backbone.tokenizer,
                    prompts,
                    within=within,
                    max_new_tokens=backbone.trie.depth,
                    **search,
                )
                for place, text in zip(places, texts, strict=True):
                    written[how][place] = text
            progress.advance(len(places))
    return written


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """Measurements of one writer and seed; columns are float64 ``(history,)``."""

    fluency: Fluency
    distinct: float
    columns: Mapping[str, FloatArray]

    @classmethod
    def of(
        cls,
        judge: LanguageBackbone,
        texts: Sequence[str],
        titles: Sequence[str],
        targets: Sequence[str],
        *,
        batch_size: int,
    ) -> _Measured:
        log_p, tokens = log_likelihoods(judge.base, judge.tokenizer, texts, batch_size=batch_size)
        exact, but_for_space = existing(texts, titles)
        hit = [normalised(a) == normalised(b) for a, b in zip(texts, targets, strict=True)]
        flags = {"exact": exact, "normalised": but_for_space, "hit": hit}
        columns = {name: np.array(flag, dtype=np.float64) for name, flag in flags.items()}
        return cls(
            fluency=Fluency.of(log_p, tokens),
            distinct=len(set(texts)) / len(texts),
            columns={"surprise": -(log_p / tokens).numpy(), **columns},
        )


def _row(
    writer: str,
    how: str,
    seeds: Sequence[int],
    runs: Sequence[_Measured],
    first: Sequence[_Measured] | None,
    *,
    resamples: int,
) -> FluencyRow:
    means = _over_seeds(runs)
    gains: dict[str, FloatArray] = {}
    if first is not None:
        before = _over_seeds(first)
        gains = {f"{name}_gain": means[name] - before[name] for name in before}
    columns = means | gains
    values = np.stack(list(columns.values()), axis=1)
    found = paired_bootstrap(values, resamples=resamples)
    ends = {
        name: (values[:, column].mean(), found.low[column], found.high[column])
        for column, name in enumerate(columns)
    }

    def interval(name: str, of: Callable[[float], float] = float) -> Interval:
        mean, low, high = (of(end) for end in ends[name])
        return Interval(mean=mean, low=low, high=high)

    def exp(value: float) -> float:
        return float(np.exp(value))

    weights = [run.fluency.tokens for run in runs]
    surprise = np.average([np.log(run.fluency.perplexity) for run in runs], weights=weights)
    return FluencyRow(
        writer=writer,
        how=how,
        seeds=tuple(seeds),
        perplexity=exp(surprise),
        text_perplexity=interval("surprise", exp),
        exact=interval("exact"),
        normalised=interval("normalised"),
        distinct=float(np.mean([run.distinct for run in runs])),
        hit=interval("hit"),
        perplexity_ratio=interval("surprise_gain", exp) if gains else None,
        exact_gain=interval("exact_gain") if gains else None,
        hit_gain=interval("hit_gain") if gains else None,
        of_seeds=tuple(
            {
                "perplexity": run.fluency.perplexity,
                "text_perplexity": run.fluency.text_perplexity,
                "distinct": run.distinct,
                **{name: float(run.columns[name].mean()) for name in ("exact", "normalised")},
                "hit": float(run.columns["hit"].mean()),
            }
            for run in runs
        ),
    )


def _over_seeds(runs: Sequence[_Measured]) -> dict[str, FloatArray]:
    return {name: np.mean([run.columns[name] for run in runs], axis=0) for name in runs[0].columns}


def _shown(value: Interval, form: str) -> str:
    mean, low, high = (format(end, form) for end in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"
