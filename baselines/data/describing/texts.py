"""Texts of a catalogue: how many items have one, share one, or have marks of other formats."""

from __future__ import annotations

from typing import Any

import polars as pl

from baselines.data.texts import TAG, has_value, plain_text
from semid.columns import ENTITY

SCRIPTS = ("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Thai", "Hangul")
JAPANESE = r"[\p{Hiragana}\p{Katakana}]"


def text_figures(fields: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """Figures of each column of a catalogue, by its name.

    Args:
        fields: One row per item.

    Returns:
        For each column ``coverage``, the share of items with a value that is neither missing nor
        blank nor an empty list. Of text and lists of text also, among those: ``duplicates``, the
        number of items whose text another item has too; ``mean_chars``; ``html``, the share with a
        tag or an entity; and ``scripts``, the share with letters of each writing system that occurs
        (a hint at the languages), Japanese kana as ``Kana``.
    """
    return {column.name: _figures(column) for column in fields}


def _figures(column: pl.Series) -> dict[str, Any]:
    present, text = has_value(column), plain_text(column)
    figures = {} if text is None else _text_figures(text.filter(present))
    return {"coverage": int(present.sum()) / len(column), **figures}


def _text_figures(texts: pl.Series) -> dict[str, Any]:
    if not len(texts):
        return {}
    patterns = {script: rf"\p{{{script}}}" for script in SCRIPTS}
    patterns |= {"Kana": JAPANESE, "Han": r"\p{Han}"}
    shares = {script: _share(texts, pattern) for script, pattern in patterns.items()}
    return {
        "duplicates": int(texts.is_duplicated().sum()),
        "mean_chars": texts.str.len_chars().mean(),
        "html": _share(texts, f"{TAG}|{ENTITY.pattern}"),
        "scripts": {script: share for script, share in shares.items() if share},
    }


def _share(texts: pl.Series, pattern: str) -> float:
    return int(texts.str.contains(pattern).sum()) / len(texts)
