"""The ID schemes of a comparison: each one's semantic IDs, built or read once for all its arms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from baselines.data.dataset import Dataset
from baselines.experiments.arms import Arm
from baselines.runtime.progress import track_epochs
from semid.build import ids_from_config, require_made_by
from semid.checks import did_you_mean
from semid.config import IdsConfig
from semid.ids import SemanticIds
from semid.inspecting.groups import support_by_level
from semid.provenance import require_same
from semid.quality import id_quality

FROM_TEACHER = "teacher"
"""Value of ``cf_embeddings`` for the item vectors of the comparison's teacher."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scheme:
    """One scheme for the semantic IDs that arms are trained on.

    Attributes:
        name: Its name in arms, after the ``@``; None for the comparison's own.
        config: How its IDs are built.
        folder: Where they are stored: ``ids``, or ``ids-`` and the name.
    """

    name: str | None
    config: IdsConfig
    folder: Path

    @property
    def waits_for_teacher(self) -> bool:
        """Whether its IDs have yet to be built from the teacher's item vectors."""
        return self.config.cf_embeddings == FROM_TEACHER and not self.folder.exists()

    def ids(self, dataset: Dataset, *, cache_dir: Path, teacher_vectors: Path) -> SemanticIds:
        """Its semantic IDs, read from its folder, or else built but not yet saved.

        Args:
            dataset: The data whose items are coded.
            cache_dir: Where embeddings are cached.
            teacher_vectors: The artefact that ``FROM_TEACHER`` refers to.

        Raises:
            ProvenanceError: If they were built from interactions outside the training part of the
                data, such as test targets, or those in the folder were built with other settings
                or from other inputs than those of its config.
            ValueError: If they do not fit the catalogue, or cannot be built from its config.
        """
        config, from_teacher = self.config, self.config.cf_embeddings == FROM_TEACHER
        if self.folder.exists():
            kept = SemanticIds.load(self.folder).for_catalog(dataset.catalog)
            asked = dataclasses.replace(config, cf_embeddings=None) if from_teacher else config
            require_made_by(kept, asked, dataset.catalog, where=self.folder)
            return kept
        if from_teacher:
            config = dataclasses.replace(config, cf_embeddings=str(teacher_vectors))
        title = "semantic ids" if self.name is None else f"semantic ids {self.name}"
        with track_epochs(title) as show:
            ids = ids_from_config(config, dataset.catalog, cache_dir=cache_dir, on_epoch=show)
        if ids.provenance.seen is not None:
            require_same(
                f"interactions that the {title} have seen",
                dataset.splits.train_hash,
                ids.provenance.seen,
                what_to_do="Take cf_embeddings of the training part of this data and split.",
            )
        return ids


def schemes_of(
    arms: Iterable[Arm], default: IdsConfig, named: Mapping[str, IdsConfig], out: Path
) -> list[Scheme]:
    """The schemes that arms use, ordered by the first arm of each.

    Of a single arm: its scheme, and the second if it has one.

    Args:
        arms: The arms.
        default: IDs of arms without a named scheme.
        named: Further schemes by name.
        out: Folder of the comparison.

    Raises:
        ValueError: If an arm names an undefined scheme.
    """
    schemes = []
    for name in dict.fromkeys(name for arm in arms for name in arm.schemes):
        if name is None:
            schemes.append(Scheme(name=None, config=default, folder=out / "ids"))
        elif name in named:
            schemes.append(Scheme(name=name, config=named[name], folder=out / f"ids-{name}"))
        else:
            known = ", ".join(named) or "none"
            raise ValueError(
                f"expected the scheme of an arm out of those in schemes ({known}), got {name!r}."
                f"{did_you_mean(name, named)} "
                f"Say how to make it: --schemes '{{{name}: {{scheme: rqkmeans}}}}'."
            )
    return schemes


def scheme_card(scheme: Scheme, ids: SemanticIds, dataset: Dataset) -> dict[str, object]:
    """Summary of a scheme's IDs for the report.

    Returns:
        JSON values: ``name``, ``scheme``, ``sizes`` and what ``semid.quality.id_quality`` returns;
        ``collisions`` is the record of `SemanticIds.resolve` about the codes before resolution.
        On a cold-start split also ``cold_support`` (`support_by_level`).
    """
    cold, warm = map(torch.from_numpy, (dataset.cold_items, dataset.splits.train.items))
    support = {"cold_support": support_by_level(ids.codes, cold, warm)} if len(cold) else {}
    return {
        "name": scheme.name,
        "scheme": ids.scheme,
        "sizes": list(ids.sizes),
        "collisions": ids.provenance.config.get("collisions"),
        **id_quality(ids),
        **support,
    }
