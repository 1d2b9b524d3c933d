from .config import EvaluationConfig
from .metrics import ListMetric, RankMetric
from .ranking import rank_by_beam, rank_by_scores, rank_targets
from .ranks import Ranks

__all__ = [
    "EvaluationConfig",
    "ListMetric",
    "RankMetric",
    "Ranks",
    "rank_by_beam",
    "rank_by_scores",
    "rank_targets",
]
