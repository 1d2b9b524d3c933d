"""Backbones by the names that arms call them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from baselines.contracts.backbone import BuildContext
from baselines.models.config import BackboneConfigs
from baselines.models.registry import backbone_class, backbone_settings, build_backbone
from semid.catalog import Catalog


def build(
    name: str,
    configs: BackboneConfigs,
    codes: Tensor,
    sizes: tuple[int, ...],
    seed: int = 0,
    **context: Any,
) -> Any:
    """A fresh backbone; ``context`` is catalogue and teacher, where they are needed."""
    cls = backbone_class(name)
    return build_backbone(
        cls, *backbone_settings(cls, configs), BuildContext(codes, sizes, seed, **context)
    )


def require_fit(name: str, configs: BackboneConfigs, catalog: Catalog, teacher: Any) -> None:
    """What a comparison asks of a backbone before it trains anything."""
    cls = backbone_class(name)
    cls.require_fit(backbone_settings(cls, configs)[0], catalog, teacher)
