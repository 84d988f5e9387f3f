"""The beginning of a Part 10 file (PS3.10 7.1): how its data set is encoded, and where it begins.

With preamble and File Meta Information, or without: then it is guessed from the first element, as
pydicom guesses.
"""

from __future__ import annotations

import struct
from typing import BinaryIO, NamedTuple

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.elements import LONG_VRS, SHORT_VRS, UNDEFINED, Reads, Stumbled, is_vr
from dicom_node.uid import is_uid

FIRST_BYTES = 16 * 1024
BYTES_MAX = 64 * 1024 * 1024
"""What has to be looked into and is longer is left to pydicom."""

_PREAMBLE_BYTES = 128
_PREFIX = b"DICM"
_FILE_META_GROUP = 0x0002
_FILE_META = struct.pack("<H", _FILE_META_GROUP)
_GROUP_LENGTH = (0x0000, b"UL", 4)
_PLAIN_VRS = (b"OB", b"UI")
_TRANSFER_SYNTAX_UID = 0x0010
_GROUPS_END = 0x0400  # pydicom takes a data set that begins beyond for one in Big Endian


class Encoding(NamedTuple):
    """How a data set is encoded (PS3.5 A)."""

    explicit: bool
    byte_order: str
    reads: Reads


_IMPLICIT = Encoding(False, "<", Reads.of("<"))
_EXPLICIT = Encoding(True, "<", Reads.of("<"))
_ENCODINGS = {
    str(ImplicitVRLittleEndian): _IMPLICIT,
    str(ExplicitVRLittleEndian): _EXPLICIT,
    str(ExplicitVRBigEndian): Encoding(True, ">", Reads.of(">")),
}
_DEFLATED = str(DeflatedExplicitVRLittleEndian)


class Window:
    """The part of a file that is in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = 0
        self.data = file.read(FIRST_BYTES)
        self._is_last = len(self.data) < FIRST_BYTES

    def moves_to(self, at: int) -> bool:
        """Begin at `at`, where an element begins of which more is needed.

        Returns
        -------
        bool
            False if the data set ends there.
        """
        if self._is_last:
            if at + 8 <= len(self.data):
                raise Stumbled  # it is cut off
            return False
        size = FIRST_BYTES if at else 2 * len(self.data)
        if size > BYTES_MAX:
            raise Stumbled
        self._begin += at
        self._file.seek(self._begin)
        self.data = self._file.read(size)
        self._is_last = len(self.data) < size
        return True


def begin_of(data: bytes) -> tuple[Encoding, int]:
    """Return how the data set of a file is encoded, and where it begins.

    Raises
    ------
    Stumbled
        Over what is left to pydicom: deflated data sets, broken File Meta Information, too few
        bytes.
    """
    try:
        return _begin(data)
    except struct.error:
        raise Stumbled from None


def _begin(data: bytes) -> tuple[Encoding, int]:
    prefix_end = _PREAMBLE_BYTES + len(_PREFIX)
    at = prefix_end if data[_PREAMBLE_BYTES:prefix_end] == _PREFIX else 0
    if data.startswith(_FILE_META, at):
        transfer_syntax_uid, at = _after_file_meta(data, at)
        encoding = _ENCODINGS.get(transfer_syntax_uid)
        if encoding is None:
            if transfer_syntax_uid == _DEFLATED or not is_uid(transfer_syntax_uid):
                raise Stumbled
            encoding = _EXPLICIT  # PS3.5 A.4
    else:
        group, _, vr, _ = _EXPLICIT.reads.explicit(data, at)
        if group >= _GROUPS_END:
            raise Stumbled
        encoding = _EXPLICIT if vr in SHORT_VRS or vr in LONG_VRS else _IMPLICIT
    if not encoding.explicit and is_vr(encoding.reads.explicit(data, at)[2]):
        raise Stumbled  # pydicom takes it for Explicit VR
    return encoding, at


def _after_file_meta(data: bytes, at: int) -> tuple[str, int]:
    """Return the Transfer Syntax UID, and where File Meta Information ends."""
    read, read_length = _EXPLICIT.reads.explicit, _EXPLICIT.reads.length
    transfer_syntax_uid, previous = "", -1
    while True:
        group, element, vr, length = read(data, at)
        if group != _FILE_META_GROUP:
            return transfer_syntax_uid, at
        at += 8
        if vr not in SHORT_VRS:
            if vr not in LONG_VRS:
                raise Stumbled
            (length,) = read_length(data, at)
            at += 4
        if element <= previous or length == UNDEFINED:
            raise Stumbled
        if previous < 0 and (element, vr, length) != _GROUP_LENGTH and vr not in _PLAIN_VRS:
            raise Stumbled  # the value of the first is looked at
        if element == _TRANSFER_SYNTAX_UID:
            if vr != b"UI":
                raise Stumbled
            transfer_syntax_uid = data[at : at + length].rstrip(b"\0 ").decode("latin-1")
        previous = element
        at += length
