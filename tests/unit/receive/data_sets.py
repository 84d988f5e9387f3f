"""Data sets as they come from the network, and what pydicom says of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import dcmwrite, write_file_meta_info
from pydicom.uid import UID

from dicom_node.errors import InstanceRefused, StudyUnusable
from dicom_node.headers import reading
from dicom_node.receive.identity import peek_identity
from dicom_node.receive.policy import Identity, Status

DATA = Path(__file__).parents[2] / "data"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_LS = "1.2.840.10008.1.2.4.80"
TAGS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class Sent:
    """A data set and how it is encoded."""

    name: str
    data_set: bytes
    transfer_syntax_uid: str


def real_data_sets() -> Iterator[Sent]:
    """Return what follows File Meta in every real file; the whole of a file that has none."""
    for file in sorted(path for path in DATA.rglob("*") if path.is_file()):
        content = file.read_bytes()
        name = file.relative_to(DATA).as_posix()
        if content[128:132] == b"DICM":
            rest = BytesIO(content[132:])
            meta = pydicom.filereader._read_file_meta_info(rest)
            yield Sent(name, rest.read(), str(meta.get("TransferSyntaxUID", EXPLICIT)))
        elif name.startswith("xray/"):
            yield Sent(name, content, IMPLICIT)


def encoded(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """Return a data set without File Meta."""
    buffer = BytesIO()
    dcmwrite(
        buffer,
        Dataset(dataset),
        implicit_vr=transfer_syntax_uid == IMPLICIT,
        little_endian=transfer_syntax_uid != BIG_ENDIAN,
    )
    return buffer.getvalue()


Outcome = Identity | tuple[int, str, str] | None


def outcome(read: Callable[[bytes, str], Identity | None], sent: Sent) -> Outcome:
    """Return what is read, or the status, the message and the hint of the refusal."""
    try:
        return read(sent.data_set, sent.transfer_syntax_uid)
    except InstanceRefused as refusal:
        return refusal.status, refusal.message, refusal.hint


def told_by(sent: Sent) -> int:
    """Return how many bytes `peek_identity` needs before it says anything."""
    return bisect_left(
        range(len(sent.data_set)), True, key=lambda size: _tells(sent.data_set[:size], sent)
    )


def _tells(first_bytes: bytes, sent: Sent) -> bool:
    try:
        return peek_identity(first_bytes, sent.transfer_syntax_uid) is not None
    except InstanceRefused:
        return True


def identity_by_pydicom(data_set: bytes, transfer_syntax_uid: str) -> Identity:
    """Return what pydicom says of a data set as a Part 10 file.

    Raises
    ------
    InstanceRefused
        Also where pydicom says OSError, for an item that is missing.
    """
    try:
        with reading("the data set"):
            return read_by_pydicom(part10(data_set, transfer_syntax_uid))
    except StudyUnusable as error:
        message, hint = error.message, error.hint
    except OSError:
        message = "the data set cannot be read: OSError"
        hint = "the file is broken; have the sender send it again"
    raise InstanceRefused(message, status=Status.CANNOT_UNDERSTAND, hint=hint)


def part10(data_set: bytes, transfer_syntax_uid: str) -> bytes:
    """Return the file that holds a data set."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    file = DicomBytesIO()
    file.write(bytes(128) + b"DICM")
    write_file_meta_info(file, meta, enforce_standard=False)
    file.write(data_set)
    return file.getvalue()


def read_by_pydicom(file: bytes) -> Identity:
    """Return what pydicom says, as slowly as it comes; whatever it raises."""
    header = pydicom.dcmread(BytesIO(file), stop_before_pixels=True, specific_tags=list(TAGS))
    return Identity(*[str(header.get(tag) or "") for tag in TAGS])
