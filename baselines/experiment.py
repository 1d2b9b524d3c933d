"""The main job: the same data, ids, budget and seeds for every arm, and one table at the end."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from baselines.arms import Arm, BackboneConfigs
from baselines.backbones.backbone import Backbone
from baselines.backbones.fit import fit_backbone
from baselines.comparison import Comparison, RunRecord, compare, write_per_user
from baselines.controls import control_records
from baselines.data.dataset import Dataset, Split, load_dataset
from baselines.data.interactions import Ties
from baselines.evaluation import EvaluationConfig, rank_by_scores
from baselines.fusion import FusionConfig, decoded_with_teacher
from baselines.parallel import processes
from baselines.records import agreement, decoded, record
from baselines.schemes import Scheme, scheme_card, schemes_of
from baselines.teachers.best_items import require_dot_product
from baselines.teachers.cache import cached_mass, code_table_hash
from baselines.teachers.calibration import fit_temperature
from baselines.teachers.config import TeacherConfig
from baselines.teachers.distributions import (
    LiveDistributions,
    StoredDistributions,
    TargetDistributions,
)
from baselines.teachers.fit import fit_teacher, scores_hash, teacher_training
from baselines.teachers.mass import MassConfig, mass_source
from baselines.teachers.model import TeacherModel
from baselines.teachers.simple import Popularity
from baselines.teachers.vectors import item_vectors
from baselines.training import TrainingConfig, TrainingState, is_trained, recipe
from semid.build import IdsConfig
from semid.ids import SemanticIds
from semid.provenance import Provenance, atomic_write, hash_json
from semid.trie import CodeTrie

_EMBEDDINGS, _TEACHERS, _TEACHER_VECTORS = "embeddings", "teachers", "teacher_vectors"
_MASS = "mass"
_KEPT = (_EMBEDDINGS, _TEACHERS, _TEACHER_VECTORS)  # for the next try where ids cannot be made


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Settings of a comparison.

    Attributes:
        data: A folder in the plain layout, or ``synthetic``.
        out: Folder of the results. The same command goes on where it was stopped.
        split: Protocol; ``auto`` is leave-one-out, or the given windows where there are some.
        ties: Order of one user's events at one time.
        ids: Where the semantic ids come from of arms that name no scheme. Here and in ``schemes``,
            ``cf_embeddings: teacher`` stands for the item vectors of this comparison's teacher of
            the first seed.
        schemes: Further ID schemes by name, to compare beside each other.
        arms: What is compared, ``backbone[@scheme]:objective[:alpha][:KEY=VALUE ...]``; the first
            is the baseline.
        seeds: Each arm, and the teacher, is trained once with each.
        masked: Whether softmaxes run over the tokens that may follow a prefix (MSL's mask) or over
            the vocabulary, in arms that do not say so themselves.
        tau: Temperature of the generator's softmax in the loss, likewise.
        temperature: Divides the teacher's scores before its softmax. ``auto`` takes, for each
            seed's teacher, the one that fits the validation targets best.
        mass: What the teacher's token distributions are made from.
        mass_cache: Folder of token distributions, to share them between comparisons; None for one
            below ``out``.
        teacher: Which teacher, in which shape.
        teacher_training: How the teacher is trained.
        teachers: Folder of trained teachers, to share them between comparisons; None for one below
            ``out``.
        backbones: Shapes of the backbones.
        training: How every arm is trained.
        evaluation: How everything is ranked.
        fusion: Which arms are also decoded with their teacher; may change on a folder that is
            finished, since nothing is trained for it.
        resamples: Bootstrap resamples of the users.

    Raises:
        ValueError: If the temperature is not above 0, there are no resamples, or the name of a
            scheme cannot be that of a folder.
    """

    data: str = "synthetic"
    out: str = "runs/compare"
    split: Split = "auto"
    ties: Ties = "file"
    ids: IdsConfig = field(default_factory=IdsConfig)
    schemes: dict[str, IdsConfig] = field(default_factory=dict)
    arms: tuple[str, ...] = ("tiger:ntp", "tiger:soft_ntp:0.1", "tiger:soft_ce:0.5")
    seeds: tuple[int, ...] = (0, 1, 2)
    masked: bool = True
    tau: float = 1.0
    temperature: float | Literal["auto"] = 1.0
    mass: MassConfig = field(default_factory=MassConfig)
    mass_cache: str | None = None
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    teacher_training: TrainingConfig = field(default_factory=teacher_training)
    teachers: str | None = None
    backbones: BackboneConfigs = field(default_factory=BackboneConfigs)
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(schedule="cosine", weight_decay=0.05)
    )
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    resamples: int = 1000

    def __post_init__(self) -> None:
        if self.temperature != "auto" and not self.temperature > 0:
            raise ValueError(f"temperature must be above 0 or auto, got {self.temperature}")
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")
        for name in self.schemes:
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise ValueError(
                    f"schemes must have names of letters, digits, '_', '-' and '.', got {name!r}"
                )


