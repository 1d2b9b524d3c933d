"""A small shop whose titles a tiny language model writes, compared from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_lm import write_model

from baselines.cli import main
from baselines.data.loading import load_dataset, write_plain_layout
from baselines.data.synthetic import synthetic_dataset


def write_shop(folder: Path) -> Path:
    """Write the shop: 30 users, 32 items."""
    write_plain_layout(synthetic_dataset(num_users=30, num_items=32, num_categories=2), folder)
    return folder


def write_shop_model(shop: Path, folder: Path, *, seed: int = 0) -> Path:
    """Write a model that nothing was learned by, with a tokenizer of the shop's titles."""
    titles = load_dataset(shop).catalog.texts("{title}")
    return write_model(folder, titles, std=0.05, seed=seed)


def compare(shop: Path, model: Path, out: Path, *options: str, arms: str, epochs: int = 1) -> int:
    """Run ``semid compare`` for some epochs with a short prompt; its exit code."""
    return main(
        [
            "compare",
            *("--data", str(shop), "--out", str(out), "--arms", f"[{arms}]", "--seeds", "[0]"),
            *("--ids.codebook_sizes", "[4,4]", "--resamples", "20"),
            *(
                "--teacher_training.epochs",
                "1",
                "--training.epochs",
                f"{epochs}",
                "--training.lr",
                "0.02",
            ),
            *("--evaluation.beam", "10", "--evaluation.validation_beam", "5"),
            *("--evaluation.validation_targets", "10", "--evaluation.certified", "4"),
            *("--backbones.lm.model", str(model), "--backbones.lm.template", "{history}>"),
            *("--backbones.lm.max_history", "3"),
            *options,
        ]
    )


def rows(out: Path) -> dict[str, Any]:
    """The rows of a comparison by their labels."""
    found = json.loads((out / "comparison.json").read_text())["rows"]
    return {row["arm"]: row for row in found}
