"""Settings of semantic ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from semid.checks import require_sizes, require_text
from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class IdsConfig:
    """Where the semantic ids of a catalogue come from.

    Attributes:
        scheme: A short name (`semid.tokenizers.BUILT_IN`) such as ``rqkmeans``, ``rqvae`` or
            ``random``; your own ``package.module:Class``; or codes that exist already:
            ``file:PATH``. On the command line ``--tokenizer`` is short for it.
        codebook_sizes: Codes of each level of a scheme that is fitted here and takes them. None
            takes three levels of the largest power of two up to 256 that leaves eight items a code.
        settings: Further settings of the scheme, by name; for codes from a file ``number_from``,
            ``layout`` and ``offsets`` of `semid.interop.read_codes_file`.
        embeddings: ``lsa``, a sentence-transformers model (name or local path), or vectors that
            exist already: an artefact folder (`semid.embed.Embeddings.save`), or a ``.npy`` file
            with one row an item.
        cf_embeddings: Collaborative item vectors for a scheme that learns from them (``letter``):
            an artefact folder, or a ``.npy`` file with one row an item.
        template: Text of an item, such as ``"{title}, {brand}"``; None for all its text fields.
        collisions: How items of equal codes are told apart: a key of
            `semid.collisions.STRATEGIES`, your own ``package.module:function``, or several joined
            by ``+``.

    Raises:
        ValueError: If a setting cannot be meant, those of a scheme that is built in included.
    """

    scheme: str = "rqkmeans"
    codebook_sizes: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: str = "lsa"
    cf_embeddings: str | None = None
    template: str | None = None
    collisions: str = "extra_level"

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("scheme", "embeddings", "collisions"):
            require_text(name, getattr(self, name))
        for name in ("cf_embeddings", "template"):
            if getattr(self, name) is not None:
                require_text(name, getattr(self, name))
        if self.codebook_sizes is not None:
            require_sizes("codebook_sizes", self.codebook_sizes)
        if self.collisions != "extra_level":
            from semid.collisions import load_strategies  # loads torch

            load_strategies(self.collisions)
        if "codebook_sizes" in self.settings:
            raise ValueError(
                "codebook_sizes is an option of its own, got it among the settings too"
            )
        if self.settings:
            from semid.tokenizers.base import BUILT_IN, make_tokenizer

            if self.scheme in BUILT_IN:
                make_tokenizer(self.scheme, self.settings)


Renormalize = Literal["children", "none"]
"""What a token's probability is relative to: the legal tokens after its prefix, or all tokens.

``"children"`` takes the softmax over the children of the prefix, so that the scores of all leaves
form one distribution over paths. ``"none"`` takes it over the whole token axis and then forbids
what is not a child, as a logits mask in ``transformers.generate`` does; mass is lost on the way.

A logit of ``-inf`` forbids all paths through its token. With ``"children"`` the model is not asked
below a prefix that leads to a single leaf, so it cannot forbid anything there; a filter can.
"""
