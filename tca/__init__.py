"""Token-level Collaborative Alignment (TCA4Rec, arXiv:2601.18457).

The equations stand in ``tca.functional``, as functions of plain tensors.
"""

from tca import functional
from tca.alignment import AlphaContext, AlphaPolicy
from tca.candidates import Candidates, Positions, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.consistency import (
    HitDisagreement,
    collaborative_consistency,
    hit_disagreement,
    overlap_at_k,
    rank_correlation,
)
from tca.guide import TeacherGuide, node_log_masses
from tca.objective import Objective, ObjectiveConfig, ObjectiveOutput
from tca.projection import Projection

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
