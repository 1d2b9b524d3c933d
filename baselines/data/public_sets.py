"""Public data sets by name: where their files are, and under which terms."""

from __future__ import annotations

import logging
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from baselines.data.downloading import RemoteFile, download
from semid.atomic import atomic_dir
from semid.checks import did_you_mean

logger = logging.getLogger(__name__)

_AMAZON_2014 = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
_AMAZON = "https://mcauleylab.ucsd.edu/public_datasets/data"
_MOVIELENS = "https://files.grouplens.org/datasets/movielens"
_STEAM = "https://cseweb.ucsd.edu/~wckang"


def _names(text: str) -> list[str]:
    return text.split()


# In every release of Amazon's reviews, then in some of them.
_CATEGORIES = _names("""Automotive Books CDs_and_Vinyl Cell_Phones_and_Accessories
Clothing_Shoes_and_Jewelry Digital_Music Electronics Grocery_and_Gourmet_Food Home_and_Kitchen
Kindle_Store Movies_and_TV Musical_Instruments Office_Products Patio_Lawn_and_Garden Pet_Supplies
Sports_and_Outdoors Tools_and_Home_Improvement Toys_and_Games Video_Games""")
_OF_2014 = _names("Amazon_Instant_Video Apps_for_Android Baby Beauty Health_and_Personal_Care")
_SINCE_2018 = _names("""All_Beauty Appliances Arts_Crafts_and_Sewing Gift_Cards
Industrial_and_Scientific Magazine_Subscriptions Software""")
_OF_2018 = _names("AMAZON_FASHION Luxury_Beauty Prime_Pantry")
_OF_2023 = _names("""Amazon_Fashion Baby_Products Beauty_and_Personal_Care Handmade_Products
Health_and_Household Health_and_Personal_Care Subscription_Boxes""")
_MD5 = {  # published beside each archive, as NAME.zip.md5
    "100k": "0e33842e24a9c977be4e0107933c0723",
    "1m": "c4d9eecfca2ab87c1945afe126590906",
    "20m": "cd245b17a1ae2cc31bb14903e1204af3",
    "32m": "d472be332d4daa821edc399621853b57",
}


@dataclass(frozen=True, kw_only=True)
class PublicSet:
    """A published data set.

    Attributes:
        files: What is downloaded.
        terms: Under which terms it may be used, in one line.
        page: Where it is described.
    """

    files: tuple[RemoteFile, ...]
    terms: str
    page: str

    def fetch(self, folder: Path) -> Path:
        """The folder of its files, downloaded and unpacked where they are missing.

        Raises:
            ValueError: As `baselines.data.downloading.download`.
        """
        logger.info("%s (%s)", self.terms, self.page)
        files = [download(file, folder) for file in self.files]
        return _unpacked(files[0]) if files[0].suffix == ".zip" else folder


def _amazon(year: str, page: str, files: dict[str, tuple[str, ...]]) -> dict[str, PublicSet]:
    terms = f"Amazon reviews {year}: for research, cite the authors; no licence is stated"
    return {
        f"amazon-{year}/{category.lower().replace('_', '-')}": PublicSet(
            files=tuple(RemoteFile(url=url) for url in urls), terms=terms, page=page
        )
        for category, urls in files.items()
    }


PUBLIC_SETS: dict[str, PublicSet] = {
    **_amazon(
        "2014",
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        {
            name: (
                f"{_AMAZON_2014}/reviews_{name}_5.json.gz",
                f"{_AMAZON_2014}/meta_{name}.json.gz",
            )
            for name in sorted([*_CATEGORIES, *_OF_2014])
        },
    ),
    **_amazon(
        "2018",
        "https://nijianmo.github.io/amazon/index.html",
        {
            name: (
                f"{_AMAZON}/amazon_v2/categoryFilesSmall/{name}_5.json.gz",
                f"{_AMAZON}/amazon_v2/metaFiles2/meta_{name}.json.gz",
            )
            for name in sorted([*_CATEGORIES, *_SINCE_2018, *_OF_2018])
        },
    ),
    **_amazon(
        "2023",
        "https://amazon-reviews-2023.github.io",
        {
            name: (
                f"{_AMAZON}/amazon_2023/benchmark/5core/rating_only/{name}.csv.gz",
                f"{_AMAZON}/amazon_2023/raw/meta_categories/meta_{name}.jsonl.gz",
            )
            for name in sorted([*_CATEGORIES, *_SINCE_2018, *_OF_2023])
        },
    ),
    **{
        f"movielens-{size}": PublicSet(
            files=(RemoteFile(url=f"{_MOVIELENS}/ml-{size}.zip", md5=md5),),
            terms="MovieLens: for research, cite the authors; no redistribution, no commercial use",
            page="https://grouplens.org/datasets/movielens",
        )
        for size, md5 in _MD5.items()
    },
    "steam": PublicSet(
        files=tuple(
            RemoteFile(url=f"{_STEAM}/{name}.json.gz") for name in ("steam_reviews", "steam_games")
        ),
        terms="Steam reviews: for research, cite the authors; no licence is stated",
        page="https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
    ),
}
"""The sets that can be downloaded, by name: reviews of Amazon are those of its 5-core."""

_YELP = "https://business.yelp.com/data/resources/open-dataset"


def downloaded(name: str) -> Path:
    """The folder of a set of ``PUBLIC_SETS``, downloaded on first use.

    It lies below ``$SEMID_DOWNLOADS``, or else ``~/.cache/semid``.

    Raises:
        ValueError: If there is no set of this name, or as `baselines.data.downloading.download`.
    """
    if name == "yelp":
        raise ValueError(
            f"yelp is given only to those who accept its terms on {_YELP}. Download it there, and "
            "name the folder that holds its yelp_academic_dataset_*.json"
        )
    if name not in PUBLIC_SETS:
        release = name.partition("/")[0]
        alike = [key for key in PUBLIC_SETS if key.startswith(release)]
        raise ValueError(
            f"expected one of {', '.join(alike)}, got {name!r}.{did_you_mean(name, alike)}"
        )
    default = Path.home() / ".cache" / "semid"
    return PUBLIC_SETS[name].fetch(Path(os.environ.get("SEMID_DOWNLOADS", default)) / name)


def _unpacked(archive: Path) -> Path:
    """The one folder that a zip archive holds, beside it."""
    folder = archive.with_suffix("")
    if not folder.is_dir():
        with zipfile.ZipFile(archive) as content, atomic_dir(folder) as filling:
            content.extractall(filling)
    return folder / archive.stem
