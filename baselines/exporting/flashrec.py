"""FlashRec: the catalogue that its ``--sid-vocab-file`` names.

A JSON object whose keys are the codes of a path, ``"12,250,7"``, each below 8,192 and equally many
(the ``flashrec`` package, flashrec/catalog.py and flashrec/search/trie.py). Its tokenizer has the
codes of each level one after the other, as a language model with codes has here.

FlashRec infers where they lie only from names such as ``<s_a_0>``, and takes the last of four codes
to be its own two boundary tokens (flashrec/sid_layout.py); ``--sid`` tells it instead.
"""

from __future__ import annotations

import json
from pathlib import Path

from baselines.backbones.language import LanguageBackbone
from baselines.exporting.view import ITEMS_OF_PATHS, ExportView

CATALOGUE = "sid2vid.json"
_MOST_CODES = 8192


def require_flashrec(view: ExportView) -> None:
    """Refuse titles, paths of different lengths or of one code, and large codes."""
    view.require_codes("flashrec")
    view.require_equal_lengths("flashrec")
    if view.trie.depth < 2:
        raise ValueError(
            "flashrec holds paths of two or more codes, whose layout it is told by --sid, got one "
            f"code an item in {view.source}. Build semantic ids of more levels."
        )
    largest = int(view.require_codes("flashrec").codes(view.paths).max())
    if largest >= _MOST_CODES:
        raise ValueError(
            f"flashrec holds codes below {_MOST_CODES}, got {largest} in {view.source}. Build "
            "semantic ids with smaller codebooks."
        )


def sid_option(view: ExportView) -> str | None:
    """The option that tells FlashRec where a language model's codes are; None for other views."""
    vocab = view.vocab
    if vocab is None or view.model is None or not isinstance(view.model.backbone, LanguageBackbone):
        return None
    first, sizes = vocab.offsets[0], ",".join(map(str, vocab.sizes))
    return f"--sid {first}:{first + sum(vocab.sizes) - 1}/{sizes}"


def write_flashrec(view: ExportView, folder: Path) -> None:
    """Write the catalogue."""
    codes = view.require_codes("flashrec").codes(view.paths)
    catalogue = {",".join(map(str, path)): 1 for path in codes.tolist()}
    (folder / CATALOGUE).write_text(json.dumps(catalogue, separators=(",", ":")))
    (folder / ITEMS_OF_PATHS).write_text(view.items_of_paths(codes), "utf-8")
