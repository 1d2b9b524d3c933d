"""ID schemes: how an item's embedding becomes its codes."""

from semid.tokenizers.base import (
    BUILT_IN,
    NotFittedError,
    SemanticIdTokenizer,
    load_tokenizer_class,
)
from semid.tokenizers.controls import AtomicTokenizer, RandomTokenizer
from semid.tokenizers.hierarchical import HierarchicalKMeans
from semid.tokenizers.product import OPQ, PQ
from semid.tokenizers.rqkmeans import RQKMeans
from semid.tokenizers.rqvae import RQVAE

__all__ = [
    "BUILT_IN",
    "OPQ",
    "PQ",
    "RQVAE",
    "AtomicTokenizer",
    "HierarchicalKMeans",
    "NotFittedError",
    "RQKMeans",
    "RandomTokenizer",
    "SemanticIdTokenizer",
    "load_tokenizer_class",
]
