from .backbones import check_backbone
from .holding import ContractError
from .metrics import check_metric
from .objectives import check_objective
from .readers import check_reader
from .teachers import check_teacher

__all__ = [
    "ContractError",
    "check_backbone",
    "check_metric",
    "check_objective",
    "check_reader",
    "check_teacher",
]
