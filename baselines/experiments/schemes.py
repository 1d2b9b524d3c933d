"""The ID schemes of a comparison: the semantic ids of each, made or read once for all its arms."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from baselines.data.dataset import Dataset
from baselines.experiments.arms import Arm
from baselines.runtime.progress import track_epochs
from semid.build import ids_from_config, require_made_by
from semid.checks import did_you_mean
from semid.config import IdsConfig
from semid.ids import SemanticIds
from semid.provenance import require_same
from semid.quality import id_quality

FROM_TEACHER = "teacher"
"""``cf_embeddings`` of a scheme that learns from the item vectors of the comparison's teacher."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scheme:
    """One way to make the ids that arms of a comparison are trained on.

    Attributes:
        name: What arms call it after the ``@``; None for the comparison's own.
        config: Where its ids come from.
        folder: Where they are kept: ``ids``, or ``ids-`` and the name.
    """

    name: str | None
    config: IdsConfig
    folder: Path

    @property
    def waits_for_teacher(self) -> bool:
        """Whether its ids have still to be made, from the teacher's item vectors."""
        return self.config.cf_embeddings == FROM_TEACHER and not self.folder.exists()

    def ids(self, dataset: Dataset, *, cache_dir: Path, teacher_vectors: Path) -> SemanticIds:
        """Its semantic ids, from its folder if they are there, else made anew and not yet kept.

        Args:
            dataset: Whose items they are of.
            cache_dir: Where embeddings are kept.
            teacher_vectors: Artefact that ``FROM_TEACHER`` stands for.

        Raises:
            ProvenanceError: If they have seen other interactions than the training part of the
                data, such as test targets, or those of the folder were made in another way or from
                other inputs than its config says and holds now.
            ValueError: If they do not fit the catalogue, or cannot be made as its config says.
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
    arms: Iterable[Arm], own: IdsConfig, named: Mapping[str, IdsConfig], out: Path
) -> list[Scheme]:
    """The schemes that arms take, in the order of the first arm of each.

    Args:
        arms: The arms.
        own: The ids of arms that name no scheme.
        named: Further schemes by name.
        out: Folder of the comparison.

    Raises:
        ValueError: If an arm takes a scheme that nothing says how to make.
    """
    schemes = []
    for name in dict.fromkeys(arm.scheme for arm in arms):
        if name is None:
            schemes.append(Scheme(name=None, config=own, folder=out / "ids"))
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


def scheme_card(scheme: Scheme, ids: SemanticIds) -> dict[str, object]:
    """What a report says of a scheme's ids.

    Returns:
        JSON values: ``name``, ``scheme``, ``sizes`` and what ``semid.quality.id_quality`` finds;
        ``collisions`` is the record that `SemanticIds.resolve` left of the codes before it.
    """
    return {
        "name": scheme.name,
        "scheme": ids.scheme,
        "sizes": list(ids.sizes),
        "collisions": ids.provenance.config.get("collisions"),
        **id_quality(ids),
    }
