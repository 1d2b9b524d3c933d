from .base import BUILT_IN, ContractError, NotFittedError, SemanticIdTokenizer, load_tokenizer_class
from .controls import AtomicTokenizer, RandomTokenizer
from .hierarchical import HierarchicalKMeans
from .letter import LETTER
from .product import OPQ, PQ
from .rqkmeans import RQKMeans
from .rqvae import RQVAE
from .rvq import RVQ

__all__ = [
    "BUILT_IN",
    "LETTER",
    "OPQ",
    "PQ",
    "RQVAE",
    "RVQ",
    "AtomicTokenizer",
    "ContractError",
    "HierarchicalKMeans",
    "NotFittedError",
    "RQKMeans",
    "RandomTokenizer",
    "SemanticIdTokenizer",
    "load_tokenizer_class",
]
