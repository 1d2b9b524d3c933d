"""Which backbones there are, by the name that an arm calls them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from baselines.backbones.causal import CausalBackbone
from baselines.backbones.language import LanguageBackbone, require_usable
from baselines.backbones.tiger import TigerBackbone
from baselines.contracts.backbone import Backbone
from baselines.models.config import BackboneConfigs
from baselines.recommenders.allmrec import AllmrecBackbone
from baselines.recommenders.bigrec import BigrecBackbone
from baselines.recommenders.collm import CollmBackbone
from baselines.recommenders.d3 import D3Backbone
from baselines.recommenders.llara import LlaraBackbone
from baselines.recommenders.tallrec import TallrecBackbone
from baselines.recommenders.yes_no import YesNoBackbone
from baselines.teachers.model import TeacherModel
from semid.catalog import Catalog
from semid.settings import as_json


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A backbone as an arm calls it.

    Attributes:
        cls: Its class.
        shape: The field of ``BackboneConfigs`` that it is made by.
        own: A second one, for settings that its family does not share.
        trained_as: The kind whose training is its own too, where only the ranking differs, and
            perhaps whether prompts have a loss.
        taught: Whether it is made from the teacher as well.
    """

    cls: type[Any]
    shape: str
    own: str | None = None
    trained_as: str | None = None
    taught: bool = False

    @property
    def is_language_model(self) -> bool:
        """Whether it reads prompts, and needs a catalogue for their titles."""
        return issubclass(self.cls, LanguageBackbone)

    @property
    def is_searched(self) -> bool:
        """Whether a beam search ranks for it; else it scores items itself, as ``ItemScorer``."""
        return not hasattr(self.cls, "score")

    def settings(self, configs: BackboneConfigs) -> dict[str, Any]:
        """All that its training depends on, as JSON values."""
        shape = getattr(configs, self.shape)
        if self.is_language_model:
            shape = dataclasses.replace(shape, prompt_loss=self.has_prompt_loss(shape.prompt_loss))
        found: dict[str, Any] = as_json(shape)
        if self.own is not None and self.trained_as is None:
            found["own"] = as_json(getattr(configs, self.own))
        return found

    def has_prompt_loss(self, asked: bool | None) -> bool:
        """Whether it learns from the tokens of prompts too; None asks for what is usual with it."""
        usual = self.cls.prompt_loss if self.is_language_model else False
        return usual if asked is None else asked and self.is_language_model

    def build(
        self,
        configs: BackboneConfigs,
        codes: Tensor,
        sizes: tuple[int, ...],
        seed: int,
        *,
        catalog: Catalog | None = None,
        teacher: TeacherModel | None = None,
    ) -> Backbone:
        """A fresh backbone.

        Args:
            configs: Shapes of the backbones.
            codes: int64 ``(item, level)``, the semantic ids of a catalogue.
            sizes: Number of codes of each level.
            seed: Of its weights.
            catalog: The catalogue, for a backbone that writes titles.
            teacher: Trained, for a backbone that is made from one.
        """
        given: list[Any] = [getattr(configs, self.shape), codes, sizes, seed]
        if self.is_language_model:
            given.append(catalog)
        if self.own is not None:
            given.append(getattr(configs, self.own))
        if self.taught:
            given.append(teacher)
        backbone: Backbone = self.cls(*given)
        return backbone


KINDS: dict[str, Kind] = {
    "tiger": Kind(cls=TigerBackbone, shape="tiger"),
    "causal": Kind(cls=CausalBackbone, shape="causal"),
    "lm": Kind(cls=LanguageBackbone, shape="lm"),
    "llara": Kind(cls=LlaraBackbone, shape="lm", own="llara", taught=True),
    "collm": Kind(cls=CollmBackbone, shape="lm", own="collm", taught=True),
    "allmrec": Kind(cls=AllmrecBackbone, shape="lm", own="allmrec", taught=True),
    "tallrec": Kind(cls=TallrecBackbone, shape="lm", trained_as="lm"),
    "d3": Kind(cls=D3Backbone, shape="lm", trained_as="lm"),
    "bigrec": Kind(cls=BigrecBackbone, shape="lm", own="bigrec", trained_as="lm"),
    "yesno": Kind(cls=YesNoBackbone, shape="lm", own="yesno", taught=True),
}


def require_fit(
    kinds: Sequence[Kind], configs: BackboneConfigs, catalog: Catalog, teacher: type[TeacherModel]
) -> None:
    """Refuse what backbones cannot be made from, before anything is trained for them.

    Args:
        kinds: Which backbones.
        configs: Their shapes.
        catalog: What they are to write.
        teacher: The class of the teacher.

    Raises:
        ValueError: If one needs a language model, titles or a teacher's vectors, and there are
            none that do, or it cannot work with the settings.
    """
    languages = [kind.cls for kind in kinds if kind.is_language_model]
    for cls in languages:
        cls.require_settings(configs.lm, len(catalog))
    if languages:
        require_usable(configs.lm, catalog, adapted=any(cls.adapted for cls in languages))
    for kind in kinds:
        if kind.taught:
            kind.cls.require_teacher(teacher)
