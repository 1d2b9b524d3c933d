"""Semantic IDs: from item text to codes, one trie over them, and decoding within it."""

from semid.boosts import ItemBoosts
from semid.build import IdsConfig, build_semantic_ids, make_semantic_ids
from semid.catalog import Catalog
from semid.decoding import BeamResult, RankedItems, beam_search, rank_items
from semid.embed import (
    Embeddings,
    LsaEncoder,
    SentenceTransformerEncoder,
    TextEncoder,
    embed_catalog,
)
from semid.filters import ItemFilter
from semid.ids import SemanticIds, read_codes_file
from semid.prefixes import NextLogits, Prefixes, ReadAnew
from semid.provenance import Provenance, ProvenanceError
from semid.quality import id_quality
from semid.scoring import score_all
from semid.tokenizers import (
    OPQ,
    PQ,
    RQVAE,
    AtomicTokenizer,
    HierarchicalKMeans,
    NotFittedError,
    RandomTokenizer,
    RQKMeans,
    SemanticIdTokenizer,
)
from semid.trie import CodeTrie
from semid.trie_changes import add_items, remove_items
from semid.vocab import CodeVocab

__all__ = [
    "OPQ",
    "PQ",
    "RQVAE",
    "AtomicTokenizer",
    "BeamResult",
    "Catalog",
    "CodeTrie",
    "CodeVocab",
    "Embeddings",
    "HierarchicalKMeans",
    "IdsConfig",
    "ItemBoosts",
    "ItemFilter",
    "LsaEncoder",
    "NextLogits",
    "NotFittedError",
    "Prefixes",
    "Provenance",
    "ProvenanceError",
    "RQKMeans",
    "RandomTokenizer",
    "RankedItems",
    "ReadAnew",
    "SemanticIdTokenizer",
    "SemanticIds",
    "SentenceTransformerEncoder",
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
