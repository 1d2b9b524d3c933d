"""A world of a dozen items with hand-written codes, and the way to the real data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import polars as pl
import pytest
import torch
from hypothesis import settings
from torch import Tensor

from baselines.reporting import writing
from semid.catalog import Catalog

TINY_SIZES = (3, 3, 2)

settings.register_profile("semid", deadline=None, max_examples=50)
settings.load_profile("semid")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.shared_data)


@pytest.fixture(scope="session", autouse=True)
def no_pages() -> Iterator[tuple[str, ...]]:
    """Commands draw no page and no figure, which takes longer than all else that they do in tests.

    Yields:
        Names of the packages that a page needs, for tests that want one.
    """
    needed = writing._NEEDED
    with patch.object(writing, "_NEEDED", ("no_pages_in_tests",)):
        yield needed


@pytest.fixture(scope="module")
def with_pages(no_pages: tuple[str, ...]) -> Iterator[None]:
    """In this module they are drawn, as they are outside the tests."""
    with patch.object(writing, "_NEEDED", no_pages):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the public data sets."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SEMID_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set SEMID_DATA")
    return folder


@pytest.fixture
def tiny_codes() -> Tensor:
    """Codes of a dozen items, int64 ``(item, level)`` below ``TINY_SIZES``; all differ.

    The first level splits them 6 : 5 : 1, the second has one-child nodes, and code 1 of level 1 is
    used below two parents, so a trie that forgets the parent goes wrong.
    """
    return torch.tensor(
        [
            [0, 0, 0],
            [0, 0, 1],
            [0, 1, 0],
            [0, 1, 1],
            [0, 2, 0],
            [0, 2, 1],
            [1, 0, 0],
            [1, 0, 1],
            [1, 1, 1],
            [1, 2, 0],
            [1, 2, 1],
            [2, 1, 0],
        ]
    )


@pytest.fixture
def tiny_catalog() -> Catalog:
    """A dozen items, ids 101 to 112; a title's words follow the first two of ``tiny_codes``."""
    kinds = ["lipstick"] * 6 + ["shampoo"] * 5 + ["brush"]
    shades = [
        "red",
        "red",
        "pink",
        "pink",
        "nude",
        "nude",
        "dry",
        "dry",
        "oily",
        "fine",
        "fine",
        "",
    ]
    return Catalog(
        item_ids=list(range(101, 113)),
        fields=pl.DataFrame(
            {
                "title": [
                    f"{shade} {kind}".strip() for shade, kind in zip(shades, kinds, strict=True)
                ],
                "brand": ["Ada", "Bo"] * 6,
                "categories": [["Beauty", kind] for kind in kinds],
            }
        ),
    )
