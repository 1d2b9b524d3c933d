from .config import EvaluationConfig
from .ranking import rank_by_beam, rank_by_scores, rank_targets
from .ranks import Ranks

__all__ = ["EvaluationConfig", "Ranks", "rank_by_beam", "rank_by_scores", "rank_targets"]
