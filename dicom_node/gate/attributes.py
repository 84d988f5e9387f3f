"""Attributes of a data set: those that are required are there, and their values fit their VR."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from pydicom import config
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from dicom_node.gate.tables import Required, table_of
from dicom_node.gate.walk import elements_of

_TEXTS = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"]
)
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
_COPIED = frozenset({"ContributingEquipmentSequence", "RequestAttributesSequence"})
"""Whatever the scanner said in these is passed on."""


def _always(value: Any) -> bool:
    return True


_CONDITIONS: dict[str, tuple[tuple[str, Callable[[Any], bool]], ...]] = {
    "LossyImageCompression": (("LossyImageCompressionMethod", lambda value: value == "01"),),
    "SamplesPerPixel": (("PlanarConfiguration", lambda value: value > 1),),
    "SegmentAlgorithmType": (("SegmentAlgorithmName", lambda value: value != "MANUAL"),),
    "SegmentationType": (
        ("MaximumFractionalValue", lambda value: value == "FRACTIONAL"),
        ("SegmentationFractionalType", lambda value: value == "FRACTIONAL"),
    ),
    "TrackingID": (("TrackingUID", _always),),
    "TrackingUID": (("TrackingID", _always),),
    "RescaleIntercept": (("RescaleSlope", _always),),
    "WindowCenter": (("WindowWidth", _always),),
    "EncapsulatedDocument": (("EncapsulatedDocumentLength", _always),),
}
"""By the attribute on whose value it depends: what is required beside it (type 1C)."""


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


def conditional(dataset: Dataset, where: str = "", fine: set[int] | None = None) -> Iterator[str]:
    """Yield what is missing though its condition holds, in all items.

    Parameters
    ----------
    fine : set of int, optional
        Sequences of this data set in which nothing is missing, by the `id` of their elements: what
        stands in it several times is one object (see `walk.convert`).
    """
    fine = set() if fine is None else fine
    given = {element.keyword: element for element in elements_of(dataset)}
    for beside in given.keys() & _CONDITIONS.keys():
        for keyword, holds in _CONDITIONS[beside]:
            if holds(given[beside].value) and (keyword not in given or given[keyword].is_empty):
                yield f"{where}{keyword} is required beside {beside} (type 1C)"
    if "CodeMeaning" in given:
        codes = [keyword for keyword in _CODE_VALUES if keyword in given]
        if len(codes) != 1 or given[codes[0]].is_empty:
            yield f"{where}CodeMeaning has not one code beside it"
        elif codes[0] != "URNCodeValue" and _is_empty(dataset, "CodingSchemeDesignator"):
            yield f"{where}CodingSchemeDesignator is required beside a code (type 1C)"
    for keyword, element in given.items():
        if element.VR == "SQ" and keyword not in _COPIED and id(element) not in fine:
            is_fine = True
            for number, item in enumerate(element.value, start=1):
                for reason in conditional(item, f"{where}{keyword}[{number}].", fine):
                    is_fine = False
                    yield reason
            if is_fine:
                fine.add(id(element))


def invalid(dataset: Dataset, sop_class_uid: str) -> Iterator[str]:
    """Yield values that break their VR, of what is not copied from the source."""
    table = table_of(sop_class_uid)
    copied = _COPIED | (table.inherited if table is not None else frozenset())
    fine: set[int] = set()
    for element in elements_of(dataset):
        if element.keyword not in copied:
            yield from _invalid(element, "", fine)


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


def _invalid(element: DataElement, where: str, fine: set[int]) -> Iterator[str]:
    """Yield what is wrong in an element; `fine` as for `conditional`, here of all elements."""
    if id(element) in fine:
        return
    is_fine = True
    for reason in _invalid_here(element, where, fine):
        is_fine = False
        yield reason
    if is_fine:
        fine.add(id(element))


def _invalid_here(element: DataElement, where: str, fine: set[int]) -> Iterator[str]:
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
                for one in elements_of(item):
                    yield from _invalid(one, f"{where}{name}[{number}].", fine)
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
