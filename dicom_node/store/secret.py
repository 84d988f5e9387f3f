"""The node's secret: 32 random bytes in a file that only the node may read, made once.

Every pseudonym, replaced UID and moved date depends on it. If it is lost, copies that are made
afterwards no longer match those made before; if it is known, pseudonyms can be guessed by trial.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from dicom_node.errors import StorageError

_BYTES = 32


def load_or_make_secret(file: Path) -> bytes:
    """Return the secret; make it, durably, if there is none. Several processes get the same.

    Parameters
    ----------
    file : pathlib.Path
        `secret.key` in `node.data_dir`; the folder is there.

    Raises
    ------
    StorageError
        If it cannot be read or made, is readable by others, or is no secret.
    """
    try:
        if not file.exists():
            _make(file)
        if file.stat().st_mode & 0o077:
            raise StorageError(
                f"{file} may be read by others", hint=f"chmod 600 {file}, and think of who read it"
            )
        secret = file.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{file} cannot be read or made: {error.strerror}",
            hint="give the node's user the right to read and write in node.data_dir",
        ) from error
    if len(secret) != _BYTES:
        raise StorageError(
            f"{file} is damaged: it has {len(secret)} bytes, not {_BYTES}",
            hint="bring it back from a backup; with a new one old copies do not match new ones",
        )
    return secret


def _make(file: Path) -> None:
    """Write another file and give it this name, unless somebody was faster."""
    fd, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # 0600
    try:
        os.write(fd, secrets.token_bytes(_BYTES))
        os.fsync(fd)
    finally:
        os.close(fd)
    with suppress(FileExistsError):
        os.link(temporary, file)
    os.unlink(temporary)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
