"""ID schemes: how an item's embedding becomes its codes."""

from semid.tokenizers.base import (
    BUILT_IN,
    ContractError,
    NotFittedError,
    SemanticIdTokenizer,
    load_tokenizer_class,
)
from semid.tokenizers.controls import AtomicTokenizer, RandomTokenizer
from semid.tokenizers.hierarchical import HierarchicalKMeans
from semid.tokenizers.letter import LETTER
from semid.tokenizers.product import OPQ, PQ
from semid.tokenizers.rqkmeans import RQKMeans
from semid.tokenizers.rqvae import RQVAE
from semid.tokenizers.rvq import RVQ

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
