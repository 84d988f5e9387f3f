"""The console of every command: no markup, since our words come from DICOM headers too."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

_WIDTH_MIN = 130


def make_console(*, wraps: bool = True, stderr: bool = False) -> Console:
    """Return a console; into a pipe or a file it writes lines that are long enough for a table.

    Parameters
    ----------
    wraps : bool
        False leaves long lines whole, for those who copy from them.
    stderr : bool
        Write to standard error.
    """
    console = Console(highlight=False, markup=False, soft_wrap=not wraps, stderr=stderr)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH_MIN)
    return console


def make_table(*headings: str) -> Table:
    """Return a table without walls between its columns; long words are folded."""
    table = Table(box=SIMPLE)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