def run_comparison(config: CompareConfig) -> Comparison:
    """Run every stage that is not done yet, and write the comparison.

    Below ``config.out``: ``config.json``, ``data.json``, ``ids/`` and ``ids-<name>/``, a folder
    for each trained model, ``comparison.json``, ``comparison.md`` and ``per_user.parquet``. Several
    processes (``baselines.parallel``) share training, of ids too, and ranking; the main one
    writes.

    Raises:
        ValueError: If a setting does not fit the data, or ``out`` holds another comparison or one
            of other data.
    """
    arms = parse_arms(config)
    fused = config.fusion.choose(arms, config.seeds, _arm_parser(config))
    out = Path(config.out)
    schemes = schemes_of(arms, config.ids, config.schemes, out)
    _require_free(out, config)
    dataset = load_dataset(config.data, split=config.split, ties=config.ties)
    config.mass.require_fit(len(dataset.catalog))
    for arm in arms:
        arm.require_fit(config.backbones, dataset.catalog)
    here = processes()
    here.wait_for_everyone()  # so that nobody takes what the main process writes for another run
    if any(scheme.waits_for_teacher for scheme in schemes):
        teacher, _, lineage = _teacher(config, dataset, config.seeds[0], out)
        if here.is_main_process:
            item_vectors(teacher, dataset, lineage).save(out / _TEACHER_VECTORS)
        here.wait_for_everyone()
    ids = {
        scheme: scheme.ids(
            dataset, cache_dir=out / _EMBEDDINGS, teacher_vectors=out / _TEACHER_VECTORS
        )
        for scheme in schemes
    }
    if here.is_main_process:
        _begin(out, config, dataset, ids)
    here.wait_for_everyone()
    records = [_popularity(config, dataset)]
    for seed in config.seeds:
        records += _records_of_seed(config, arms, fused, dataset, ids, seed, out)
    if config.fusion.controls:
        records += control_records(
            [arm for arm in arms if arm in fused],
            dataset,
            {scheme.name: its for scheme, its in ids.items()},
            backbones=config.backbones,
            evaluation=config.evaluation,
            seeds=config.seeds,
            teacher_of=lambda seed: _tempered_teacher(config, dataset, seed, out),
            out=out,
        )
    comparison = compare(
        records,
        baseline=arms[0].label,
        settings=_settings(config, dataset, ids),
        schemes=[scheme_card(scheme, its) for scheme, its in ids.items()],
        resamples=config.resamples,
    )
    if here.is_main_process:
        write_per_user(records, out / "per_user.parquet", users=_user_ids(dataset))
        comparison.to_json(out / "comparison.json")
        atomic_write(out / "comparison.md", comparison.to_markdown())
    return comparison


def parse_arms(config: CompareConfig) -> list[Arm]:
    """The arms of a comparison, the baseline first.

    Raises:
        ValueError: If one cannot be read, one comes twice, or there are none.
    """
    arms = list(map(_arm_parser(config), config.arms))
    if not arms or not config.seeds:
        raise ValueError("expected at least one arm and one seed; see --arms and --seeds")
    given: dict[str, list[Any]] = {"arm": [a.label for a in arms], "seed": list(config.seeds)}
    for what, values in given.items():
        if len(set(values)) < len(values):
            raise ValueError(f"expected every {what} once, got {values}")
    return arms


def _arm_parser(config: CompareConfig) -> Callable[[str], Arm]:
    return partial(Arm.parse, masked=config.masked, tau=config.tau)


def _require_free(out: Path, config: CompareConfig) -> None:
    """Refuse a folder that holds another comparison, or anything but what ids are made from."""
    path = out / "config.json"
    if path.exists():
        found, settings = recipe(json.loads(path.read_text())), recipe(config)
        changed = sorted(
            key for key in settings.keys() | found.keys() if settings.get(key) != found.get(key)
        )
        free = ("out", "fusion", "resamples", "mass_cache")
        if changed := [key for key in changed if key not in free]:
            raise ValueError(
                f"{out} holds a comparison with other settings ({', '.join(changed)}). "
                "Name another folder with --out, or remove this one."
            )
    elif out.exists() and any(file.name not in _KEPT for file in out.iterdir()):
        raise ValueError(f"{out} holds other files. Name a new folder with --out.")


