"""Lookup of plug-ins by short name or as ``package.module:Name``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NoReturn, TypeVar

from semid.checks import did_you_mean

__all__ = ["is_import_path", "load_class", "load_function", "refuse_unnamed_code"]

Base = TypeVar("Base")


def is_import_path(name: str) -> bool:
    """Whether a name has the form ``package.module:Name``; nothing is imported."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", name) is not None


def load_class(
    name: str, built_in: Mapping[str, str], base: type[Base], *, what: str, advice: str
) -> type[Base]:
    """Find a class by its short name or as ``package.module:Class``.

    Args:
        name: The name.
        built_in: ``package.module:Class`` by short name.
        base: What the class must be a subclass of.
        what: Name of the kind in errors, such as ``"tokenizer"``.
        advice: What to do about a class of the wrong kind, as a sentence.

    Raises:
        ValueError: If there is no such name, module or class, the class is not a subclass of
            ``base``, or it lacks a method.
    """
    found = _load(name, built_in, what=what, kind="Class")
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise ValueError(
            f"expected a subclass of {base.__module__}.{base.__name__}, got {name!r}, which is not "
            f"one. {advice}"
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
        raise ValueError(f"expected a complete {what}, got {name!r} without {missing}. Write it.")
    return found


def load_function(name: str, built_in: Mapping[str, str], *, what: str) -> Callable[..., Any]:
    """Find a function or other callable, as `load_class` finds a class.

    Raises:
        ValueError: If there is no such name, module or function, or it cannot be called.
    """
    found = _load(name, built_in, what=what, kind="function")
    if not callable(found):
        raise ValueError(f"expected a {what} that can be called, got {name!r}, which cannot.")
    return found  # type: ignore[no-any-return]


def refuse_unnamed_code(what: str, name: str, *, where: str, cure: str) -> NoReturn:
    """Refuse code that a file names and the caller does not: a file never decides what is run.

    Args:
        what: Name of the kind, such as ``"tokenizer"``.
        name: The ``package.module:Name`` in the file.
        where: The file or folder that names it.
        cure: How the caller can name it, as a sentence.

    Raises:
        ValueError: Always.
    """
    raise ValueError(
        f"expected a {what} in {where} that is built in or named by the caller, got {name!r}; code "
        f"is not run merely because a file names it. {cure}"
    )


def _load(name: str, built_in: Mapping[str, str], *, what: str, kind: str) -> Any:
    module, colon, path = built_in.get(name, name).partition(":")
    if not (module and colon and path):
        raise ValueError(
            f"expected a {what} out of {sorted(built_in)} or package.module:{kind}, got {name!r}."
            f"{did_you_mean(name, built_in)}"
        )
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever the module's own code raises
        raise ValueError(
            f"expected an importable {what} package.module:{kind}, got {name!r} "
            f"({type(error).__name__}: {error}). "
            "Is its package installed, or its folder on PYTHONPATH?"
        ) from error
    return found
