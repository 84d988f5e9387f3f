"""Items of sequences that are cleaned: which of them stay."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_node.coerce.elements import without

_PUBLIC_SCHEMES = frozenset(
    {"DCM", "SCT", "SRT", "SNM3", "LN", "RADLEX", "FMA", "UCUM", "I10", "I9C"}
)
_CHARACTERISTICS = frozenset(
    {
        *("121032", "121033"),  # DCM: Subject Sex, Subject Age
        *("8302-2", "29463-7"),  # LN: Patient Height, Patient Weight
        *("50373000", "27113001", "397669002", "424144002"),  # SCT: height, weight, age
    }
)
"""Concept names of content items that describe the patient."""


def tells_characteristic(item: Dataset) -> bool:
    """Return whether a content item tells a characteristic of the patient (PS3.15 E.3.4)."""
    names = item.get("ConceptNameCodeSequence") or ()
    return any(str(name.get("CodeValue")) in _CHARACTERISTICS for name in names)


def graphics_without_text(item: Dataset) -> Dataset | None:
    if "GraphicObjectSequence" not in item:
        return None
    return without(item, ["TextObjectSequence"])


def public_codes_only(item: Dataset) -> Dataset | None:
    """Return an item unless it is a code of a scheme of somebody's own."""
    scheme = str(item.get("CodingSchemeDesignator") or "")
    return item if not scheme or scheme in _PUBLIC_SCHEMES else None
