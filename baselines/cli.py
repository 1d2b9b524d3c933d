"""The command line: every sub-command is a function of the library with typed options.

Schemes may stand in a file of the folder where the command is run: it is searched for modules
after all that is installed.
"""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from jsonargparse import ArgumentParser
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError

from baselines.data.dataset import Split, load_catalog, load_dataset
from baselines.evaluation import POLICIES, rank_by_scores
from baselines.experiment import run_comparison
from baselines.lm.fluency_study import FluencyConfig, study_fluency
from baselines.lm.next_token import NextTokenConfig
from baselines.lm.small import SmallLMConfig, SmallModelConfig, train_small_lm
from baselines.lm.texts import TextsConfig
from baselines.machine import keep_freed_memory
from baselines.parallel import processes
from baselines.progress import track_epochs
from baselines.settings import CompareConfig
from baselines.teachers.config import TeacherConfig
from baselines.teachers.fit import fit_teacher, read_teacher, teacher_training
from baselines.teachers.vectors import item_vectors
from baselines.training import TrainingConfig
from semid.build import IdsConfig, extend_made_ids, make_semantic_ids
from semid.catalog import Catalog
from semid.embed import read_embeddings
from semid.ids import SemanticIds
from semid.interop import read_codes_file
from semid.quality import id_quality
from semid.tokenizers import load_tokenizer_class


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Settings of ``semid build``.

    Attributes:
        data: A folder in the plain layout, or ``synthetic``.
        out: Folder to write the semantic ids to.
        ids: Where they come from.
        extends: Folder of ids that ``semid build`` wrote earlier: its items keep theirs, and only
            items that have none get new ones.
    """

    data: str
    out: str
    ids: IdsConfig = field(default_factory=IdsConfig)
    extends: str | None = None


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Settings of ``semid inspect``.

    Attributes:
        ids: A folder that ``semid build`` wrote, or a file of codes.
        tokenizer: In place of ids, a scheme that is fitted here and not kept: a short name or
            ``package.module:Class``. Its collisions are left as they are.
        data: The folder of the catalogue; needed for a file of codes and for a scheme.
        codebook_sizes: Codes of each level of the scheme; None as in ``semid build``.
        settings: Further settings of the scheme, by name.
        embeddings: A ``.npy`` file or artefact folder of item vectors; nearest neighbours there are
            asked for common codes, and a scheme is fitted on them. Without, a scheme is fitted on
            ``lsa``.
        cf_embeddings: The same with collaborative vectors, which a scheme may learn from.
        json: Print JSON instead of tables.
    """

    ids: str | None = None
    tokenizer: str | None = None
    data: str | None = None
    codebook_sizes: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: str | None = None
    cf_embeddings: str | None = None
    json: bool = False

    def __post_init__(self) -> None:
        if (self.ids is None) == (self.tokenizer is None):
            raise ValueError("expected either --ids or --tokenizer, to say what is inspected")
        if self.tokenizer is None and (self.codebook_sizes or self.settings):
            raise ValueError("codebook_sizes and settings are of a scheme: name it by --tokenizer")


@dataclass(frozen=True, kw_only=True)
class TeacherTrainConfig:
    """Settings of ``semid teacher train``.

    Attributes:
        data: A folder in the plain layout, or ``synthetic``.
        out: Folder of trained teachers; ``semid compare --teachers`` takes it.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        seeds: A teacher is trained with each.
        teacher: Which teacher, in which shape.
        training: How it is trained; item-kNN and popularity are counted.
    """

    data: str
    out: str
    split: Split = "auto"
    seeds: tuple[int, ...] = (0,)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    training: TrainingConfig = field(default_factory=teacher_training)


@dataclass(frozen=True, kw_only=True)
class TeacherExportConfig:
    """Settings of ``semid teacher export``.

    Attributes:
        data: The folder that the teacher was trained on, or ``synthetic``.
        teachers: Folder of trained teachers, or the folder of one of them.
        out: Folder to write the item vectors to.
        split: The protocol that the teacher was trained under.
        seed: Of the teacher.
        other_interactions: Also take a teacher that has learned from other interactions than the
            training part of this split, and so perhaps from those that are held out here.
    """

    data: str
    teachers: str
    out: str
    split: Split = "auto"
    seed: int = 0
    other_interactions: bool = False


