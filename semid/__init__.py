"""Semantic IDs: from item text to codes, one trie over them, and decoding within it."""

from semid.build import IdsConfig, build_semantic_ids, make_semantic_ids
from semid.catalog import Catalog
from semid.decoding import BeamResult, RankedItems, StepLogits, beam_search, rank_items, score_all
from semid.embed import (
    Embeddings,
    LsaEncoder,
    SentenceTransformerEncoder,
    TextEncoder,
    embed_catalog,
)
from semid.filters import ItemFilter
from semid.ids import SemanticIds, read_codes_file
from semid.provenance import Provenance, ProvenanceError
from semid.quality import id_quality
from semid.tokenizers import (
    RQVAE,
    NotFittedError,
    RandomTokenizer,
    RQKMeans,
    SemanticIdTokenizer,
)
from semid.trie import CodeTrie
from semid.trie_changes import add_items, remove_items
from semid.vocab import CodeVocab

__all__ = [
    "RQVAE",
    "BeamResult",
    "Catalog",
    "CodeTrie",
    "CodeVocab",
    "Embeddings",
    "IdsConfig",
    "ItemFilter",
    "LsaEncoder",
    "NotFittedError",
    "Provenance",
    "ProvenanceError",
    "RQKMeans",
    "RandomTokenizer",
    "RankedItems",
    "SemanticIdTokenizer",
    "SemanticIds",
    "SentenceTransformerEncoder",
    "StepLogits",
    "TextEncoder",
    "add_items",
    "beam_search",
    "build_semantic_ids",
    "embed_catalog",
    "id_quality",
    "make_semantic_ids",
    "rank_items",
    "read_codes_file",
    "remove_items",
    "score_all",
]
