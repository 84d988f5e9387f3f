"""The node's secret: what hashes and replaced UIDs are derived from, so that no one can undo them.

It belongs to the data: a copy of the data folder without it cannot tell that two hashes are of one
patient, and new replacements would not fit those that were given out.
"""

from __future__ import annotations

import os

from dicom_node.errors import StorageError
from dicom_node.store.local import LocalStore

NAME = "secret.key"
_BYTES = 32


def secret_of(store: LocalStore) -> bytes:
    """Return the secret of a data folder; made the first time, and kept.

    Raises
    ------
    StorageError
        If it cannot be read or written, or is not what we wrote.
    """
    path = store.path(NAME)
    try:
        if not path.exists():
            store.save(NAME, [os.urandom(_BYTES)])
            path.chmod(0o600)
        secret = path.read_bytes()
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror}", hint="let this user read and write it"
        ) from error
    if len(secret) != _BYTES:
        raise StorageError(
            f"{path} has {len(secret)} bytes, not {_BYTES}",
            hint="restore it from a backup of data_dir",
        )
    return secret
