"""Files: a new head before pixels that nobody touches."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from dicom_node.coerce.part10 import apply_to_file
from dicom_node.coerce.profile import Profile, Remove, Set
from dicom_node.errors import StudyUnusable
from tests.factories import make_instance
from tests.unit.coerce.copies import SECRET, a_profile, coercing, copied_file, file_of

DATA = Path(__file__).parents[2] / "data"
SYNTAXES = sorted((DATA / "transfer-syntaxes").glob("*.dcm"))
BARE = DATA / "xray" / "cr-chest-fuji-mono1-implicit-noheader"


@pytest.mark.parametrize("path", [*SYNTAXES, BARE], ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", [a_profile(), coercing(Set("StationName", "A"))])
def test_the_pixels_stay_as_they_are_in_every_transfer_syntax(path: Path, profile: Profile) -> None:
    content = path.read_bytes()
    original = pydicom.dcmread(path, force=True)
    copied, whole = copied_file(content, profile)
    copy = pydicom.dcmread(BytesIO(whole))
    assert copy.PixelData == original.PixelData
    assert copy.file_meta.TransferSyntaxUID == copied.transfer_syntax_uid
    assert copy.file_meta.MediaStorageSOPInstanceUID == copy.SOPInstanceUID
    assert copy.SOPInstanceUID == copied.sop_instance_uid
    assert copy.SOPClassUID == copied.sop_class_uid == original.SOPClassUID
    if copied.transfer_syntax_uid != DeflatedExplicitVRLittleEndian:
        assert len(copied.head) < 16_384
        data_set = whole[copied.data_set_offset :]
        assert data_set[:2] == b"\x08\x00"


def test_the_same_bytes_give_the_same_bytes() -> None:
    content = SYNTAXES[0].read_bytes()
    assert copied_file(content, a_profile())[1] == copied_file(content, a_profile())[1]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless])
def test_what_comes_after_the_pixels_does_not_leave(syntax: UID) -> None:
    instance = make_instance()
    if syntax is JPEGLSLossless:
        instance.PixelData = encapsulate([b"\xff\xd8 pixels", b"\xff\xd8 more"])
        instance["PixelData"].VR = "OB"
        instance["PixelData"].is_undefined_length = True
    instance.file_meta.TransferSyntaxUID = syntax
    instance.add_new(0x7FE10010, "LO", "MARKED")
    instance.DataSetTrailingPadding = b"MARKED"
    content = file_of(instance)
    _, whole = copied_file(content, a_profile())
    assert b"MARKED" not in whole
    assert pydicom.dcmread(BytesIO(whole)).PixelData == instance.PixelData
    _, coerced = copied_file(content, coercing(Remove("StudyID")))
    assert coerced.endswith(content[-20:])


def test_file_meta_and_preamble_of_the_original_do_not_leave() -> None:
    instance = make_instance()
    instance.preamble = b"MARKED".ljust(128, b"\0")
    instance.file_meta.SourceApplicationEntityTitle = "MARKED"
    instance.file_meta.PrivateInformationCreatorUID = UID("1.2.3")
    instance.file_meta.PrivateInformation = b"MARKED"
    _, whole = copied_file(file_of(instance), a_profile())
    assert b"MARKED" not in whole
    assert instance.SOPInstanceUID.encode() not in whole


def test_a_file_without_pixels_is_all_head() -> None:
    instance = make_instance()
    del instance.PixelData
    copied, whole = copied_file(file_of(instance), a_profile())
    assert copied.pixels_length == 0
    assert whole == copied.head


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no DICOM" * 40,
        (DATA / "malformed" / "blank-uids-ct-j2k-1.dcm").read_bytes(),
        (DATA / "malformed" / "fo-dicom-GH220.dcm").read_bytes(),
    ],
    ids=["empty", "text", "blank UIDs", "nothing in it"],
)
def test_what_is_no_instance_is_refused(content: bytes) -> None:
    with pytest.raises(StudyUnusable):
        apply_to_file(BytesIO(content), a_profile(), SECRET)


def test_a_file_that_lies_about_its_encoding_is_refused() -> None:
    content = file_of(make_instance())
    meta = pydicom.dcmread(BytesIO(content), stop_before_pixels=True).file_meta
    head = 132 + 12 + meta.FileMetaInformationGroupLength
    implicit = make_instance()
    implicit.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    other = file_of(implicit)
    other_meta = pydicom.dcmread(BytesIO(other), stop_before_pixels=True).file_meta
    lying = content[:head] + other[132 + 12 + other_meta.FileMetaInformationGroupLength :]
    with pytest.raises(StudyUnusable, match="not encoded as its Transfer Syntax UID says"):
        apply_to_file(BytesIO(lying), a_profile(), SECRET)
