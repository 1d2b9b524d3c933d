"""Semantic IDs: from item text to codes, one trie over them, and decoding within it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = "0.1.0"
__distribution__ = "semid"  # read by semid_command: this package is ours
