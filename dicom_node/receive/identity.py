"""The four UIDs by which an instance is filed, out of the first bytes of its data set.

Half a millisecond of pydicom for every instance would cost more than receiving it. So the headers
are walked here (`header_walk`), in some microseconds; and what the walk does not know for certain
is left to pydicom, so that the answer is always pydicom's. Two differences are wanted:

* What follows (0020,000E) is not looked at, nor inflated. pydicom reads on to the pixels, refuses
  an instance that is broken there, and lets a UID that stands there again, out of order, win
  (PS3.5 7.1 forbids that).
* Where pydicom fails with an OSError, on bytes that are in memory, the instance is refused too.

A walk costs a tenth of a microsecond an element, and the instances of a series mostly have the
same elements with values of the same lengths. So an `IdentityReader` keeps the bytes that its last
walk went by (tags, VRs, lengths, items and delimiters, the character set) and where they lay. If
the next data set has all of them at the same places, the same walk would go by the same bytes, so
the UIDs lie where they lay; and that is one `Struct.unpack_from` and one comparison.

The beginning of a data set is enough if it tells: if the walk arrives there, or if pydicom never
asked for a byte beyond it, whatever follows.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress

import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.elements import Buffer, Reads, Span, Stumbled
from dicom_node.errors import InstanceRefused, StudyUnusable
from dicom_node.headers import reading
from dicom_node.receive.header_walk import walk_explicit, walk_implicit
from dicom_node.receive.policy import Identity, Status
from dicom_node.uid import is_uid

_LITTLE_ENDIAN = Reads.of("<")
_ENCAPSULATED = (walk_explicit, _LITTLE_ENDIAN)
_ENCODINGS = {
    str(ImplicitVRLittleEndian): (walk_implicit, _LITTLE_ENDIAN),
    str(ExplicitVRLittleEndian): (walk_explicit, _LITTLE_ENDIAN),
    str(ExplicitVRBigEndian): (walk_explicit, Reads.of(">")),
}
"""All others are Explicit VR Little Endian (PS3.5 A.4)."""
_DEFLATED = str(DeflatedExplicitVRLittleEndian)
_INFLATED_BYTES = 64 * 1024
_IDENTITY_TAGS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_UID_CHARACTERS = b"0123456789."

_HITS_WANTED = 4
"""So often a layout must be met again to be worth what it costs to learn it: three walks."""
_PATIENCE_MAX = 64
_LANDMARKS_MAX = 1024
"""A layout with more of them is not kept: no association needs hundreds of kilobytes for this."""


def read_identity(data_set: Buffer, transfer_syntax_uid: str) -> Identity:
    """Return the UIDs of a data set; empty where there is none.

    Parameters
    ----------
    data_set : bytes, bytearray, memoryview or mmap
        The whole of it, without File Meta Information. Neither copied nor kept.
    transfer_syntax_uid : str
        In which it is encoded.

    Raises
    ------
    InstanceRefused
        If it cannot be parsed as far as needed; with the status that answers the C-STORE.
    """
    identity = _walked(data_set, transfer_syntax_uid)
    return identity or _read_by_pydicom(_InMemoryFile(data_set, transfer_syntax_uid))


def peek_identity(first_bytes: Buffer, transfer_syntax_uid: str) -> Identity | None:
    """Return the UIDs of a data set of which only the beginning is at hand.

    It says what `read_identity` would say of the whole, whatever follows.

    Returns
    -------
    Identity or None
        None if more bytes are needed. `read_identity` needs the whole: what ends early is to it a
        data set that ends there.

    Raises
    ------
    InstanceRefused
        As `read_identity`.
    """
    identity = _walked(first_bytes, transfer_syntax_uid)
    return identity or _peek_by_pydicom(first_bytes, transfer_syntax_uid)


class IdentityReader:
    """`read_identity` and `peek_identity` for the instances of one association, one after another.

    It says the same, and faster while an instance is laid out as the one before.
    """

    __slots__ = ("_hits", "_layout", "_misses", "_patience")

    def __init__(self) -> None:
        self._layout: _Layout | None = None
        self._hits = self._misses = 0
        self._patience = 1

    def read(self, data_set: Buffer, transfer_syntax_uid: str) -> Identity:
        """As `read_identity`."""
        identity = self._recalled(data_set, transfer_syntax_uid)
        return identity or _read_by_pydicom(_InMemoryFile(data_set, transfer_syntax_uid))

    def peek(self, first_bytes: Buffer, transfer_syntax_uid: str) -> Identity | None:
        """As `peek_identity`."""
        identity = self._recalled(first_bytes, transfer_syntax_uid)
        return identity or _peek_by_pydicom(first_bytes, transfer_syntax_uid)

    def _recalled(self, data: Buffer, transfer_syntax_uid: str) -> Identity | None:
        layout = self._layout
        if layout is not None and layout.transfer_syntax_uid == transfer_syntax_uid:
            identity = layout.identity(data)
            if identity is not None:
                self._hits += 1
                return identity
        self._misses += 1
        if self._misses < self._patience or transfer_syntax_uid == _DEFLATED:
            return _walked(data, transfer_syntax_uid)
        return self._learn(data, transfer_syntax_uid)

    def _learn(self, data: Buffer, transfer_syntax_uid: str) -> Identity | None:
        """Walk, and remember the layout; be slower to do so the next time if it was in vain."""
        trail: list[Span] = []
        spans = _spans(data, transfer_syntax_uid, trail)
        identity = _identity_at(data, spans) if spans else None
        if spans and identity is not None and len(trail) <= _LANDMARKS_MAX:
            in_vain = self._layout is not None and self._hits < _HITS_WANTED
            self._patience = min(2 * self._patience, _PATIENCE_MAX) if in_vain else 1
            self._hits = self._misses = 0
            self._layout = _Layout(transfer_syntax_uid, data, trail, spans)
        return identity


class _Layout:
    """The bytes by which a walk went, and where its UIDs lay."""

    __slots__ = ("_landmarks", "_places", "_uids", "transfer_syntax_uid")

    def __init__(
        self, transfer_syntax_uid: str, data: Buffer, trail: Iterable[Span], spans: Iterable[Span]
    ) -> None:
        self.transfer_syntax_uid = transfer_syntax_uid
        self._places = _fields(trail)
        self._landmarks = self._places.unpack_from(data)
        self._uids = _fields(spans)

    def identity(self, data: Buffer) -> Identity | None:
        """Return the UIDs of a data set that is laid out the same, None of any other."""
        try:
            if self._places.unpack_from(data) == self._landmarks:
                return _identity(self._uids.unpack_from(data))
        except struct.error:
            pass  # it is shorter
        return None


def _fields(spans: Iterable[Span]) -> struct.Struct:
    """Return the format that unpacks these spans as bytes; those that touch become one."""
    fields: list[Span] = []
    for start, end in sorted(spans):
        if fields and start <= fields[-1][1]:
            first, last = fields.pop()
            fields.append((first, max(last, end)))
        else:
            fields.append((start, end))
    gaps = [start - end for (start, _), (_, end) in zip(fields, [(0, 0), *fields], strict=False)]
    return struct.Struct(
        "".join(f"{gap}x{end - start}s" for gap, (start, end) in zip(gaps, fields, strict=True))
    )


def _walked(data: Buffer, transfer_syntax_uid: str) -> Identity | None:
    """Return the UIDs if the walk gets to them."""
    if transfer_syntax_uid == _DEFLATED:
        data, transfer_syntax_uid = _inflated(data), str(ExplicitVRLittleEndian)
    spans = _spans(data, transfer_syntax_uid)
    return _identity_at(data, spans) if spans else None


def _inflated(data: Buffer) -> bytes:
    """Return what a deflated data set begins with (PS3.5 A.5), up to where it is broken."""
    first = bytes(data[:_INFLATED_BYTES])
    if first.startswith((b"\0\0", b"\2\0")):
        return b""  # pydicom takes it for a command set or for File Meta
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(first, _INFLATED_BYTES)
    except zlib.error:  # and what came before is lost
        inflate, inflated = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
        with suppress(zlib.error):
            for at in range(len(first)):
                inflated += inflate.decompress(first[at : at + 1])
        return bytes(inflated)


def _spans(
    data: Buffer, transfer_syntax_uid: str, trail: list[Span] | None = None
) -> list[Span] | None:
    """Return where the four UIDs lie, None if the walk does not get there."""
    encoding = _ENCODINGS.get(transfer_syntax_uid)
    if encoding is None:
        if not is_uid(transfer_syntax_uid):
            return None
        encoding = _ENCAPSULATED
    walk, reads = encoding
    try:
        return walk(data, reads if trail is None else reads.trailed(trail))
    except (Stumbled, struct.error):
        return None


def _identity_at(data: Buffer, spans: Sequence[Span]) -> Identity | None:
    if spans[-1][1] > len(data):
        return None
    return _identity([bytes(data[start:end]) for start, end in spans])


def _identity(values: Iterable[bytes]) -> Identity | None:
    """Return the UIDs in these values, None unless all of them are what pydicom leaves as is."""
    stripped = [value.rstrip(b"\0 ") for value in values]
    if not all(stripped) or b"".join(stripped).translate(None, _UID_CHARACTERS):
        return None
    return Identity(*[value.decode("ascii") for value in stripped])


def _peek_by_pydicom(first_bytes: Buffer, transfer_syntax_uid: str) -> Identity | None:
    """Return what pydicom says of these bytes, None if it wanted more of them."""
    file = _InMemoryFile(first_bytes, transfer_syntax_uid)
    try:
        identity = _read_by_pydicom(file)
    except InstanceRefused:
        if file.was_too_short:
            return None
        raise
    return None if file.was_too_short else identity


def _read_by_pydicom(file: _InMemoryFile) -> Identity:
    try:
        with reading("the data set"):
            header = pydicom.dcmread(
                file, stop_before_pixels=True, specific_tags=list(_IDENTITY_TAGS)
            )
            return Identity(*[str(header.get(tag) or "") for tag in _IDENTITY_TAGS])
    except StudyUnusable as error:
        raise InstanceRefused(
            error.message, status=Status.CANNOT_UNDERSTAND, hint=error.hint
        ) from error
    except OSError as error:  # no disk has failed: so pydicom says that an item is missing
        raise InstanceRefused(
            f"the data set cannot be read: {type(error).__name__}",
            status=Status.CANNOT_UNDERSTAND,
            hint="the file is broken; have the sender send it again",
        ) from error


class _InMemoryFile:
    """A data set as the file that pydicom wants: behind a preamble and File Meta, never copied."""

    def __init__(self, data_set: Buffer, transfer_syntax_uid: str) -> None:
        # no transfer syntax was negotiated that is not ASCII
        value = transfer_syntax_uid.encode("ascii", "replace")
        value += b"\0" * (len(value) % 2)
        element = struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", len(value)) + value
        length = struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(element))
        self._meta = bytes(128) + b"DICM" + length + element
        self._data_set = data_set
        self._size = len(self._meta) + len(data_set)
        self._at = 0
        self.was_too_short = False

    def read(self, size: int = -1, /) -> bytes:
        begin, end = self._at, self._at + size
        if size < 0 or end > self._size:
            self.was_too_short = True
            end = self._size
        if begin >= end:
            return b""
        self._at = end
        ahead = len(self._meta)
        body = bytes(self._data_set[max(begin - ahead, 0) : max(end - ahead, 0)])
        return self._meta[begin:end] + body

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + (0, self._at)[whence])  # pydicom never counts from the end
        return self._at

    def tell(self) -> int:
        return self._at
