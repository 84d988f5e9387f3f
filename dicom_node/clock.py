"""Time as an argument: nothing below `node.py` reads a clock of its own."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds since the epoch."""

Checkpoint = Callable[[str], None]
"""Called by name at every boundary where a power cut would matter; tests cut the power there."""


def pass_checkpoint(name: str) -> None:
    """Go on: what a node in service does at every boundary."""
