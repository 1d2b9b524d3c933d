"""Settings of all backbones, and the policies for requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

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

BACKBONES = {
    "tiger": "baselines.backbones.tiger:TigerBackbone",
    "causal": "baselines.backbones.causal:CausalBackbone",
    "lm": "baselines.backbones.language:LanguageBackbone",
    "llara": "baselines.recommenders.llara:LlaraBackbone",
    "collm": "baselines.recommenders.collm:CollmBackbone",
    "allmrec": "baselines.recommenders.allmrec:AllmrecBackbone",
    "tallrec": "baselines.recommenders.tallrec:TallrecBackbone",
    "d3": "baselines.recommenders.d3:D3Backbone",
    "bigrec": "baselines.recommenders.bigrec:BigrecBackbone",
    "yesno": "baselines.recommenders.yes_no:YesNoBackbone",
}
"""The built-in backbones, by the names used in arms."""


Unknown = Literal["skip", "refuse"]
"""How history items that the model does not know are handled: skipped and counted, or refused."""

Empty = Literal["refuse", "popular"]
"""How a history without known items is handled: refused, or answered with the items that have the
most training events."""


@dataclass(frozen=True, kw_only=True)
class BackboneConfigs:
    """Settings of the backbones. All language-model recommenders share ``lm``.

    Attributes:
        tiger: Shape of TIGER.
        causal: Shape of the causal backbone.
        lm: The language model, what it reads and writes, and which parts are trained.
        llara: LLaRA's settings in addition to ``lm``.
        collm: CoLLM's, likewise.
        allmrec: A-LLMRec's, likewise.
        bigrec: BIGRec's, likewise.
        yesno: Settings of TALLRec's questions, likewise.
        settings: Fields of the ``config_class`` of your own backbone, by name.
    """

    tiger: TigerConfig = field(default_factory=TigerConfig)
    causal: CausalConfig = field(default_factory=CausalConfig)
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    llara: LlaraConfig = field(default_factory=LlaraConfig)
    collm: CollmConfig = field(default_factory=CollmConfig)
    allmrec: AllmrecConfig = field(default_factory=AllmrecConfig)
    bigrec: BigrecConfig = field(default_factory=BigrecConfig)
    yesno: YesNoConfig = field(default_factory=YesNoConfig)
    settings: dict[str, Any] = field(default_factory=dict, metadata={"before": {}})

    def __post_init__(self) -> None:
        require_types(self)
