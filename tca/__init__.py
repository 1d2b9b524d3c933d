"""Token-level Collaborative Alignment (TCA4Rec, arXiv:2601.18457).

The equations stand in ``tca.functional``, as functions of plain tensors.
"""

from tca import functional
from tca.alignment import AlphaContext, AlphaPolicy
from tca.candidates import Candidates, Positions, candidates
from tca.collaborative import CollaborativeTokenizer
from tca.consistency import collaborative_consistency
from tca.objective import Objective, ObjectiveConfig, ObjectiveOutput

__all__ = [
    "AlphaContext",
    "AlphaPolicy",
    "Candidates",
    "CollaborativeTokenizer",
    "Objective",
    "ObjectiveConfig",
    "ObjectiveOutput",
    "Positions",
    "candidates",
    "collaborative_consistency",
    "functional",
]
