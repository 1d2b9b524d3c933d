"""Token-level Collaborative Alignment (TCA4Rec, arXiv:2601.18457).

The equations stand in ``tca.functional``, as functions of plain tensors.
"""

from tca import functional
from tca.collaborative import CollaborativeTokenizer
from tca.consistency import collaborative_consistency
from tca.objective import (
    Candidates,
    Objective,
    ObjectiveConfig,
    ObjectiveOutput,
    Positions,
    candidates,
)

__all__ = [
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
