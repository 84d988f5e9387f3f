"""The tree of a report: what an item must have depends on its value type (PS3.3 C.17.3, C.18)."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataset import Dataset

_VALUES = {
    "CODE": ("ConceptCodeSequence",),
    "COMPOSITE": ("ReferencedSOPSequence",),
    "CONTAINER": ("ContinuityOfContent",),
    "DATE": ("Date",),
    "DATETIME": ("DateTime",),
    "IMAGE": ("ReferencedSOPSequence",),
    "NUM": ("MeasuredValueSequence",),
    "PNAME": ("PersonName",),
    "SCOORD": ("GraphicType", "GraphicData"),
    "SCOORD3D": ("GraphicType", "GraphicData", "ReferencedFrameOfReferenceUID"),
    "TEXT": ("TextValue",),
    "TIME": ("Time",),
    "UIDREF": ("UID",),
}
_UNNAMED = frozenset({"IMAGE", "COMPOSITE", "SCOORD", "SCOORD3D"})
"""Their names may be left out; of all others viewers throw away the whole report without."""


def broken_items(document: Dataset) -> Iterator[str]:
    """Yield what is wrong in the content tree of an SR or KO document; nothing of other objects."""
    if document.get("Modality") in ("SR", "KO"):
        yield from _broken(document, "the root", is_root=True)


def _broken(item: Dataset, where: str, *, is_root: bool = False) -> Iterator[str]:
    kind = str(item.get("ValueType", ""))
    if kind not in _VALUES:
        yield f"{where} has no value type that we know: {kind!r}"
        return
    needed = [*_VALUES[kind]]
    if not is_root:
        needed.append("RelationshipType")
    if kind not in _UNNAMED and (kind != "CONTAINER" or is_root):
        needed.append("ConceptNameCodeSequence")
    for keyword in needed:
        if keyword not in item or item[keyword].is_empty or not item[keyword].value:
            yield f"{where}: {keyword} is missing or empty (type 1)"
    if kind == "NUM":
        for value in item.get("MeasuredValueSequence", ()):
            for keyword in ("NumericValue", "MeasurementUnitsCodeSequence"):
                if keyword not in value or item_is_empty(value, keyword):
                    yield f"{where}: {keyword} is missing or empty (type 1)"
    for number, child in enumerate(item.get("ContentSequence", ()), start=1):
        yield from _broken(child, f"item {number}" if is_root else f"{where}.{number}")


def item_is_empty(item: Dataset, keyword: str) -> bool:
    """Return whether an attribute is there without a value; a number zero is one."""
    value = item[keyword].value
    return value is None or value == "" or (item[keyword].VR == "SQ" and not value)
