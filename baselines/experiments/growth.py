"""Which settings may change in a comparison's folder: those that no existing result depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from glob import escape
from pathlib import Path
from typing import Any

from baselines.evaluation.config import ranking_settings
from baselines.experiments.arms import Arm
from baselines.experiments.claim import CLAIM
from baselines.experiments.config import CompareConfig
from baselines.experiments.folder import CONFIG, DATA, EMBEDDINGS, TEACHER_VECTORS, TEACHERS
from baselines.experiments.schemes import FROM_TEACHER, schemes_of
from baselines.models.config import BackboneConfigs
from baselines.training.checkpoint import without_memory_settings
from baselines.training.tracking import TENSORBOARD
from semid.atomic import is_temporary
from semid.provenance import read_json
from semid.settings import as_json
from semid.vector_files import is_vector_file

_KEPT = (
    EMBEDDINGS,
    TEACHERS,
    TEACHER_VECTORS,
    TENSORBOARD,
)  # kept for the next attempt if IDs cannot be built
_FREE = (
    *("out", "data", "seeds", "arms", "fusion", "resamples", "counted", "mass_cache", "teachers"),
    *("log_to", "wide"),
)
_OF_SCHEMES = ("ids", "schemes")


def require_free(out: Path, config: CompareConfig, arms: Sequence[Arm]) -> None:
    """Refuse a folder whose results depend on other settings, or that holds unrelated files.

    Seeds, arms, schemes, fusion and resamples may be added or dropped, settings that no existing
    result depends on may change, and data and caches may have moved.

    Args:
        out: The folder.
        config: The settings.
        arms: The arms in the settings.

    Raises:
        ValueError: If a setting that an existing result depends on has changed; names it.
    """
    found = read_json(out / CONFIG, take_unsealed=True)
    if found is not None:
        changed = [
            *_changed(config, arms, without_memory_settings(found), out),
            *_changed_ids(config, arms, found),
        ]
        if changed:
            raise ValueError(
                f"{out} holds a comparison with other settings ({', '.join(sorted(changed))}). "
                "Name another folder with --out, or remove this one."
            )
    elif out.exists() and not (out / DATA).exists():
        for file in out.iterdir():
            if file.name not in (*_KEPT, CLAIM) and not is_temporary(file.name):
                raise ValueError(f"{out} holds other files. Name a new folder with --out.")


def _changed(
    config: CompareConfig, arms: Sequence[Arm], before: dict[str, Any], out: Path
) -> Iterator[str]:
    """Names of settings that differ, except those of IDs and of backbones not yet trained."""
    trained = [arm for arm in arms if any(out.glob(f"{escape(arm.folder)}-[0-9]*"))]
    unused = {field.name for field in dataclasses.fields(BackboneConfigs)}
    unused -= {name for arm in trained for name in _shapes(arm, config.backbones)}
    free = {*_FREE, *_OF_SCHEMES, *(f"backbones.{name}" for name in unused)}
    earlier, later = (
        values | {"evaluation": ranking_settings(values.get("evaluation", {}))}
        for values in (before, without_memory_settings(config))
    )
    return _differing(earlier, later, free=free)


def _shapes(arm: Arm, configs: BackboneConfigs) -> Iterator[str]:
    """Names of the settings that belong to an arm's backbone."""
    kinds = (arm.backbone_class.config_class, arm.backbone_class.extra_config_class)
    known = {
        type(getattr(configs, field.name)): field.name for field in dataclasses.fields(configs)
    }
    for kind in kinds:
        if kind is not None:
            yield known.get(kind, "settings")


def _changed_ids(
    config: CompareConfig, arms: Sequence[Arm], before: Mapping[str, Any]
) -> Iterator[str]:
    """Names of settings that a scheme's IDs were built with and that differ."""
    for scheme in schemes_of(arms, config.ids, config.schemes, Path(config.out)):
        if scheme.name is None:
            name, earlier = "ids", before.get("ids")
        else:
            name, earlier = f"schemes.{scheme.name}", before.get("schemes", {}).get(scheme.name)
        if earlier is None or not scheme.folder.exists():
            continue
        yield from _differing(_by_name(earlier), _by_name(as_json(scheme.config)), of=name)
        first = before.get("seeds", [None])[0]
        if scheme.config.cf_embeddings == FROM_TEACHER and first != config.seeds[0]:
            yield f"the first of seeds, whose teacher {name} was made from"


def _by_name(ids: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of IDs, with files by name only: their content is compared elsewhere."""
    found = dict(ids)
    for name in ("embedding_ids", "cf_embedding_ids"):
        if found.get(name):
            found[name] = Path(found[name]).name
    for name in ("scheme", "embeddings", "cf_embeddings"):
        source = found.get(name) or ""
        if source.startswith("file:"):
            found[name] = f"file:{Path(source.removeprefix('file:')).name}"
        elif is_vector_file(source):
            found[name] = Path(source).name
    return found


def _differing(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    of: str = "",
    free: Collection[str] = (),
) -> Iterator[str]:
    """Names of settings with different values, such as ``evaluation.beam``, except free ones."""
    for key in before.keys() | now.keys():
        name = f"{of}.{key}" if of else key
        earlier, later = before.get(key), now.get(key)
        if name in free or earlier == later:
            continue
        if isinstance(earlier, Mapping) and isinstance(later, Mapping):
            yield from _differing(earlier, later, of=name, free=free)
        else:
            yield name
