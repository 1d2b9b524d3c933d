"""``semid lm``: train a small language model, and judge the titles that models write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.cli.config import LmTrainConfig
from baselines.cli.inputs import read_data
from baselines.experiments.config import FluencyConfig
from baselines.pretraining.config import SmallLMConfig

if TYPE_CHECKING:
    from rich.console import Console


def lm_train(config: LmTrainConfig, console: Console) -> None:
    """Train a small language model from scratch on a catalogue's texts."""
    from rich.table import Table

    from baselines.pretraining.small import train_small_lm

    report = train_small_lm(
        read_data(config),
        SmallLMConfig(texts=config.texts, model=config.model, training=config.training),
        seed=config.seed,
        folder=config.out,
    )
    table = Table("held-out titles", "perplexity of a token")
    for name in ("uniform", "unigram", "perplexity"):
        shown = "model" if name == "perplexity" else name
        table.add_row(shown, f"{getattr(report, name):.1f}")
    console.print(table)
    console.print(
        f"read: {report.titles} titles, {report.further} further texts, {report.lists} lists of "
        f"titles; {report.cut} cut, {report.items_without_title} items without title; "
        f"held out: {report.held_out} titles"
    )
    console.print(
        f"language model: {config.out} ({report.parameters} parameters, {report.vocabulary} "
        f"tokens, best epoch {report.best_epoch} of {len(report.history)})"
    )


def lm_fluency(config: FluencyConfig, console: Console) -> None:
    """Judge the titles that a comparison's lm arms write, compared with those of their base."""
    from baselines.experiments.fluency_study import study_fluency

    console.print(study_fluency(config).table())
    console.print(f"files: {config.run}/fluency/fluency.md, fluency.json")
