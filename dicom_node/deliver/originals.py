"""Originals as they go out: the bytes that came in, or a copy that a profile has changed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dicom_node.errors import StorageError
from dicom_node.model import Instance
from dicom_node.store.local import LocalStore

_PREFIX_AT = 128
_META_AT = 132
_GROUP_LENGTH = struct.Struct("<HH2sHL")


@dataclass(frozen=True)
class Original:
    """A data set ready to be sent."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    data_set: bytes

    @property
    def context(self) -> tuple[str, str]:
        return self.sop_class_uid, self.transfer_syntax_uid


@contextmanager
def from_the_store(name: str) -> Iterator[None]:
    """Translate what the disk says of a file of ours."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"our file {name} cannot be read: {error.strerror}",
            hint="restore it from a backup of data_dir, then retry the forward",
        ) from error


def read_original(store: LocalStore, instance: Instance) -> Original:
    """Return an instance of the store as it came.

    Raises
    ------
    StorageError
        If it is not there, or is not what we wrote.
    """
    file = store.file(instance.path)
    with from_the_store(file.name):
        content = file.read_bytes()
    return Original(
        instance.sop_class_uid,
        instance.sop_instance_uid,
        instance.transfer_syntax_uid,
        content[_data_set_at(content, file.name) :],
    )


def _data_set_at(content: bytes, name: str) -> int:
    """Return where the data set begins: behind preamble and File Meta (PS3.10 7.1)."""
    if content[_PREFIX_AT:_META_AT] == b"DICM" and len(content) >= _META_AT + 12:
        group, element, vr, length, value = _GROUP_LENGTH.unpack_from(content, _META_AT)
        if (group, element, vr, length) == (2, 0, b"UL", 4):
            return int(_META_AT + 12 + value)
    raise StorageError(
        f"our file {name} has a broken head",
        hint="restore it from a backup of data_dir, then retry the forward",
    )
