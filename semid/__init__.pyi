from .boosts import ItemBoosts
from .build import build_semantic_ids, extend_ids_from_config, fit_text_encoder, ids_from_config
from .catalog import Catalog
from .config import IdsConfig
from .decoding import BeamResult, RankedItems, apply_length_penalty, beam_search, rank_items
from .embed import (
    Embeddings,
    FittedLsa,
    LsaEncoder,
    SentenceTransformerEncoder,
    TextEncoder,
    embed_catalog,
)
from .extension import (
    extend_from_texts,
    extend_semantic_ids,
    load_extendable,
    load_text_encoder,
    load_tokenizer,
)
from .filters import ItemFilter
from .fusion import Fusion, Guide, PrefixGuide, Rescoring
from .generations import Generation
from .ids import SemanticIds
from .interop import read_codes_file, write_codes_index, write_codes_tensor
from .packaged import MiniLMEncoder, WordVectorsEncoder
from .prefixes import NextLogits, Prefixes, ReadAnew, StatelessPrefixes
from .prior import PriorCorrection
from .provenance import Provenance, ProvenanceError
from .quality import id_quality
from .scoring import score_all
from .text_encoder import CatalogEncoder
from .titles import TitlePaths, title_paths
from .tokenizers import (
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
from .trie import CodeTrie
from .trie_changes import add_items, remove_items
from .vocab import CodeVocab

__version__: str

__all__ = [
    "LETTER",
    "OPQ",
    "PQ",
    "RQVAE",
    "RVQ",
    "AtomicTokenizer",
    "BeamResult",
    "Catalog",
    "CatalogEncoder",
    "CodeTrie",
    "CodeVocab",
    "ContractError",
    "Embeddings",
    "FittedLsa",
    "Fusion",
    "Generation",
    "Guide",
    "HierarchicalKMeans",
    "IdsConfig",
    "ItemBoosts",
    "ItemFilter",
    "LsaEncoder",
    "MiniLMEncoder",
    "NextLogits",
    "NotFittedError",
    "PrefixGuide",
    "Prefixes",
    "PriorCorrection",
    "Provenance",
    "ProvenanceError",
    "RQKMeans",
    "RandomTokenizer",
    "RankedItems",
    "ReadAnew",
    "Rescoring",
    "SemanticIdTokenizer",
    "SemanticIds",
    "SentenceTransformerEncoder",
    "StatelessPrefixes",
    "TextEncoder",
    "TitlePaths",
    "WordVectorsEncoder",
    "add_items",
    "apply_length_penalty",
    "beam_search",
    "build_semantic_ids",
    "embed_catalog",
    "extend_from_texts",
    "extend_ids_from_config",
    "extend_semantic_ids",
    "fit_text_encoder",
    "id_quality",
    "ids_from_config",
    "load_extendable",
    "load_text_encoder",
    "load_tokenizer",
    "rank_items",
    "read_codes_file",
    "remove_items",
    "score_all",
    "title_paths",
    "write_codes_index",
    "write_codes_tensor",
]
