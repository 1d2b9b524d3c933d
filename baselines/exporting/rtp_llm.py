"""RTP-LLM: the tree of prefixes that its ``TreeLogitsProcessor`` reads.

A JSON object with ``start_token_id``, ``end_token_id``, ``sep`` and ``prefix_dict``, which maps
``"start_token_token"`` to the tokens that may follow (github.com/alibaba/rtp-llm,
docs/backend/logits_processor.md). A generated prefix without a key is an error there, so a complete
path has one too, with the end token.
"""

from __future__ import annotations

import json
from pathlib import Path

from baselines.exporting.view import ITEMS_OF_PATHS, ExportView

TREE = "tree.json"
_SEPARATOR = "_"


def require_rtp_llm(view: ExportView) -> None:
    """Refuse a model without a token before, or after, the path of an item."""
    model = view.require_model("rtp-llm")
    for name, token, cure in (
        ("a last token of the prompt", view.start, "Train it with a template that ends in words."),
        ("an end token", view.end, "Set eos_token in the tokenizer_config.json of its base."),
    ):
        if token is None:
            raise ValueError(
                f"rtp-llm needs {name}, got none in {view.source}, a {model.backbone.label}. {cure}"
            )


def write_rtp_llm(view: ExportView, folder: Path) -> None:
    """Write the tree of prefixes."""
    trie, end = view.trie, view.end
    tokens, first_child = trie.token_of_node.tolist(), trie.first_child.tolist()
    keys = [str(view.start)]
    for node, parent in enumerate(trie.parent_of_node.tolist()[1:], start=1):
        keys.append(f"{keys[parent]}{_SEPARATOR}{tokens[node]}")
    prefixes = {}
    for node, key in enumerate(keys):
        children = tokens[first_child[node] : first_child[node + 1]]
        if children or tokens[node] != end:
            prefixes[key] = children or [end]
    tree = {
        "start_token_id": view.start,
        "end_token_id": end,
        "sep": _SEPARATOR,
        "prefix_dict": prefixes,
    }
    (folder / TREE).write_text(json.dumps(tree, separators=(",", ":")))
    (folder / ITEMS_OF_PATHS).write_text(view.items_of_paths(view.paths), "utf-8")
