"""The command line."""

from baselines.cli.app import main

__all__ = ["main"]
