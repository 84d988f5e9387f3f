"""What must not change of an instance on its way into an archive and back, as one digest.

An archive may correct whom a study is about, add attributes, and encode a data set anew. What the
object is and where it belongs, and what it says - pixels, the tree of a report, a document - has to
come back as it was sent.
"""

from __future__ import annotations

import hashlib

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node.data_sets import decode, encode, text_of
from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading

_IDENTITY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "Rows",
    "Columns",
    "NumberOfFrames",
)
_BULK = (
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "EncapsulatedDocument",
)
_TREES = ("ContentSequence",)


def content_digest(data_set: bytes, transfer_syntax_uid: str, *, decoded: bool = True) -> str:
    """Return the SHA-256 (hexadecimal) of identity and content.

    Parameters
    ----------
    decoded : bool
        Whether pixels that are compressed are decompressed first, so that an archive may keep them
        as it likes. Else it is of the bytes as they stand.

    Raises
    ------
    StudyUnusable
        If the data set cannot be read.
    """
    dataset = decode(data_set, transfer_syntax_uid)
    digest = hashlib.sha256()
    for keyword in _IDENTITY:
        _add(digest, keyword, (text_of(dataset, keyword) or "").encode())
    for keyword in _BULK:
        if keyword in dataset:
            with reading(keyword):
                syntax = transfer_syntax_uid if decoded else ""
                _add(digest, keyword, _bulk(dataset, keyword, syntax))
    for keyword in _TREES:
        if keyword in dataset:
            tree = Dataset()
            tree.add(dataset[keyword])
            _add(digest, keyword, encode(tree, ExplicitVRLittleEndian))
    return digest.hexdigest()


def _bulk(dataset: Dataset, keyword: str, transfer_syntax_uid: str) -> bytes:
    if keyword == "PixelData" and transfer_syntax_uid and UID(transfer_syntax_uid).is_encapsulated:
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax_uid)
        dataset.decompress(as_rgb=False, generate_instance_uid=False)
    value = dataset[keyword].value
    if not isinstance(value, bytes):
        raise StudyUnusable(f"{keyword} has no bytes")
    return value


def _add(digest: hashlib._Hash, keyword: str, value: bytes) -> None:
    digest.update(f"{keyword} {len(value)} ".encode())
    digest.update(value)