def _begin(
    out: Path, config: CompareConfig, dataset: Dataset, ids: Mapping[Scheme, SemanticIds]
) -> None:
    """Make ``out`` the folder of this comparison, now that settings and data fit each other."""
    data, path = describe(dataset), out / "data.json"
    if path.exists() and json.loads(path.read_text()) != data:
        raise ValueError(
            f"{out} was begun on other data than {config.data} holds now. "
            "Name another folder with --out, or remove this one."
        )
    atomic_write(out / "config.json", json.dumps(_as_json(config), indent=2) + "\n")
    atomic_write(path, json.dumps(data, indent=2) + "\n")
    for scheme, made in ids.items():
        if not scheme.folder.exists():
            made.save(scheme.folder)


def _as_json(config: CompareConfig) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return settings


def describe(dataset: Dataset) -> dict[str, Any]:
    """What a comparison remembers of its data, as JSON values: equal data are equal."""
    return {
        "name": dataset.name,
        "protocol": dataset.splits.protocol,
        "statistics": dataset.statistics,
        "dropped": dataset.dropped,
        "item_order": dataset.catalog.order_hash,
        "train": dataset.splits.train_hash,
        "valid": dataset.splits.valid.content_hash(),
        "test": dataset.splits.test.content_hash(),
    }


def _popularity(config: CompareConfig, dataset: Dataset) -> RunRecord:
    scorer = Popularity(dataset.splits.train, len(dataset.catalog))
    ranks = rank_by_scores(scorer, dataset.splits.test, title="Popularity")
    return record("Popularity", "reference", ranks, seed=None, evaluation=config.evaluation)


def _teacher(
    config: CompareConfig, dataset: Dataset, seed: int, out: Path
) -> tuple[TeacherModel, TrainingState, Provenance]:
    folder = _teachers(config, out)
    return fit_teacher(dataset, config.teacher, config.teacher_training, seed=seed, folder=folder)


def _teachers(config: CompareConfig, out: Path) -> Path:
    return Path(config.teachers) if config.teachers else out / _TEACHERS


def _temperature(
    config: CompareConfig, dataset: Dataset, teacher: TeacherModel, lineage: Provenance, out: Path
) -> float:
    if config.temperature != "auto":
        return config.temperature
    return fit_temperature(
        teacher,
        dataset.splits.valid,
        teacher=scores_hash(lineage),
        folder=_teachers(config, out),
        mask_history=config.mass.mask_history,
    ).temperature


def _tempered_teacher(
    config: CompareConfig, dataset: Dataset, seed: int, out: Path
) -> tuple[TeacherModel, TrainingState, float]:
    teacher, state, lineage = _teacher(config, dataset, seed, out)
    return teacher, state, _temperature(config, dataset, teacher, lineage, out)


def _records_of_seed(
    config: CompareConfig,
    arms: list[Arm],
    fused: set[Arm],
    dataset: Dataset,
    ids: Mapping[Scheme, SemanticIds],
    seed: int,
    out: Path,
) -> Iterator[RunRecord]:
    teacher, state, lineage = _teacher(config, dataset, seed, out)
    title = f"{teacher.label}, seed {seed}, test"
    teacher_ranks = rank_by_scores(teacher, dataset.splits.test, title=title)
    yield record(
        f"{teacher.label} (teacher)",
        "teacher",
        teacher_ranks,
        [teacher],
        seed=seed,
        evaluation=config.evaluation,
        state=state,
    )
    temperature = 1.0
    if fused or any(arm.objective.needs_teacher for arm in arms):
        if config.mass.top_k is not None:
            require_dot_product(teacher)
        temperature = _temperature(config, dataset, teacher, lineage, out)
    records: dict[Arm, list[RunRecord]] = {}
    for scheme, its in ids.items():
        stored: StoredDistributions | None = None
        for arm in (arm for arm in arms if arm.scheme == scheme.name):
            backbone = arm.build(
                config.backbones, its.codes, its.sizes, seed, catalog=dataset.catalog
            ).to(processes().device)
            folder = out / f"{arm.folder}-{seed}"
            title = f"{arm.label}, seed {seed}"
            of_teacher = temperature if arm.objective.needs_teacher else None
            distributions: TargetDistributions | None = None
            if of_teacher is not None and not is_trained(folder):
                source = partial(mass_source, teacher, temperature=of_teacher, config=config.mass)
                trie = CodeTrie.from_paths(its.codes, max(its.sizes))
                if code_table_hash(backbone.trie) != code_table_hash(trie):  # it writes titles
                    live = source(backbone.trie)
                    distributions = LiveDistributions(live, dataset.splits.train)
                else:
                    stored = stored or StoredDistributions(
                        cached_mass(
                            source(trie),
                            dataset.splits.train,
                            teacher=scores_hash(lineage),
                            folder=Path(config.mass_cache) if config.mass_cache else out / _MASS,
                        )
                    )
                    distributions = stored
            state = fit_backbone(
                backbone,
                arm.objective,
                distributions,
                dataset.splits,
                config.training,
                config.evaluation,
                seed=seed,
                folder=folder,
                lineage=_lineage(config, arm, backbone, dataset, its, lineage, of_teacher, seed),
                title=title,
            )
            evaluation = config.evaluation
            run = partial(record, role="arm", seed=seed, evaluation=evaluation, state=state)
            ranks, notes = decoded(backbone, dataset, evaluation, folder / "test", title)
            notes |= agreement(ranks, teacher_ranks, evaluation.ties)
            if of_teacher is not None:
                notes["teacher_temperature"] = of_teacher
            records[arm] = [run(arm.label, ranks=ranks, models=[backbone], notes=notes)]
            if arm in fused:
                mask_history = config.mass.mask_history
                key = hash_json([scores_hash(lineage), temperature, mask_history])[:8]
                ranks, notes = decoded_with_teacher(
                    backbone,
                    teacher,
                    dataset,
                    evaluation,
                    config.fusion.weights,
                    temperature=temperature,
                    mask_history=mask_history,
                    folder=folder / f"fused-{key}",
                    title=f"{title}, teacher in the beam",
                )
                notes |= agreement(ranks, teacher_ranks, evaluation.ties)
                label = f"{arm.label}, teacher in the beam"
                fused_run = run(label, ranks=ranks, models=[backbone, teacher], notes=notes)
                records[arm].append(fused_run)
            del backbone  # a language model is large: it goes before the next is loaded
    for arm in arms:
        yield from records[arm]


