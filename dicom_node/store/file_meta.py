"""Preamble and File Meta Information of what we file (PS3.10 7.1)."""

from __future__ import annotations

import struct
from functools import lru_cache

from dicom_node.protocol.implementation import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
)

_PREAMBLE = bytes(128) + b"DICM"
_SHORT = struct.Struct("<HH2sH")
_LONG = struct.Struct("<HH2sHL")
_FILE_META_BEGIN = _LONG.pack(2, 0x0001, b"OB", 0, 2) + b"\0\1"


def file_meta_of(
    sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_ae_title: str
) -> bytes:
    """Return preamble, prefix and File Meta Information (PS3.10 7.1) of an instance."""
    body = b"".join(
        (
            _FILE_META_BEGIN,
            _element(0x0002, b"UI", _uid(sop_class_uid)),
            _element(0x0003, b"UI", _uid(sop_instance_uid)),
            _file_meta_end(transfer_syntax_uid, calling_ae_title),
        )
    )
    group_length = _SHORT.pack(2, 0x0000, b"UL", 4) + len(body).to_bytes(4, "little")
    return _PREAMBLE + group_length + body


@lru_cache(maxsize=256)
def _file_meta_end(transfer_syntax_uid: str, calling_ae_title: str) -> bytes:
    return b"".join(
        (
            _element(0x0010, b"UI", _uid(transfer_syntax_uid)),
            _element(0x0012, b"UI", _uid(IMPLEMENTATION_CLASS_UID)),
            _element(0x0013, b"SH", _even(IMPLEMENTATION_VERSION_NAME)),
            _element(0x0016, b"AE", _even(calling_ae_title)),
        )
    )


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    return _SHORT.pack(2, element, vr, len(value)) + value


def _even(text: str) -> bytes:
    encoded = text.encode("ascii", "replace")
    return encoded + b" " * (len(encoded) % 2)


def _uid(uid: str) -> bytes:
    """Return a UI value, padded with NUL to even length (PS3.5 9.1)."""
    encoded = uid.encode("ascii")
    return encoded + b"\0" * (len(encoded) % 2)
