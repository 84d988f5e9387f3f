"""Content items of a report, as bytes (PS3.3 C.17.3).

The functions have the order of their attributes from the standard's tags; what stands in which item
is `encode.groups`, `encode.library` and `encode.sr`.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from pydicom.valuerep import DSfloat

from dicom_node.encode.explicit import coded, element, item, sequence, text, unsigned_short
from dicom_node.finding import Code

CONTAINS = "CONTAINS"
HAS_ACQUISITION_CONTEXT = "HAS ACQ CONTEXT"
HAS_CONCEPT_MODIFIER = "HAS CONCEPT MOD"
HAS_OBSERVATION_CONTEXT = "HAS OBS CONTEXT"


def container(name: Code, *children: bytes, template: str = "") -> bytes:
    """Return a container of content items; `template` is its number in PS3.16."""
    return item(
        _begin(CONTAINS, "CONTAINER", name),
        text("ContinuityOfContent", "CONTINUOUS"),
        template_element(template) if template else b"",
        sequence("ContentSequence", *children),
    )


@lru_cache(maxsize=16)
def template_element(number: str) -> bytes:
    """Return the Content Template Sequence of a template of the standard's."""
    named = (text("MappingResource", "DCMR"), text("TemplateIdentifier", number))
    return sequence("ContentTemplateSequence", item(*named))


def code_item(relationship: str, name: Code, value: Code, *children: bytes) -> bytes:
    """Return an item whose value is a code."""
    return item(
        _begin(relationship, "CODE", name), coded("ConceptCodeSequence", value), _below(children)
    )


def text_item(relationship: str, name: Code, value: str) -> bytes:
    """Return an item whose value are words."""
    return item(_begin(relationship, "TEXT", name), text("TextValue", value))


def uid_item(relationship: str, name: Code, uid: str) -> bytes:
    """Return an item whose value is a UID."""
    return item(_begin(relationship, "UIDREF", name), text("UID", uid))


def number_item(relationship: str, name: Code, value: float, unit: Code, *children: bytes) -> bytes:
    """Return an item whose value is a number: of 16 characters, a float in full beside them."""
    measured = item(
        coded("MeasurementUnitsCodeSequence", unit),
        element("FloatingPointValue", struct.pack("<d", value))
        if isinstance(value, float)
        else b"",
        text("NumericValue", decimal(value)),
    )
    return item(
        _begin(relationship, "NUM", name),
        sequence("MeasuredValueSequence", measured),
        _below(children),
    )


def image_item(name: Code, reference: bytes, *children: bytes) -> bytes:
    """Return an item that names an image; `reference` is made by `reference_item`."""
    return item(
        sequence("ReferencedSOPSequence", reference),
        _begin(CONTAINS, "IMAGE", name),
        _below(children),
    )


def reference_item(
    sop_class_uid: str, sop_instance_uid: str, *, frame_number: int = 0, segment_number: int = 0
) -> bytes:
    """Return an item of a sequence that refers to an instance, a frame or a segment of it."""
    return item(
        text("ReferencedSOPClassUID", sop_class_uid),
        text("ReferencedSOPInstanceUID", sop_instance_uid),
        text("ReferencedFrameNumber", str(frame_number)) if frame_number else b"",
        unsigned_short("ReferencedSegmentNumber", segment_number) if segment_number else b"",
    )


def decimal(value: float) -> str:
    """Return a number as a value of VR DS: as it was read, or in 16 characters (PS3.5 6.2)."""
    return DSfloat(value, auto_format=True).original_string


@lru_cache(maxsize=512)
def _begin(relationship: str, value_type: str, name: Code) -> bytes:
    return (
        text("RelationshipType", relationship)
        + text("ValueType", value_type)
        + coded("ConceptNameCodeSequence", name)
    )


def _below(children: tuple[bytes, ...]) -> bytes:
    return sequence("ContentSequence", *children) if children else b""
