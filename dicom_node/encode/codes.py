"""Coded concepts, display colours, and short texts that fit their VR."""

from __future__ import annotations

import re

from highdicom.color import CIELabColor
from highdicom.sr import CodedConcept

from dicom_node.finding import Code, QualityGrade
from dicom_node.pictures import segment_colour


def concept(code: Code) -> CodedConcept:
    """Return the code as highdicom wants it."""
    return CodedConcept(code.value, code.scheme, code.meaning)


ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")  # CID 7162
ACQUISITION_EQUIPMENT = Code("109101", "DCM", "Acquisition Equipment")  # CID 7005
SEGMENTATION = Code("113076", "DCM", "Segmentation")  # CID 7203
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")  # CID 7202

COMMENT = Code("121106", "DCM", "Comment")
ENGLISH_US = Code("en-US", "RFC5646", "English (United States)")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")

VOLUME = Code("118565006", "SCT", "Volume")
PROBABILITY = Code("122157", "DCM", "Probability")
NO_UNITS = Code("1", "UCUM", "no units")

PRESENCE = Code("705057003", "SCT", "Presence")
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("272519000", "SCT", "Absent")

QUALITY_ASSESSMENT = Code("111050", "DCM", "Quality Assessment")
SERIES_QUALITY = Code("130550", "DCM", "Imaging Series Quality")
GRADES = {  # CID 7036
    QualityGrade.DIAGNOSTIC: Code("RID12", "RADLEX", "Diagnostic quality"),
    QualityGrade.LIMITED: Code("RID13", "RADLEX", "Limited quality"),
    QualityGrade.NON_DIAGNOSTIC: Code("RID14", "RADLEX", "Non-diagnostic quality"),
}

# CID 100. SNOMED's (77477000, Computed tomography) is not in it, PixelMed calls it an error.
_XR = Code("43468-8", "LN", "XR unspecified body region")
_PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "NM": Code("49118-3", "LN", "NM unspecified body region"),
    "PT": Code("44136-0", "LN", "PET unspecified body region"),
    "CR": _XR,
    "DX": _XR,
}
_ANY_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")


def procedure_reported(modality: str) -> Code:
    """Return the Procedure Reported for the Modality of the source (PS3.16 CID 100)."""
    return _PROCEDURES.get(modality, _ANY_PROCEDURE)


def display_colour(segment_number: int) -> CIELabColor:
    """Return the colour of a segment, by its number in the engine's manifest."""
    return CIELabColor.from_rgb(*segment_colour(segment_number))


def long_string(text: str, length_max: int = 64) -> str:
    """Return the text as a value of VR LO: without backslash, 64 characters (PS3.5 6.2)."""
    return text.replace("\\", "/").strip()[:length_max]


def code_string(text: str) -> str:
    """Return the text as a value of VR CS: A-Z, 0-9, space, underscore; 16 characters."""
    return re.sub(r"[^A-Z0-9_ ]", "_", text.upper())[:16].strip()
