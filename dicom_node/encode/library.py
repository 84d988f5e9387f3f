"""The image library of a report: its one entry (PS3.16 TID 1600, 1601, 1602, 1603, 1604).

Eighteen content items an image were most of the cost of a report; its readers need one image.
"""

from __future__ import annotations

from functools import lru_cache

from highdicom.sr import ImageLibraryEntryDescriptors
from pydicom.dataset import Dataset

from dicom_node.encode.content import (
    HAS_ACQUISITION_CONTEXT,
    code_item,
    container,
    image_item,
    number_item,
    reference_item,
    text_item,
    uid_item,
)
from dicom_node.finding import Code
from dicom_node.multiframe import frame_number_of

_LIBRARY = Code("111028", "DCM", "Image Library")
_GROUP = Code("126200", "DCM", "Image Library Group")
_SOURCE = Code("260753009", "SCT", "Source")
_MODALITY = Code("121139", "DCM", "Modality")
_FRAME_OF_REFERENCE = Code("112227", "DCM", "Frame of Reference UID")
_ROWS = Code("110910", "DCM", "Pixel Data Rows")
_COLUMNS = Code("110911", "DCM", "Pixel Data Columns")
_ROW_DIRECTION = Code("111044", "DCM", "Patient Orientation Row")
_COLUMN_DIRECTION = Code("111043", "DCM", "Patient Orientation Column")
_HORIZONTAL_SPACING = Code("111026", "DCM", "Horizontal Pixel Spacing")
_VERTICAL_SPACING = Code("111066", "DCM", "Vertical Pixel Spacing")
_THICKNESS = Code("112225", "DCM", "Slice Thickness")
_BETWEEN_SLICES = Code("112226", "DCM", "Spacing between slices")
_POSITION = tuple(
    Code(f"11090{number}", "DCM", f"Image Position (Patient) {axis}")
    for number, axis in enumerate("XYZ", start=1)
)
_ORIENTATION = tuple(
    Code(f"11090{number}", "DCM", f"Image Orientation (Patient) {axis}")
    for number, axis in enumerate(
        ("Row X", "Row Y", "Row Z", "Column X", "Column Y", "Column Z"), start=4
    )
)
_PIXELS = Code("{pixels}", "UCUM", "Pixels")
_COSINE = Code("{-1:1}", "UCUM", "{-1:1}")
_MILLIMETRE = Code("mm", "UCUM", "mm")

_PROJECTION = frozenset({"CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"})
_CROSS_SECTION = frozenset({"CT", "MR", "PT"})


def image_library(reference: Dataset) -> bytes:
    """Return the library with its entry for one source."""
    uids = reference.SOPClassUID, reference.SOPInstanceUID
    entry = image_item(_SOURCE, reference_item(*uids), *_descriptors(reference))
    return container(_LIBRARY, container(_GROUP, entry))


def _descriptors(image: Dataset) -> list[bytes]:
    """Return what is said of an image; what it does not tell in full is left out."""
    said = [code_item(HAS_ACQUISITION_CONTEXT, _MODALITY, _modality(str(image.SOPClassUID)))]
    if "FrameOfReferenceUID" in image:
        uid = image.FrameOfReferenceUID
        said.append(uid_item(HAS_ACQUISITION_CONTEXT, _FRAME_OF_REFERENCE, uid))
    said += [_number(_ROWS, image.Rows, _PIXELS), _number(_COLUMNS, image.Columns, _PIXELS)]
    if frame_number_of(image) is not None:
        return said  # else it would be true of the first frame only
    modality = image.get("Modality")
    if modality in _CROSS_SECTION and _tells(
        image, "PixelSpacing", "SliceThickness", "ImagePositionPatient"
    ):
        said += _cross_section(image)
    elif modality in _PROJECTION and _tells(image, "PatientOrientation", "ImagerPixelSpacing"):
        said += _projection(image)
    return said


def _tells(image: Dataset, *keywords: str) -> bool:
    return all(image.get(keyword) for keyword in keywords)


def _cross_section(image: Dataset) -> list[bytes]:
    row_mm, column_mm = image.PixelSpacing
    spaced = "SpacingBetweenSlices" in image
    return [
        _number(_HORIZONTAL_SPACING, column_mm, _MILLIMETRE),
        _number(_VERTICAL_SPACING, row_mm, _MILLIMETRE),
        _number(_THICKNESS, image.SliceThickness, _MILLIMETRE),
        *(
            _number(name, mm, _MILLIMETRE)
            for name, mm in zip(_POSITION, image.ImagePositionPatient, strict=True)
        ),
        *(
            _number(name, cosine, _COSINE)
            for name, cosine in zip(_ORIENTATION, image.ImageOrientationPatient, strict=True)
        ),
        *([_number(_BETWEEN_SLICES, image.SpacingBetweenSlices, _MILLIMETRE)] if spaced else []),
    ]


def _projection(image: Dataset) -> list[bytes]:
    row_mm, column_mm = image.ImagerPixelSpacing
    return [
        text_item(HAS_ACQUISITION_CONTEXT, _ROW_DIRECTION, image.PatientOrientation[0]),
        text_item(HAS_ACQUISITION_CONTEXT, _COLUMN_DIRECTION, image.PatientOrientation[1]),
        _number(_HORIZONTAL_SPACING, column_mm, _MILLIMETRE),
        _number(_VERTICAL_SPACING, row_mm, _MILLIMETRE),
    ]


def _number(name: Code, value: float, unit: Code) -> bytes:
    return number_item(HAS_ACQUISITION_CONTEXT, name, value, unit)


@lru_cache(maxsize=64)
def _modality(sop_class_uid: str) -> Code:
    """Return the coded modality of a SOP Class of images, as highdicom's table has it."""
    image = Dataset()
    image.SOPClassUID = sop_class_uid
    image.Modality = "OT"
    image.Rows = image.Columns = 1
    code = ImageLibraryEntryDescriptors(image)[0].value
    return Code(code.value, code.scheme_designator, code.meaning)
