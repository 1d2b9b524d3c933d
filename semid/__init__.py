"""Semantic IDs: from item text to codes, one trie over them, and decoding within it."""

from semid.boosts import ItemBoosts
from semid.build import IdsConfig, build_semantic_ids, extend_made_ids, make_semantic_ids
from semid.catalog import Catalog
from semid.decoding import BeamResult, RankedItems, beam_search, divide_by_length, rank_items
from semid.embed import (
    Embeddings,
    FittedLsa,
    LsaEncoder,
    SentenceTransformerEncoder,
    TextEncoder,
    embed_catalog,
)
from semid.extension import extend_semantic_ids, load_tokenizer
from semid.filters import ItemFilter
from semid.fusion import Fusion, Guide, PrefixGuide
from semid.ids import SemanticIds
from semid.interop import read_codes_file, write_codes_index, write_codes_tensor
from semid.prefixes import NextLogits, Prefixes, ReadAnew
from semid.provenance import Provenance, ProvenanceError
from semid.quality import id_quality
from semid.scoring import score_all
from semid.titles import TitlePaths, title_paths
from semid.tokenizers import (
    LETTER,
    OPQ,
    PQ,
    RQVAE,
    RVQ,
    AtomicTokenizer,
    ContractError,
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
    "LETTER",
    "OPQ",
    "PQ",
    "RQVAE",
    "RVQ",
    "AtomicTokenizer",
    "BeamResult",
    "Catalog",
    "CodeTrie",
    "CodeVocab",
    "ContractError",
    "Embeddings",
    "FittedLsa",
    "Fusion",
    "Guide",
    "HierarchicalKMeans",
    "IdsConfig",
    "ItemBoosts",
    "ItemFilter",
    "LsaEncoder",
    "NextLogits",
    "NotFittedError",
    "PrefixGuide",
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
    "TitlePaths",
    "add_items",
    "beam_search",
    "build_semantic_ids",
    "divide_by_length",
    "embed_catalog",
    "extend_made_ids",
    "extend_semantic_ids",
    "id_quality",
    "load_tokenizer",
    "make_semantic_ids",
    "rank_items",
    "read_codes_file",
    "remove_items",
    "score_all",
    "title_paths",
    "write_codes_index",
    "write_codes_tensor",
]
