"""The console command ``semid``, started once its packages are known to be ours.

Other distributions install packages called ``tca`` or ``baselines``, which hide ours or are written
over them. This module stands outside all three, so it can say so before one of them is loaded.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("semid", "tca", "baselines")
_OURS = '__distribution__ = "semid"'  # a line of each __init__.py
_REFUSED = 2


def main() -> int:
    """Run the command line.

    Returns:
        The exit code of ``baselines.cli.main``; 2, with one line on standard error, where a package
        is missing, is not ours, or lies in another folder than the others.
    """
    if said := wrong_packages():
        print(f"semid: {said}", file=sys.stderr)
        return _REFUSED
    from baselines.cli import main as command_line

    return command_line()


def wrong_packages() -> str | None:
    """What is wrong with the packages that Python would import, and the cure; None if nothing is.

    Reads each package's ``__init__.py`` and runs none of them.
    """
    folders = {name: _folder(name) for name in PACKAGES}
    for name, folder in folders.items():
        if folder is None or not _is_ours(folder):
            found = f"is a package of another project (in {folder})" if folder else "is missing"
            return f"expected the package {name} of semid, but {name} {found}. {_cure(name)}"
    parents = {folder.parent for folder in folders.values() if folder is not None}
    if len(parents) > 1:
        places = ", ".join(f"{name} in {folder}" for name, folder in folders.items())
        return f"expected packages of one installation, got {places}. {_cure('semid')}"
    return None


def _folder(name: str) -> Path | None:
    spec = find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


def _is_ours(folder: Path) -> bool:
    try:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return any(line.startswith(_OURS) for line in text.splitlines())


def _cure(name: str) -> str:
    others = {"tca": "tca tca-channels", "baselines": "baselines", "semid": "semid"}[name]
    return (
        f"Run: pip uninstall {others}; then pip install --force-reinstall --no-deps semid "
        "(in a clone: pip install -e .)"
    )


if __name__ == "__main__":
    sys.exit(main())
