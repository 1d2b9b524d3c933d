"""``semid data append``: new events for a data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from baselines.cli.config import AppendConfig

if TYPE_CHECKING:
    from rich.console import Console

_NAMED = 3  # unknown items that are named


def data_append(config: AppendConfig, console: Console) -> None:
    """Append new events to the interactions of a data folder."""
    from baselines.data.appending import append_events

    found = append_events(config.data, config.events)
    for reason, count in found.left_out.items():
        console.print(f"left out: {count} {reason}", style="yellow", highlight=False)
    if found.unknown_items:
        named = ", ".join(map(repr, found.unknown_items[:_NAMED]))
        more = ", …" if len(found.unknown_items) > _NAMED else ""
        console.print(
            f"unknown items: {len(found.unknown_items)} ({named}{more}); add them to the items "
            "first to keep their events",
            style="yellow",
            highlight=False,
            markup=False,
        )
    console.print(
        f"appended {found.events} events of {found.users} users, {found.new_users} of them new: "
        f"{config.data}",
        highlight=False,
        markup=False,
    )
