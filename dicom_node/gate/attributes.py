"""Attributes of a data set: those that are required are there, and their values fit their VR."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from dicom_node.gate.tables import Required, table_of

_TEXTS = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"]
)
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
_COPIED = frozenset({"ContributingEquipmentSequence", "RequestAttributesSequence"})
"""Whatever the scanner said in these is passed on."""

Condition = Callable[[Dataset], bool]
_CONDITIONS: dict[str, tuple[str, Condition]] = {
    "LossyImageCompressionMethod": (
        "LossyImageCompression",
        lambda item: item.LossyImageCompression == "01",
    ),
    "PlanarConfiguration": ("SamplesPerPixel", lambda item: int(item.SamplesPerPixel) > 1),
    "SegmentAlgorithmName": (
        "SegmentAlgorithmType",
        lambda item: item.SegmentAlgorithmType != "MANUAL",
    ),
    "MaximumFractionalValue": (
        "SegmentationType",
        lambda item: item.SegmentationType == "FRACTIONAL",
    ),
    "SegmentationFractionalType": (
        "SegmentationType",
        lambda item: item.SegmentationType == "FRACTIONAL",
    ),
    "TrackingUID": ("TrackingID", lambda item: True),
    "TrackingID": ("TrackingUID", lambda item: True),
    "RescaleSlope": ("RescaleIntercept", lambda item: True),
    "WindowWidth": ("WindowCenter", lambda item: True),
    "EncapsulatedDocumentLength": ("EncapsulatedDocument", lambda item: True),
}
"""Type 1C: required beside an attribute if a condition on the same item holds."""


def missing(dataset: Dataset, sop_class_uid: str) -> Iterator[str]:
    """Yield what is required and not there, or empty; each with its place."""
    table = table_of(sop_class_uid)
    if table is None:
        yield f"the SOP Class {sop_class_uid} is in no table"
        return
    yield from _missing(dataset, table.always, "")
    for keyword, required in table.begun:
        if keyword in dataset:
            yield from _missing(dataset, required, "")


def missing_in_item(item: Dataset, sop_class_uid: str, sequence: str) -> Iterator[str]:
    """Yield what is required and not there in an item of a sequence of the first level."""
    table = table_of(sop_class_uid)
    if table is not None and sequence in table.always.below:
        yield from _missing(item, table.always.below[sequence], f"{sequence}.")


def conditional(dataset: Dataset, where: str = "") -> Iterator[str]:
    """Yield what is missing though its condition holds, in all items."""
    for keyword, (beside, holds) in _CONDITIONS.items():
        if beside in dataset and holds(dataset) and _is_empty(dataset, keyword):
            yield f"{where}{keyword} is required beside {beside} (type 1C)"
    if "CodeMeaning" in dataset:
        given = [keyword for keyword in _CODE_VALUES if keyword in dataset]
        if len(given) != 1 or _is_empty(dataset, given[0]):
            yield f"{where}CodeMeaning has not one code beside it"
        elif given[0] != "URNCodeValue" and _is_empty(dataset, "CodingSchemeDesignator"):
            yield f"{where}CodingSchemeDesignator is required beside a code (type 1C)"
    for element in dataset:
        if element.VR == "SQ" and element.keyword not in _COPIED:
            for number, item in enumerate(element.value, start=1):
                yield from conditional(item, f"{where}{element.keyword}[{number}].")


def invalid(dataset: Dataset, sop_class_uid: str) -> Iterator[str]:
    """Yield values that break their VR, of what is not copied from the source."""
    table = table_of(sop_class_uid)
    copied = _COPIED | (table.inherited if table is not None else frozenset())
    for element in dataset:
        if element.keyword not in copied:
            yield from _invalid(element, "")


def _missing(item: Dataset, required: Required, where: str) -> Iterator[str]:
    for keyword, kind in required.types.items():
        if keyword not in item:
            yield f"{where}{keyword} is missing (type {kind})"
        elif kind == "1" and _is_empty(item, keyword):
            yield f"{where}{keyword} is empty (type 1)"
    for keyword, below in required.below.items():
        if keyword in item and keyword != "PerFrameFunctionalGroupsSequence":
            for number, one in enumerate(item[keyword].value or (), start=1):
                yield from _missing(one, below, f"{where}{keyword}[{number}].")


def _is_empty(item: Dataset, keyword: str) -> bool:
    if keyword not in item:
        return True
    element = item[keyword]
    return element.is_empty or (element.VR == "SQ" and not element.value)


def _invalid(element: DataElement, where: str) -> Iterator[str]:
    name = element.keyword or str(element.tag)
    if element.tag.is_private:
        yield f"{where}{name} is private"
        return
    expected = dictionary_VR(element.tag) if keyword_for_tag(element.tag) else ""
    if element.VR not in expected:
        yield f"{where}{name} is {element.VR}, not {expected}"
    elif element.VR == "SQ":
        if name not in _COPIED:
            for number, item in enumerate(element.value, start=1):
                for one in item:
                    yield from _invalid(one, f"{where}{name}[{number}].")
    elif not element.is_empty and not _fits(element):
        yield f"{where}{name} breaks its VR {element.VR}"


def _fits(element: DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    if element.VR == "UI":
        return all(len(str(uid)) <= 64 and _UID.fullmatch(str(uid)) for uid in values)
    if element.VR in _TEXTS:
        try:
            for value in values:
                validate_value(element.VR, str(value), config.RAISE)
        except ValueError:
            return False
    return True
