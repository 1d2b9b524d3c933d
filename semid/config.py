"""Settings of semantic ids and of batch jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from semid.checks import require_int, require_real, require_sizes, require_text
from semid.field_types import require_types


@dataclass(frozen=True, kw_only=True)
class IdsConfig:
    """Source and settings of a catalogue's semantic ids.

    Attributes:
        scheme: A short name (`semid.tokenizers.BUILT_IN`) such as ``rqkmeans``, ``rqvae`` or
            ``random``; a custom ``package.module:Class``; or existing codes as ``file:PATH``. On
            the command line, ``--tokenizer`` is shorthand for it.
        codebook_sizes: Number of codes per level, for schemes that take it. None means three levels
            of the largest power of two up to 256 with at least eight items per code.
        settings: Further settings of the scheme, by name; for codes from a file, ``number_from``,
            ``layout`` and ``offsets`` of `semid.interop.read_codes_file`.
        embeddings: ``lsa``, or ``lsa:DIM`` for another width than 128; ``minilm`` or ``wordllama``,
            pretrained, from a package (`semid.packaged.PACKAGED`); a sentence-transformers model
            (name or local path); or existing vectors: an artefact folder
            (`semid.embed.Embeddings.save`), or a file (``.npy``, ``.npz``, ``.pt``,
            ``.safetensors``, ``.parquet``; ``FILE:NAME`` for one array of several).
        embedding_ids: File with the item of each row of such a file: a JSON list, ``.npy``, or text
            with one id per line. None if that file names them, as parquet does by a column
            ``item_id``, or if its rows are in catalogue order.
        cf_embeddings: Collaborative item vectors for a scheme that learns from them (``letter``),
            or for any scheme with ``cf_scale``: an artefact folder, or a file as above.
        cf_embedding_ids: As ``embedding_ids``, of ``cf_embeddings``.
        cf_scale: Length of an item's collaborative vector beside its embedding, of length 1, in
            the concatenation of both that is then coded. 0 codes the embedding alone.
        template: Text of an item, such as ``"{title}, {brand}"``; None for all its text fields.
        collisions: How items with equal codes are told apart: a key of
            `semid.collisions.STRATEGIES`, a custom ``package.module:function``, or several joined
            by ``+``.
        fit_items: How many items the text encoder and the scheme are fitted on, drawn uniformly;
            all items are then embedded, or their vectors read, and encoded a batch at a time, so
            that a large catalogue needs little memory. None fits on all of them.

    Raises:
        ValueError: If a setting is invalid, including those of a built-in scheme.
    """

    scheme: str = "rqkmeans"
    codebook_sizes: tuple[int, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    embeddings: str = "lsa"
    cf_embeddings: str | None = None
    template: str | None = None
    collisions: str = "extra_level"
    cf_scale: float = field(default=0.0, metadata={"before": 0.0})
    fit_items: int | None = field(default=None, metadata={"before": None})
    embedding_ids: str | None = field(default=None, metadata={"before": None})
    cf_embedding_ids: str | None = field(default=None, metadata={"before": None})

    def __post_init__(self) -> None:
        require_types(self)
        for name in ("scheme", "embeddings", "collisions"):
            require_text(name, getattr(self, name))
        for name in ("cf_embeddings", "template", "embedding_ids", "cf_embedding_ids"):
            if getattr(self, name) is not None:
                require_text(name, getattr(self, name))
        require_real("cf_scale", self.cf_scale, low=0)
        for name, ids in (("embeddings", "embedding_ids"), ("cf_embeddings", "cf_embedding_ids")):
            if getattr(self, ids) is not None:
                from semid.vector_files import is_vector_file  # loads numpy

                if not is_vector_file(source := getattr(self, name) or "none"):
                    raise ValueError(
                        f"{ids} names the item of each row of a file of vectors, got the {name} "
                        f"{source}. Leave it out, or name the file."
                    )
        if self.fit_items is not None:
            require_int("fit_items", self.fit_items, 1)
            if self.scheme.startswith("file:") or self.cf_embeddings is not None:
                raise ValueError(
                    "fit_items is for ids that are made from texts alone or embeddings alone, got "
                    "codes from a file or cf_embeddings. Leave fit_items out."
                )
        if self.codebook_sizes is not None:
            require_sizes("codebook_sizes", self.codebook_sizes)
        if self.collisions != "extra_level":
            from semid.collisions import load_strategies  # loads torch

            load_strategies(self.collisions)
        if "codebook_sizes" in self.settings:
            raise ValueError("codebook_sizes is a separate option, got it in settings too")
        if self.settings:
            from semid.tokenizers.base import BUILT_IN, make_tokenizer

            if self.scheme in BUILT_IN:
                make_tokenizer(self.scheme, self.settings)


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Where a batch job runs under Ray Data.

    Attributes:
        address: ``local`` starts Ray on this machine for the job; ``auto`` joins the cluster that
            this machine belongs to; ``HOST:PORT`` and ``ray://HOST:PORT`` name a cluster. None
            computes in this process, without Ray.
        workers: Number of workers. Each loads what it needs, such as a model, once.
        cpus: Processor cores, and thus threads, of a worker.
        gpus: GPUs of a worker; 0.5 lets two workers share one.

    Raises:
        ValueError: If a number is out of its range.
    """

    address: str | None = None
    workers: int = 2
    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        require_types(self)
        if self.address is not None:
            require_text("address", self.address)
        require_int("workers", self.workers, 1)
        require_int("cpus", self.cpus, 1)
        require_real("gpus", self.gpus, low=0)


Renormalize = Literal["children", "none"]
"""What token probabilities are normalised over: the valid next tokens, or all tokens.

``"children"`` takes the softmax over the children of the prefix, so that the scores of all leaves
form one distribution over paths. ``"none"`` takes it over the whole vocabulary and then masks other
tokens, as a logits mask in ``transformers.generate`` does; their probability is lost.

A logit of ``-inf`` forbids all paths through its token. With ``"children"`` the model is not
evaluated below a prefix that leads to a single leaf, so it cannot forbid anything there; a filter
can.
"""
