"""Texts by which items are compared, and their TF-IDF vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from semid.catalog import Catalog
from semid.columns import composed

_FIELDS = ("title", "brand", "categories")


class NoTextError(ValueError):
    """The items have no texts that could be compared."""


def content_texts(catalog: Catalog, template: str | None = None) -> list[str]:
    """The text of each item that is compared.

    Args:
        catalog: The items.
        template: Text with column names in braces, as in ``Catalog.texts``; None for title, brand
            and categories, as far as there are any, else every known text field.

    Raises:
        NoTextError: If there is no text.
        ValueError: If the template does not fit the catalogue.
    """
    if template is None:
        present = [name for name in _FIELDS if name in catalog.fields.columns]
        template = ", ".join(f"{{{name}}}" for name in present) or _default_template(catalog)
    return catalog.texts(template)


def tfidf(texts: list[str]) -> Any:
    """TF-IDF of words and pairs of words that at least two texts have, with ``1 + log(count)``.

    Returns:
        scipy CSR array, float32 ``(item, term)``; each row has length 1, or 0 without any term.

    Raises:
        NoTextError: If no two texts share a word.
    """
    from scipy.sparse import csr_array
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, dtype=np.float32)
    try:
        return csr_array(vectorizer.fit_transform(composed(texts)))  # a matrix's sums have 2 axes
    except ValueError as error:
        raise NoTextError(
            f"expected texts of items that share words, got {len(texts)} without a word in common. "
            "Choose a template whose fields are filled, or a teacher that reads no content."
        ) from error


def _default_template(catalog: Catalog) -> str:
    try:
        return catalog.default_template()
    except ValueError as error:
        raise NoTextError(str(error)) from error
