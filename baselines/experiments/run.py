"""The main job: the same data, ids, budget and seeds for every arm, and one table at the end."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from baselines.contracts.backbone import Backbone, TargetDistributions
from baselines.contracts.scorer import ItemScorer, require_vectors
from baselines.data.dataset import Dataset
from baselines.data.loading import load_dataset
from baselines.evaluation.agreement import agreement
from baselines.evaluation.ranking import rank_by_scores
from baselines.experiments.arms import Arm, arms_to_fuse, parse_arms
from baselines.experiments.claim import CLAIM, claimed
from baselines.experiments.comparison import Comparison, RunRecord, compare, write_per_user
from baselines.experiments.config import CompareConfig
from baselines.experiments.controls import control_records
from baselines.experiments.records import record
from baselines.experiments.report import comparison_page
from baselines.experiments.schemes import Scheme, scheme_card, schemes_of
from baselines.experiments.settings import told_settings
from baselines.models.evaluate import decoded
from baselines.models.fit import fit_backbone
from baselines.models.fusion import decoded_with_teacher, teacher_fusion
from baselines.models.registry import require_fit
from baselines.models.stages import is_fitted
from baselines.runtime.distributed import processes
from baselines.teachers.cache import cached_mass, code_table_hash
from baselines.teachers.calibration import fit_temperature
from baselines.teachers.distributions import LiveDistributions, StoredDistributions
from baselines.teachers.fit import fit_teacher, scores_hash, settled_training
from baselines.teachers.mass import mass_source
from baselines.teachers.model import TeacherModel
from baselines.teachers.registry import teacher_class
from baselines.teachers.rounded import RoundedScorer
from baselines.teachers.simple import Popularity
from baselines.teachers.vectors import item_vectors, require_item_vectors
from baselines.training.checkpoint import TrainingState, identity, recipe
from baselines.training.precision import settled
from semid.atomic import atomic_write, is_temporary, remove_leftovers
from semid.ids import SemanticIds
from semid.provenance import Provenance, hash_json, read_json, write_json
from semid.settings import as_begun, as_json
from semid.trie import CodeTrie

_EMBEDDINGS, _TEACHERS, _TEACHER_VECTORS = "embeddings", "teachers", "teacher_vectors"
_MASS = "mass"
_CONFIG, _DATA = "config.json", "data.json"
_FUSED = ", teacher in the beam"
_KEPT = (_EMBEDDINGS, _TEACHERS, _TEACHER_VECTORS)  # for the next try where ids cannot be made


def run_comparison(config: CompareConfig) -> Comparison:
    """Run every stage that is not done yet, and write the comparison.

    Below ``config.out``: ``config.json``, ``data.json``, ``ids/`` and ``ids-<name>/``, a folder
    for each trained model, ``comparison.json``, ``comparison.md`` and ``per_user.parquet``. Several
    processes (``baselines.runtime.distributed``) share training and ranking; the main one writes.

    Raises:
        ValueError: If a setting does not fit the data, or ``out`` holds another comparison or one
            of other data, or another is at work there.
    """
    out = Path(config.out)
    with claimed(out, _claim(config)) if processes().is_main_process else nullcontext():
        return _compared(_as_begun(config), out)


def _compared(config: CompareConfig, out: Path) -> Comparison:
    """The comparison, in a folder that is ours."""
    arms = parse_arms(config)
    fused = arms_to_fuse(config, arms)
    _require_free(out, config)
    schemes = schemes_of(arms, config.ids, config.schemes, out)
    dataset = dataset_of(config)
    _require_same_data(out, config, dataset)
    _require_fit(config, arms, dataset)
    if any(scheme.waits_for_teacher for scheme in schemes):
        require_item_vectors(config.teacher, needed_by="cf_embeddings: teacher")
    config = _settled(config, dataset, out)
    here = processes()
    here.wait_for_everyone()  # so that nobody takes what the main process writes for another run
    if here.is_main_process:
        for folder in {out, _teachers(config, out), _masses(config, out)}:
            remove_leftovers(folder)
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
        pairs=_pairs(arms, fused),
        settings=told_settings(config, dataset, ids),
        schemes=[scheme_card(scheme, its) for scheme, its in ids.items()],
        resamples=config.resamples,
    )
    if here.is_main_process and _may_write(out):
        write_per_user(records, out / "per_user.parquet", users=_user_ids(dataset))
        comparison.to_json(out / "comparison.json")
        atomic_write(out / "comparison.md", comparison_page(comparison))
    return comparison


def _claim(config: CompareConfig) -> dict[str, Any]:
    """What commands that work in one folder at the same time have to agree on."""
    settings: dict[str, Any] = recipe(config)
    return {name: value for name, value in settings.items() if name not in ("out", "mass_cache")}


def _as_begun(config: CompareConfig) -> CompareConfig:
    """With what its folder was made with before a setting came that the command does not name."""
    found = read_json(Path(config.out) / _CONFIG, take_unsealed=True)
    return config if found is None else as_begun(config, found)


def _settled(config: CompareConfig, dataset: Dataset, out: Path) -> CompareConfig:
    """With a precision wherever ``auto`` leaves it open."""
    folder = _teachers(config, out)
    return dataclasses.replace(
        config,
        training=settled(config.training),
        teacher_training=settled_training(
            dataset, config.teacher, config.teacher_training, folder=folder
        ),
    )


def _require_free(out: Path, config: CompareConfig) -> None:
    """Refuse a folder that holds another comparison, or anything but what ids are made from."""
    found = read_json(out / _CONFIG, take_unsealed=True)
    if found is not None:
        found, settings = recipe(found), recipe(config)
        changed = sorted(
            key for key in settings.keys() | found.keys() if settings.get(key) != found.get(key)
        )
        free = ("out", "fusion", "resamples", "mass_cache")
        if changed := [key for key in changed if key not in free]:
            raise ValueError(
                f"{out} holds a comparison with other settings ({', '.join(changed)}). "
                "Name another folder with --out, or remove this one."
            )
    elif out.exists() and not (out / _DATA).exists():
        for file in out.iterdir():
            if file.name not in (*_KEPT, CLAIM) and not is_temporary(file.name):
                raise ValueError(f"{out} holds other files. Name a new folder with --out.")


def _may_write(out: Path) -> bool:
    """Whether the folder is ours; a finished one of another user is read all the same."""
    return os.access(out, os.W_OK)


def _require_fit(config: CompareConfig, arms: list[Arm], dataset: Dataset) -> None:
    """Refuse settings that do not fit each other or the data, before anything is trained."""
    config.mass.require_fit(len(dataset.catalog))
    taught = [arm for arm in arms if arm.objective.needs_teacher]
    if config.mass.top_k is not None and taught:
        require_vectors(teacher_class(config.teacher), needed_by="top_k")
    for arm in taught:
        if "bfloat16" in arm.objective.reference:
            require_vectors(teacher_class(config.teacher), needed_by="reference=bfloat16")
            if config.mass.top_k is not None:
                raise ValueError(
                    "reference=bfloat16 rounds the scores of all items, and mass.top_k "
                    f"{config.mass.top_k} takes some. Leave one of them out."
                )
    kinds = list(dict.fromkeys(arm.kind for arm in arms))
    require_fit(kinds, config.backbones, dataset.catalog, teacher_class(config.teacher))


def _require_same_data(out: Path, config: CompareConfig, dataset: Dataset) -> None:
    found = read_json(out / _DATA, take_unsealed=True)
    if found is not None and not describes(found, dataset):
        raise ValueError(
            f"{out} was begun on other data than {config.data} holds now. "
            "Name another folder with --out, or remove this one."
        )


def _begin(
    out: Path, config: CompareConfig, dataset: Dataset, ids: Mapping[Scheme, SemanticIds]
) -> None:
    """Make ``out`` the folder of this comparison, now that settings and data fit each other."""
    for name, values in ((_CONFIG, as_json(config)), (_DATA, describe(dataset))):
        if _may_write(out) and read_json(out / name, take_unsealed=True) != values:
            write_json(out / name, values)
    for scheme, made in ids.items():
        if not scheme.folder.exists():
            made.save(scheme.folder)


def describe(dataset: Dataset) -> dict[str, Any]:
    """What a comparison remembers of its data, as JSON values: equal data are equal."""
    return {
        "name": dataset.name,
        "protocol": dataset.splits.protocol,
        "statistics": dataset.statistics,
        "dropped": dataset.dropped,
        "noted": dataset.noted,
        "item_order": dataset.catalog.order_hash,
        "train": dataset.splits.train_hash,
        "valid": dataset.splits.valid.content_hash(),
        "test": dataset.splits.test.content_hash(),
    }


def describes(recorded: Mapping[str, Any], dataset: Dataset) -> bool:
    """Whether what `describe` recorded fits these data; counts that it did not know do not matter.

    Counts newer than the record say nothing new: the hashes tell whether the data are the same.
    """
    found = describe(dataset)
    for name in ("statistics", "dropped"):
        known = recorded.get(name, {})
        found[name] = {kind: count for kind, count in found[name].items() if kind in known}
    return {**recorded, "noted": None} == {**found, "noted": None}


def dataset_of(config: CompareConfig) -> Dataset:
    """The data of a comparison, as its settings read them."""
    return load_dataset(
        config.data,
        split=config.split,
        ties=config.ties,
        repeats=config.repeats,
        time_format=config.time_format,
    )


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


def _masses(config: CompareConfig, out: Path) -> Path:
    return Path(config.mass_cache or out / _MASS)


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
        temperature = _temperature(config, dataset, teacher, lineage, out)
    records: dict[Arm, list[RunRecord]] = {}
    for scheme, its in ids.items():
        stored: dict[bool, StoredDistributions] = {}  # by whether scores are rounded
        for arm in (arm for arm in arms if arm.scheme == scheme.name):
            backbone = arm.kind.build(
                config.backbones,
                its.codes,
                its.sizes,
                seed,
                catalog=dataset.catalog,
                teacher=teacher,
            ).to(processes().device)
            folder = out / f"{arm.folder}-{seed}"
            title = f"{arm.label}, seed {seed}"
            of_teacher = temperature if arm.objective.needs_teacher else None
            distributions: TargetDistributions | None = None
            if of_teacher is not None and not is_fitted(backbone, folder):
                scorer = _scorer(arm, teacher)
                source = partial(mass_source, scorer, temperature=of_teacher, config=config.mass)
                trie = CodeTrie.from_paths(its.codes, max(its.sizes))
                own = backbone.distributions(scorer, dataset.splits.train, of_teacher)
                if own is not None:
                    distributions = own
                elif code_table_hash(backbone.trie) != code_table_hash(trie):  # it writes titles
                    live = source(backbone.trie)
                    distributions = LiveDistributions(live, dataset.splits.train)
                else:
                    rounded = scorer is not teacher
                    if rounded not in stored:
                        stored[rounded] = StoredDistributions(
                            cached_mass(  # under no other name, which would outlive its scheme
                                source(trie),
                                dataset.splits.train,
                                teacher=scores_hash(lineage),
                                folder=_masses(config, out),
                            )
                        )
                    distributions = stored[rounded]
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
            made_from = {
                "model": identity(Provenance.read(folder)),
                **arm.ranked_by(config.backbones),
            }
            path = folder / f"test{arm.mark}"
            ranks, notes = decoded(backbone, dataset, evaluation, path, title, made_from=made_from)
            notes |= agreement(ranks, teacher_ranks, evaluation.ties)
            if of_teacher is not None:
                notes["teacher_temperature"] = of_teacher
            beside = [teacher] if arm.kind.taught else []
            records[arm] = [run(arm.label, ranks=ranks, models=[backbone, *beside], notes=notes)]
            if arm in fused:
                mask_history = config.mass.mask_history
                guided_by = [scores_hash(lineage), temperature, mask_history]
                fuse_at = partial(
                    teacher_fusion,
                    teacher,
                    backbone.trie,
                    temperature=temperature,
                    mask_history=mask_history,
                )
                ranks, notes = decoded_with_teacher(
                    backbone,
                    fuse_at,
                    dataset,
                    evaluation,
                    config.fusion.weights,
                    folder=folder / f"fused{arm.mark}-{hash_json(guided_by)[:8]}",
                    title=f"{title}, teacher in the beam",
                    made_from={**made_from, "guided_by": guided_by},
                )
                notes |= agreement(ranks, teacher_ranks, evaluation.ties)
                label = arm.label + _FUSED
                fused_run = run(label, ranks=ranks, models=[backbone, teacher], notes=notes)
                records[arm].append(fused_run)
            del backbone  # a language model is large: it goes before the next is loaded
    for arm in arms:
        yield from records[arm]


def _pairs(arms: Sequence[Arm], fused: set[Arm]) -> dict[str, str]:
    """Rows and what they are without TCA."""
    found = {}
    for arm in arms:
        plain = arm.counterpart(arms)
        if plain is not None:
            found[arm.label] = plain.label
            if {arm, plain} <= fused:
                found[arm.label + _FUSED] = plain.label + _FUSED
    return found


def _scorer(arm: Arm, teacher: TeacherModel) -> ItemScorer:
    return RoundedScorer(teacher) if "bfloat16" in arm.objective.reference else teacher


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
        "backbone": arm.kind.trained_as or arm.backbone,
        "shape": recipe(arm.kind.settings(config.backbones)),
        "objective": dataclasses.asdict(arm.objective),
        "training": recipe(config.training),
        "evaluation": dataclasses.asdict(config.evaluation),
        "seed": seed,
    }
    if temperature is not None or arm.kind.taught:
        inputs["teacher"] = scores_hash(teacher)
    if temperature is not None:
        settings |= {"temperature": temperature, "mass": dataclasses.asdict(config.mass)}
    return Provenance(
        kind="generator",
        content="",
        items=dataset.catalog.order_hash,
        seen=dataset.splits.train_hash,
        inputs=inputs,
        config=json.loads(json.dumps(settings)),
    )


def _user_ids(dataset: Dataset) -> list[str | int]:
    test = dataset.splits.test
    users = test.users[test.targets()[0]]
    if dataset.interactions is None:
        return [int(user) for user in users]
    return [dataset.interactions.user_ids[user] for user in users]
