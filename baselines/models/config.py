"""Shapes of all backbones."""

from __future__ import annotations

from dataclasses import dataclass, field

from baselines.backbones.config import CausalConfig, TigerConfig
from baselines.lm.config import LanguageModelConfig
from baselines.recommenders.config import (
    AllmrecConfig,
    BigrecConfig,
    CollmConfig,
    LlaraConfig,
    YesNoConfig,
)
from semid.field_types import require_types

BACKBONES = (
    *("tiger", "causal"),
    *("lm", "llara", "collm", "allmrec", "tallrec", "d3", "bigrec", "yesno"),
)
"""What arms call the backbones; ``baselines.models.registry.KINDS`` says what each is."""


@dataclass(frozen=True, kw_only=True)
class BackboneConfigs:
    """Shapes of the backbones. Every recommender on a language model shares ``lm``."""

    tiger: TigerConfig = field(default_factory=TigerConfig)
    causal: CausalConfig = field(default_factory=CausalConfig)
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    llara: LlaraConfig = field(default_factory=LlaraConfig)
    collm: CollmConfig = field(default_factory=CollmConfig)
    allmrec: AllmrecConfig = field(default_factory=AllmrecConfig)
    bigrec: BigrecConfig = field(default_factory=BigrecConfig)
    yesno: YesNoConfig = field(default_factory=YesNoConfig)

    def __post_init__(self) -> None:
        require_types(self)
