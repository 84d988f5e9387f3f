"""One DICOM file as it goes into an association: only its File Meta is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_preamble
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.dsutils import split_dataset

from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading
from dicom_node.scu.content import FilePart, unreadable


@dataclass(frozen=True)
class Part10File:
    """One file, ready to be sent: where its data set begins, and what it says it is."""

    path: Path
    data_set_offset: int
    context: tuple[str, str] | None
    """SOP Class UID and Transfer Syntax UID; None if the file names no SOP Class or Instance."""
    sop_instance_uid: str

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read the File Meta, or what stands in for it at the head of a bare data set."""
        try:
            with reading("the head of the file"):
                return cls._read(file)
        except StudyUnusable:
            return cls(file, 0, None, "")

    @classmethod
    def _read(cls, file: Path) -> Self:
        meta, offset = _meta_of(file)
        sop_class_uid = str(meta.get("MediaStorageSOPClassUID") or "")
        sop_instance_uid = str(meta.get("MediaStorageSOPInstanceUID") or "")
        transfer_syntax_uid = str(meta.get("TransferSyntaxUID") or "")
        if not (sop_class_uid and sop_instance_uid and transfer_syntax_uid):
            head = pydicom.dcmread(
                file,
                force=True,
                stop_before_pixels=True,
                specific_tags=["SOPClassUID", "SOPInstanceUID"],
            )
            sop_class_uid = sop_class_uid or str(head.get("SOPClassUID") or "")
            sop_instance_uid = sop_instance_uid or str(head.get("SOPInstanceUID") or "")
            transfer_syntax_uid = transfer_syntax_uid or _encoding_of(head)
        context = (sop_class_uid, transfer_syntax_uid)
        named = sop_class_uid and sop_instance_uid
        return cls(file, offset, context if named else None, sop_instance_uid)

    def data_set(self) -> bytes:
        """Return the data set's bytes as they lie in the file."""
        with self.path.open("rb") as stream:
            stream.seek(self.data_set_offset)
            return stream.read()

    def data_set_part(self) -> FilePart:
        """Return where the data set lies; StorageError if the file is gone."""
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise unreadable(self.path, str(error.strerror)) from error
        return FilePart(self.path, self.data_set_offset, max(0, size - self.data_set_offset))


def _meta_of(file: Path) -> tuple[Dataset, int]:
    with file.open("rb") as stream:
        if read_preamble(stream, force=True) is None:
            return Dataset(), 0
    return split_dataset(file)


def _encoding_of(head: Dataset) -> str:
    """Return the uncompressed transfer syntax in which a data set without File Meta is encoded."""
    implicit, little_endian = head.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian)
