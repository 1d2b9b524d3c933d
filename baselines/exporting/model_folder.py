"""A model as an ordinary ``transformers`` folder, with its items in plain arrays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from baselines.backbones.language import LanguageBackbone
from baselines.backbones.tiger import TigerBackbone
from baselines.exporting.view import ITEMS, ExportView
from baselines.lm.loading import quietly
from baselines.models.merging import merge_and_save

_PACKAGE = "semantic_ids"
_NO_LIMIT = np.iinfo(np.int64).max


def require_transformers_model(view: ExportView, server: str) -> None:
    """Refuse a model whose weights are not those of a ``transformers`` class.

    Args:
        view: The model.
        server: Its name, for the error message.
    """
    model = view.require_model(server)
    backbone = model.backbone
    if isinstance(backbone, TigerBackbone) and backbone.config.attention != "causal":
        return
    if isinstance(backbone, LanguageBackbone):
        if backbone.config.quantize != "none":
            raise ValueError(
                f"{server} needs weights that adapters can be merged into, got a base in "
                f"{backbone.config.quantize} in {view.source}. Train with quantize none."
            )
        return
    causal = " with a causal encoder" if isinstance(backbone, TigerBackbone) else ""
    raise ValueError(
        f"{server} needs a model of transformers, which are lm and tiger here, got "
        f"{backbone.label}{causal} in {view.source}. Its trie alone is exported from "
        f"{view.source}/ids to static, xllm or flashrec."
    )


def write_weights(view: ExportView, folder: Path) -> None:
    """Write the model as ``transformers`` reads it, if it is a language model or TIGER."""
    backbone = None if view.model is None else view.model.backbone
    with quietly():
        if isinstance(backbone, LanguageBackbone):
            merge_and_save(backbone, folder)
        elif isinstance(backbone, TigerBackbone):
            backbone.t5.save_pretrained(folder)


def write_generation_settings(view: ExportView, folder: Path) -> None:
    """Write a ``generation_config.json`` that ranks items as the model's own search does.

    There is no end token: `semantic_ids.trie_logits` fills paths up to the longest.
    """
    from transformers import GenerationConfig

    assert view.model is not None
    make: Any = GenerationConfig
    settings = make(
        do_sample=False,
        num_beams=max(2, view.model.spec.evaluation.beam),  # with one, generate searches greedily
        length_penalty=0.0,
        max_new_tokens=view.trie.depth,
        decoder_start_token_id=view.start,
        pad_token_id=_end(view),
    )
    settings.save_pretrained(folder)


def write_items(view: ExportView, folder: Path, module: str) -> None:
    """Write the items' IDs, their trie and prompts, and the package that reads them.

    Args:
        view: The model.
        folder: Where to.
        module: Module of the package that the server needs.
    """
    assert view.model is not None
    trie, prompts = view.trie, _prompts_of(view)
    (folder / ITEMS).write_text(json.dumps(view.item_ids, ensure_ascii=False), "utf-8")
    np.savez(
        folder / "semantic_ids.npz",
        first_child=trie.first_child.numpy(),
        token_of_node=trie.token_of_node.numpy(),
        first_item=trie.first_item.numpy(),
        last_item=trie.last_item.numpy(),
        item_order=trie.item_order.numpy(),
        num_tokens=np.array(trie.num_tokens),
        depth=np.array(trie.depth),
        end=np.array(_end(view)),
        among_children=np.array(view.model.spec.evaluation.renormalize == "children"),
        head=prompts.head.cpu().numpy(),
        tail=prompts.tail.cpu().numpy(),
        pieces=np.array([token for piece in prompts.pieces for token in piece], dtype=np.int64),
        piece_ends=np.cumsum([len(piece) for piece in prompts.pieces]),
        separator=np.array(prompts.separator),
        room=np.array(prompts.room),
        max_history=np.array(prompts.max_history),
    )
    package = folder / _PACKAGE
    package.mkdir()
    for name in ("__init__", "catalogue", module):
        source = resources.files(f"{__package__}.{_PACKAGE}") / f"{name}.py"
        with resources.as_file(source) as file:
            shutil.copyfile(file, package / file.name)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prompts:
    """How a history becomes tokens.

    Attributes:
        head: int64 ``(pos,)``, tokens before the history.
        tail: int64 ``(pos,)``, tokens after it.
        pieces: Tokens of each item, with the separator before it.
        separator: Number of tokens of the separator.
        room: Most tokens of a history.
        max_history: Most items of a history.
    """

    head: Tensor
    tail: Tensor
    pieces: Sequence[Sequence[int]]
    separator: int
    room: int
    max_history: int


def _prompts_of(view: ExportView) -> _Prompts:
    assert view.model is not None
    backbone = view.model.backbone
    if isinstance(backbone, LanguageBackbone):
        found = backbone.prompts
        lengths = found.lengths.tolist()
        rows = zip(found.pieces.tolist(), lengths, strict=True)
        return _Prompts(
            head=found.head,
            tail=found.tail,
            pieces=[piece[:length] for piece, length in rows],
            separator=found.separator,
            room=found.room,
            max_history=found.max_history,
        )
    assert isinstance(backbone, TigerBackbone)
    nothing = torch.zeros(0, dtype=torch.int64)
    after = [backbone.vocab.num_tokens] if backbone.config.separator else []
    return _Prompts(
        head=nothing,
        tail=nothing,
        pieces=[[*path, *after] for path in backbone.paths.tolist()],
        separator=0,
        room=_NO_LIMIT,
        max_history=backbone.max_history,
    )


def _end(view: ExportView) -> int:
    """The token that fills up paths; any will do, as it is not read."""
    return 0 if view.end is None else view.end
