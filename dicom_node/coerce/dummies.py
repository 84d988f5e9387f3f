"""Values that say nothing, one for each VR, and what stands for removed content."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

REMOVED = "REMOVED"

_DUMMIES: dict[str, object] = {
    "AE": REMOVED,
    "AS": "000Y",
    "CS": REMOVED,
    "DA": "19000101",
    "DS": "0",
    "DT": "19000101000000",
    "FD": 0.0,
    "FL": 0.0,
    "IS": "0",
    "LO": REMOVED,
    "LT": REMOVED,
    "PN": REMOVED,
    "SH": REMOVED,
    "SL": 0,
    "SS": 0,
    "ST": REMOVED,
    "TM": "000000",
    "UC": REMOVED,
    "UL": 0,
    "UR": "urn:removed",
    "US": 0,
    "UT": REMOVED,
}
_NO_BYTES = b"\0\0"


def dummy(vr: str) -> object:
    """Return the value of a VR that says nothing, never an empty one."""
    return _DUMMIES.get(vr, _NO_BYTES)


def removed_code() -> Dataset:
    """Return a code that stands for another."""
    return _code(REMOVED, "99REMOVED", "Removed")


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def removed_content() -> Dataset:
    """Return the one content item of a document whose content was removed (PS3.3 C.17.3)."""
    item = Dataset()
    item.RelationshipType = "CONTAINS"
    item.ValueType = "TEXT"
    item.ConceptNameCodeSequence = Sequence([_code("121106", "DCM", "Comment")])
    item.TextValue = REMOVED
    return item
