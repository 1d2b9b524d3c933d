"""``semid serve``: answer requests over HTTP."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from baselines.serving.config import TOKEN_VARIABLE, ServeConfig

if TYPE_CHECKING:
    from rich.console import Console

_PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus_client": "prometheus-client"}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def require_packages(_: ServeConfig) -> None:
    """Refuse to serve without the packages of the extra ``serve``.

    Raises:
        ValueError: If one is missing.
    """
    missing = [name for module, name in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ValueError(
            f"expected the packages of semid serve, {', '.join(missing)} missing: "
            "pip install 'semid[serve]'"
        )


def serve(config: ServeConfig, console: Console) -> None:
    """Recommend, explain and accept items over HTTP, until stopped."""
    from baselines.serving.app import make_app
    from baselines.serving.server import Server, bound_socket
    from baselines.serving.token import read_token

    token = read_token(config.token_file)

    def listening(address: str) -> None:
        names = ", ".join(source.name for source in config.arms)
        console.print(f"serving {names} on {address}", soft_wrap=True, markup=False)
        if token is None and config.host not in _LOOPBACK:
            console.print(
                f"anybody who reaches {config.host} may ask and change items: set {TOKEN_VARIABLE}",
                style="yellow",
                highlight=False,
            )

    with bound_socket(config.host, config.port) as bound:  # before models are loaded in vain
        Server(make_app(config, token), config, listening).run([bound])
