"""Token-level Collaborative Alignment (TCA4Rec, arXiv:2601.18457).

The equations are in ``tca.functional``, as functions of plain tensors.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__distribution__ = "semid"  # read by semid_command: this package is ours
