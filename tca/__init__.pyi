from . import functional
from .alignment import AlphaContext
from .candidates import Candidates, Positions, candidates
from .collaborative import CollaborativeTokenizer
from .config import AlphaPolicy, ObjectiveConfig
from .consistency import (
    HitDisagreement,
    collaborative_consistency,
    hit_disagreement,
    overlap_at_k,
    rank_correlation,
)
from .guide import TeacherGuide, node_log_masses
from .objective import Objective, ObjectiveOutput
from .projection import Projection

__all__ = [
    "AlphaContext",
    "AlphaPolicy",
    "Candidates",
    "CollaborativeTokenizer",
    "HitDisagreement",
    "Objective",
    "ObjectiveConfig",
    "ObjectiveOutput",
    "Positions",
    "Projection",
    "TeacherGuide",
    "candidates",
    "collaborative_consistency",
    "functional",
    "hit_disagreement",
    "node_log_masses",
    "overlap_at_k",
    "rank_correlation",
]
