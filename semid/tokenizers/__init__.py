"""ID schemes: how an item's embedding becomes its codes."""

from semid.tokenizers.base import (
    BUILT_IN,
    ContractError,
    NotFittedError,
    SemanticIdTokenizer,
    load_tokenizer_class,
)
from semid.tokenizers.controls import RandomTokenizer
from semid.tokenizers.rqkmeans import RQKMeans
from semid.tokenizers.rqvae import RQVAE

__all__ = [
    "BUILT_IN",
    "RQVAE",
    "ContractError",
    "NotFittedError",
    "RQKMeans",
    "RandomTokenizer",
    "SemanticIdTokenizer",
    "load_tokenizer_class",
]