@dataclass(frozen=True, kw_only=True)
class LmTrainConfig:
    """Settings of ``semid lm train``.

    Attributes:
        data: A folder in the plain layout, or ``synthetic``.
        out: Folder to write the language model to; ``transformers`` loads it.
        split: Protocol; lists of titles come from its training part alone.
        seed: Of weights, chosen sequences and data order.
        texts: What the model reads.
        model: Its shape and vocabulary.
        training: How it is trained.
    """

    data: str
    out: str
    split: Split = "auto"
    seed: int = 0
    texts: TextsConfig = field(default_factory=TextsConfig)
    model: SmallModelConfig = field(default_factory=SmallModelConfig)
    training: NextTokenConfig = field(default_factory=NextTokenConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        0 on success; 2 on bad input, with one line on standard error that says what is wrong.
    """
    keep_freed_memory()
    parser = _parser()
    try:
        command, values = _chosen(parser.instantiate(parser.parse_args(argv)))
        here = processes()
        if command.trains or here.is_main_process:
            with _modules_of_this_folder():
                command.run(command.config(**values), Console(quiet=not here.is_main_process))
        here.wait_for_everyone()
        here.destroy_process_group()
    except (ArgumentError, ValueError, OSError, SafetensorError) as error:
        print(f"semid: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("semid: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _modules_of_this_folder() -> Iterator[None]:
    """The console command finds a scheme beside the user as ``python -m`` does."""
    sys.path.append(os.getcwd())
    try:
        yield
    finally:
        sys.path.pop()


def build(config: BuildConfig, console: Console) -> None:
    """Give every item of a catalogue its semantic id."""
    catalog = load_catalog(config.data)
    out = Path(config.out)
    cache = out.with_name(f"{out.name}.cache")
    if config.extends is None:
        with track_epochs("semantic ids") as show:
            ids = make_semantic_ids(config.ids, catalog, cache_dir=cache, on_epoch=show)
    else:
        ids = extend_made_ids(config.extends, config.ids, catalog, cache_dir=cache)
    if processes().is_main_process:
        ids.save(out)
    _print_quality(id_quality(ids), console)
    made = ids.provenance.config
    console.print(_told_apart(made["extended"][-1] if "extended" in made else made["collisions"]))
    console.print(f"semantic ids: {out}")


def inspect(config: InspectConfig, console: Console) -> None:
    """Print the quality card of semantic ids, or of those that a scheme would make."""
    ids = _fitted_here(config) if config.ids is None else _read_ids(config.ids, config.data)
    spaces = {"embeddings": config.embeddings, "cf_embeddings": config.cf_embeddings}
    catalog = Catalog(item_ids=ids.item_ids, fields=pl.DataFrame())
    vectors = {name: read_embeddings(path, catalog) for name, path in spaces.items() if path}
    card = id_quality(ids, **vectors)
    if config.json:
        console.print_json(json.dumps(card))
    else:
        _print_quality(card, console)


def _read_ids(source: str, data: str | None) -> SemanticIds:
    if not Path(source).exists():
        raise FileNotFoundError(f"no folder or file of semantic ids {source}")
    if Path(source).is_dir():
        return SemanticIds.load(source)
    if data is None:
        raise ValueError(f"a file of codes needs its catalogue: add --data FOLDER to {source}")
    return read_codes_file(source, load_catalog(data))


def _fitted_here(config: InspectConfig) -> SemanticIds:
    scheme = config.tokenizer or ""
    if config.data is None:
        raise ValueError(f"a scheme needs the items it is for: add --data FOLDER to {scheme}")
    learns_from_cf = load_tokenizer_class(scheme).uses_cf
    fitted = IdsConfig(
        scheme=scheme,
        codebook_sizes=config.codebook_sizes,
        settings=config.settings,
        embeddings=config.embeddings or "lsa",
        cf_embeddings=config.cf_embeddings if learns_from_cf else None,
        collisions="keep",
    )
    with track_epochs("semantic ids") as show:
        return make_semantic_ids(fitted, load_catalog(config.data), on_epoch=show)


def teacher_train(config: TeacherTrainConfig, console: Console) -> None:
    """Train a collaborative-filtering teacher and print how it ranks the test targets."""
    dataset = load_dataset(config.data, split=config.split)
    table = Table("seed", "best epoch", "policy", "R@5", "N@5", "R@10", "N@10")
    for seed in config.seeds:
        model, state, _ = fit_teacher(
            dataset, config.teacher, config.training, seed=seed, folder=Path(config.out)
        )
        table.title = model.label
        ranks = rank_by_scores(model, dataset.splits.test, title="test")
        for policy in POLICIES:
            metrics = ranks.metrics(policy, "expected")
            shown = (f"{metrics[name].mean():.4f}" for name in ("R@5", "N@5", "R@10", "N@10"))
            table.add_row(str(seed), str(state.best_epoch), f"seen items {policy}", *shown)
    console.print(table)
    console.print(f"teachers: {config.out}")


def teacher_export(config: TeacherExportConfig, console: Console) -> None:
    """Write the item vectors of a trained teacher, for schemes that learn from interactions."""
    dataset = load_dataset(config.data, split=config.split)
    teacher, lineage = read_teacher(
        dataset,
        seed=config.seed,
        folder=Path(config.teachers),
        other_interactions=config.other_interactions,
    )
    vectors = item_vectors(teacher, dataset, lineage)
    vectors.save(config.out)
    zero = vectors.provenance.config["unseen_items"]
    console.print(f"{len(dataset.catalog)} item vectors, {zero} of them zero: {config.out}")


def lm_train(config: LmTrainConfig, console: Console) -> None:
    """Train a small language model of your own on a catalogue's texts, from nothing."""
    report = train_small_lm(
        load_dataset(config.data, split=config.split),
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
    """Judge the titles that the lm arms of a comparison write, beside those of their base."""
    console.print(study_fluency(config).table())
    console.print(f"files: {config.run}/fluency/fluency.md, fluency.json")


def compare(config: CompareConfig, console: Console) -> None:
    """Train and rank every arm on the same data, ids, budget and seeds, and print the table."""
    comparison = run_comparison(config)
    for policy in POLICIES:
        console.print(comparison.table(policy=policy))
    console.print(f"files: {config.out}/comparison.md, comparison.json, per_user.parquet")


@dataclass(frozen=True)
class _Command:
    config: type[Any]
    run: Callable[[Any, Console], None]
    trains: bool  # together with other processes; the main one does the rest alone


_Commands = Mapping[str, "_Command | _Commands"]

_COMMANDS: _Commands = {
    "build": _Command(BuildConfig, build, trains=True),
    "inspect": _Command(InspectConfig, inspect, trains=False),
    "teacher": {
        "train": _Command(TeacherTrainConfig, teacher_train, trains=True),
        "export": _Command(TeacherExportConfig, teacher_export, trains=False),
    },
    "lm": {
        "train": _Command(LmTrainConfig, lm_train, trains=True),
        "fluency": _Command(FluencyConfig, lm_fluency, trains=False),
    },
    "compare": _Command(CompareConfig, compare, trains=True),
}
_GROUPS = {
    "teacher": "Train a collaborative-filtering teacher, or export its item vectors.",
    "lm": "Train a small language model, or judge the titles that arms write.",
}


def _parser() -> ArgumentParser:
    parser = _empty_parser("Semantic-ID generative recommendation.", prog="semid")
    _add_commands(parser, _COMMANDS)
    return parser


def _add_commands(parser: ArgumentParser, commands: _Commands) -> None:
    subcommands = parser.add_subcommands(required=True, dest="subcommand")
    for name, command in commands.items():
        says = command.run.__doc__ if isinstance(command, _Command) else _GROUPS[name]
        sub = _empty_parser(says)
        if isinstance(command, _Command):
            settings = "a YAML file of options; options win"
            sub.add_argument("--config", action="config", help=settings)
            sub.add_class_arguments(command.config)
            _also_spelled(sub, "ids.scheme", "--tokenizer")
        subcommands.add_subcommand(name, sub, help=says)
        if not isinstance(command, _Command):
            _add_commands(sub, command)  # a group has to be in its place before it is filled


def _empty_parser(description: str | None, **settings: Any) -> ArgumentParser:
    return ArgumentParser(
        description=description, exit_on_error=False, allow_abbrev=False, **settings
    )


def _chosen(settings: Any) -> tuple[_Command, dict[str, Any]]:
    """The command that was asked for, however deep it stands, and its options."""
    command: _Command | _Commands = _COMMANDS
    while not isinstance(command, _Command):
        command, settings = command[settings.subcommand], settings[settings.subcommand]
    return command, {name: value for name, value in vars(settings).items() if name != "config"}


def _told_apart(record: dict[str, Any]) -> str:
    lost = record["reconstruction_lost"]
    price = "not known" if lost is None else f"{lost:.2%}"
    return (
        f"collisions: {record['colliding_items']} items before {record['strategy']}, "
        f"{record['left']} after; {record['moved']} moved, {record['numbered']} numbered; "
        f"reconstruction lost: {price}"
    )


def _also_spelled(parser: ArgumentParser, name: str, option: str) -> None:
    """Give the option of that name, where there is one, a second spelling."""
    for action in parser._actions:
        if action.dest == name:
            action.option_strings = [*action.option_strings, option]
            parser._option_string_actions[option] = action


def _print_quality(quality: dict[str, Any], console: Console) -> None:
    summary = Table("items", "distinct ids", "colliding items", "largest group")
    counts = ("items", "distinct", "colliding_items", "largest_group")
    summary.add_row(*(str(quality[name]) for name in counts))
    console.print(summary)
    table = Table("level", "codes", "used", "share", "perplexity", "prefixes", "most children")
    for number, level in enumerate(quality["levels"], start=1):
        table.add_row(
            str(number),
            str(level["size"]),
            str(level["used"]),
            f"{level['utilisation']:.1%}",
            f"{level['perplexity']:.1f}",
            str(level["prefixes"]),
            str(level["max_children"]),
        )
    console.print(table)
    for space, found in quality.get("neighbours", {}).items():
        console.print(
            f"{space}: codes in common with the {found['k']} nearest items, AUC {found['auc']:.3f}"
        )
        table = Table("down to level", "nearest items", "all other items")
        for number, shares in enumerate(zip(found["share"], found["random"], strict=True), start=1):
            table.add_row(str(number), *(f"{share:.2%}" for share in shares))
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
