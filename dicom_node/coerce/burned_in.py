"""Whether the pixels of an instance may be shown: what they may have burned in."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.coerce.profile import BurnedIn
from dicom_node.errors import StudyUnusable

_STORAGE = "1.2.840.10008.5.1.4.1.1."

TOMOGRAPHIC = frozenset(
    _STORAGE + root
    for root in (
        "2",  # CT Image
        "2.1",  # Enhanced CT Image
        "2.2",  # Legacy Converted Enhanced CT Image
        "4",  # MR Image
        "4.1",  # Enhanced MR Image
        "4.4",  # Legacy Converted Enhanced MR Image
        "128",  # Positron Emission Tomography Image
        "128.1",  # Legacy Converted Enhanced PET Image
        "130",  # Enhanced PET Image
    )
)
"""Images that a scanner computes: nothing is burned in where they are PRIMARY ((0008,0008))."""

WITHOUT_PICTURE = frozenset(
    _STORAGE + root
    for root in (
        "4.2",  # MR Spectroscopy
        "9.1.1",  # 12-lead ECG Waveform
        "9.1.2",  # General ECG Waveform
        "9.1.3",  # Ambulatory ECG Waveform
        "9.2.1",  # Hemodynamic Waveform
        "9.3.1",  # Cardiac Electrophysiology Waveform
        "9.5.1",  # Arterial Pulse Waveform
        "9.6.1",  # Respiratory Waveform
        "11.1",  # Grayscale Softcopy Presentation State
        "11.2",  # Color Softcopy Presentation State
        "11.3",  # Pseudo-Color Softcopy Presentation State
        "11.4",  # Blending Softcopy Presentation State
        "30",  # Parametric Map
        "66.1",  # Spatial Registration
        "66.2",  # Spatial Fiducials
        "66.3",  # Deformable Spatial Registration
        "66.4",  # Segmentation
        "66.5",  # Surface Segmentation
        "67",  # Real World Value Mapping
        "88.11",  # Basic Text SR
        "88.22",  # Enhanced SR
        "88.33",  # Comprehensive SR
        "88.34",  # Comprehensive 3D SR
        "88.40",  # Procedure Log
        "88.50",  # Mammography CAD SR
        "88.59",  # Key Object Selection Document
        "88.65",  # Chest CAD SR
        "88.67",  # X-Ray Radiation Dose SR
        "88.71",  # Acquisition Context SR
        "481.2",  # RT Dose
        "481.3",  # RT Structure Set
        "481.5",  # RT Plan
        "481.8",  # RT Ion Plan
    )
)
"""Instances whose pixels, if any, are computed masks or numbers."""

_ENCAPSULATED = _STORAGE + "104."
_AUDIO = _STORAGE + "9.4."
_RAW_DATA = _STORAGE + "66"
_SCREEN = {"SCREEN SAVE", "SCREENSHOT", "SECONDARY", "DOSE_INFO"}


def check_burned_in(dataset: Dataset, policy: BurnedIn) -> str:
    """Return a note for the record, "" where there is nothing to say.

    Raises
    ------
    StudyUnusable
        If the policy refuses the instance; the message says why.
    """
    sop_class_uid = str(dataset.get("SOPClassUID") or "")
    if sop_class_uid.startswith(_ENCAPSULATED):
        raise _refusal("an encapsulated document cannot be de-identified", "leave it out by a rule")
    if sop_class_uid.startswith(_AUDIO):
        raise _refusal("a voice cannot be de-identified", "leave it out by a rule")
    if sop_class_uid == _RAW_DATA:
        raise _refusal("raw data cannot be de-identified", "leave it out by a rule")
    if policy is BurnedIn.FORWARD:
        return "burned-in annotation was not looked at"
    if any(int(dataset[tag].value or 1) > 1 for tag in _overlay_bits(dataset)):
        raise _refusal("an overlay lies in the bits of its pixels", _HINT)
    declared = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if declared == "NO":
        return ""
    if declared:  # the value is not repeated: whoever puts more than YES there may put a name
        raise _refusal("Burned In Annotation (0028,0301) does not say NO", _HINT)
    if policy is BurnedIn.REFUSE and _holds_none(dataset, sop_class_uid):
        return ""
    raise _refusal(
        "Burned In Annotation (0028,0301) is missing, and its pixels may hold text", _HINT
    )


_HINT = "clean the pixels first, or set burned_in_annotation: forward if somebody looked at them"


def _holds_none(dataset: Dataset, sop_class_uid: str) -> bool:
    if sop_class_uid in WITHOUT_PICTURE:
        return True
    image_type = dataset.get("ImageType") or []
    values = [image_type] if isinstance(image_type, str) else [str(value) for value in image_type]
    primary = len(values) > 1 and values[1] == "PRIMARY"
    return sop_class_uid in TOMOGRAPHIC and primary and not _SCREEN & set(values)


def _overlay_bits(dataset: Dataset) -> list[int]:
    return [tag for tag in sorted(dataset.keys()) if tag & 0xFF01FFFF == 0x60000100]


def _refusal(what: str, hint: str) -> StudyUnusable:
    return StudyUnusable(f"not forwarded: {what}", hint=hint)
