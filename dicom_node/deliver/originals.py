"""Originals as they go out: the bytes that came in, or a copy that a profile has changed."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dicom_node.errors import StorageError
from dicom_node.model import Instance
from dicom_node.scu.content import Content, FilePart
from dicom_node.store.local import LocalStore
from dicom_node.store.reading import StoredFile

_PREFIX_AT = 128
_META_AT = 132
_GROUP_LENGTH = struct.Struct("<HH2sHL")
_HEAD_BYTES = _META_AT + _GROUP_LENGTH.size


@dataclass(frozen=True)
class Original:
    """An instance ready to be sent; its data set mostly lies where it was filed."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    content: Content
    placed_in: tuple[str, str] | None = None
    """Study and Series Instance UID of a copy that a profile made; None: it goes as it came."""

    @property
    def context(self) -> tuple[str, str]:
        return self.sop_class_uid, self.transfer_syntax_uid

    @property
    def size_bytes(self) -> int:
        return self.content.size_bytes


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
    """Return an instance of the store as it came; only the length of its File Meta is read.

    Raises
    ------
    StorageError
        If it is not there, or is not what we wrote.
    """
    file = store.file(instance.path)
    with from_the_store(file.name):
        return Original(
            instance.sop_class_uid,
            instance.sop_instance_uid,
            instance.transfer_syntax_uid,
            Content.of(_data_set_of(file)),
        )


def _data_set_of(file: StoredFile) -> FilePart:
    """Return where the data set lies: behind preamble and File Meta (PS3.10 7.1)."""
    fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size if file.size_bytes is None else file.size_bytes
        head = os.pread(fd, _HEAD_BYTES, file.offset)
    finally:
        os.close(fd)
    if head[_PREFIX_AT:_META_AT] == b"DICM" and len(head) == _HEAD_BYTES <= size:
        group, element, vr, length, value = _GROUP_LENGTH.unpack_from(head, _META_AT)
        if (group, element, vr, length) == (2, 0, b"UL", 4) and _HEAD_BYTES + value <= size:
            begin = int(_HEAD_BYTES + value)
            return FilePart(file.path, file.offset + begin, size - begin)
    raise StorageError(
        f"our file {file.name} has a broken head",
        hint="restore it from a backup of data_dir, then retry the forward",
    )
