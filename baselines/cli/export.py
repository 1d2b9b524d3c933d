"""``semid export``: write a model, or its trie, as another server reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.exporting.config import ExportConfig

if TYPE_CHECKING:
    from rich.console import Console


def export(config: ExportConfig, console: Console) -> None:
    """Write a model, or the trie of its items, as another server reads it."""
    from baselines.exporting.export import export, read_view
    from baselines.exporting.flashrec import sid_option

    view = read_view(
        config.folder, backbone=config.backbone, teacher=config.teacher, base=config.base
    )
    export(view, config.to, config.out)
    paths, items = len(view.leaves), view.trie.num_items
    console.print(f"{items} items on {paths} paths for {config.to}", highlight=False)
    console.print(f"export: {config.out}", highlight=False, markup=False, soft_wrap=True)
    if config.to == "flashrec" and (layout := sid_option(view)) is not None:
        console.print(f"FlashRec needs {layout}", highlight=False, soft_wrap=True)