def _lineage(
    config: CompareConfig,
    arm: Arm,
    backbone: Backbone,
    dataset: Dataset,
    ids: SemanticIds,
    teacher: Provenance,
    temperature: float | None,
    seed: int,
) -> Provenance:
    inputs = {"semantic_ids": ids.provenance.content, "valid": dataset.splits.valid.content_hash()}
    inputs |= backbone.made_from
    settings = {
        "backbone": arm.backbone,
        "shape": recipe(getattr(config.backbones, arm.backbone)),
        "objective": dataclasses.asdict(arm.objective),
        "training": recipe(config.training),
        "evaluation": dataclasses.asdict(config.evaluation),
        "seed": seed,
    }
    if temperature is not None:
        inputs["teacher"] = scores_hash(teacher)
        settings |= {"temperature": temperature, "mass": dataclasses.asdict(config.mass)}
    return Provenance(
        kind="generator",
        content="",
        items=dataset.catalog.order_hash,
        seen=dataset.splits.train_hash,
        inputs=inputs,
        config=json.loads(json.dumps(settings)),
    )


def _settings(
    config: CompareConfig, dataset: Dataset, ids: Mapping[Scheme, SemanticIds]
) -> dict[str, Any]:
    evaluation = config.evaluation
    said = [
        (f"{scheme.name}: " if scheme.name else "")
        + f"{its.scheme}, sizes {'x'.join(map(str, its.sizes))}"
        for scheme, its in ids.items()
    ]
    return {
        "data": dataset.name,
        "split": dataset.splits.protocol,
        **dataset.statistics,
        "ids": "; ".join(said),
        "seeds": list(config.seeds),
        "epochs at most": config.training.epochs,
        "valid-token mask in training": config.masked,
        "teacher temperature": config.temperature,
        "candidates": "the whole catalogue",
        "beam": evaluation.beam,
        "renormalize": evaluation.renormalize,
        "ties": evaluation.ties,
        **_fusion_setting(config),
        **_language_setting(config),
        "checkpoint chosen by": f"validation N@10, beam {evaluation.validation_beam}, "
        f"{min(evaluation.validation_targets, dataset.splits.valid.num_targets)} targets",
        "processes": processes().num_processes,
        "threads": torch.get_num_threads(),
    }


def _fusion_setting(config: CompareConfig) -> dict[str, str]:
    fusion, beam = config.fusion, config.evaluation.beam
    if not fusion.arms:
        return {}
    weights = ", ".join(f"{weight:g}" for weight in fusion.weights)
    how = f" by validation N@10, beam {beam}" if len(fusion.weights) > 1 else ""
    return {"generator's weight beside the teacher": weights + how}


def _language_setting(config: CompareConfig) -> dict[str, str]:
    if not any(re.match(r"lm\b", arm) for arm in config.arms):
        return {}
    shape = config.backbones.lm
    return {"language model": f"{shape.model}, writes {shape.items}"}


def _user_ids(dataset: Dataset) -> list[str | int]:
    test = dataset.splits.test
    users = test.users[test.targets()[0]]
    if dataset.interactions is None:
        return [int(user) for user in users]
    return [dataset.interactions.user_ids[user] for user in users]
