"""Small notes that a machine keeps of its engines: what was measured, what was verified.

One JSON file each, in the folder of what can be made again: who deletes it loses a minute.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Note = Mapping[str, Any]


class Notes:
    """The notes in a folder.

    Parameters
    ----------
    folder : Path
        Made with the first note.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> Note | None:
        """Return a note; None if there is none that can be read."""
        try:
            found = json.loads(self._file(name).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, name: str, note: Note) -> None:
        """Keep a note, whole or not at all.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        file = self._file(name)
        part = file.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            part.write_text(json.dumps(note, indent=1), "utf-8")
            os.replace(part, file)
        finally:
            part.unlink(missing_ok=True)

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Keep other processes out that are about to make the same note.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._file(name).with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.json"
