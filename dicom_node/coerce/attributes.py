"""What an operation may do to an attribute, by the data dictionary: each question is answered by
what is wrong, in words, "" where nothing is."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR, tag_for_keyword
from pydicom.valuerep import validate_value

_TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT"}
)
_NUMBERS_AS_TEXT = frozenset({"DS", "IS"})
_INTEGER_VRS = frozenset({"SL", "SS", "SV", "UL", "US", "UV"})
_FLOAT_VRS = frozenset({"FD", "FL"})
_WRITABLE_VRS = _TEXT_VRS | _NUMBERS_AS_TEXT | _INTEGER_VRS | _FLOAT_VRS
_HASHED_VRS = _TEXT_VRS - {"AS", "DA", "DT", "TM", "UR"}
_ONE_VALUE_VRS = frozenset({"LT", "ST", "UR", "UT"})
"""A backslash in them is one; elsewhere it separates values (PS3.5 6.2)."""

_DISPLAY = frozenset(
    {
        "BurnedInAnnotation",
        "QualityControlImage",
        "RecognizableVisualFeatures",
        "WindowCenter",
        "WindowCenterWidthExplanation",
        "WindowWidth",
    }
)
"""What may be changed of group 0028; the rest of it says how pixels are read."""
_OURS = frozenset(
    {
        "DeidentificationMethod",
        "DeidentificationMethodCodeSequence",
        "LongitudinalTemporalInformationModified",
        "PatientIdentityRemoved",
        "SpecificCharacterSet",
    }
)


def why_not_changed(keyword: object) -> str:
    """Say why no operation may give an attribute another value."""
    return _unknown(keyword) or _why_not(str(keyword), _WRITABLE_VRS)


def why_not_removed(keyword: object) -> str:
    """Say why an attribute may not be taken away; sequences may."""
    return _unknown(keyword) or _why_not(str(keyword), _WRITABLE_VRS | {"SQ"})


def why_not_text(keyword: object) -> str:
    """Say why the values of an attribute cannot be looked at as text."""
    if unknown := _unknown(keyword):
        return unknown
    is_text = dictionary_VR(str(keyword)) in _TEXT_VRS | _NUMBERS_AS_TEXT
    return "" if is_text else f"{keyword} is no text"


def why_not_hashed(keyword: object) -> str:
    """Say why a hash may not stand in the place of an attribute's value."""
    if why := why_not_changed(keyword):
        return why
    vr = dictionary_VR(str(keyword))
    is_hashed = vr in _HASHED_VRS
    return "" if is_hashed else f"{keyword} cannot be hashed: a hash is no value of VR {vr}"


def faults_of_value(keyword: str, written: object) -> Iterator[str]:
    """Say what is wrong with a value, or a list of them, for an attribute that may be changed."""
    vm = dictionary_VM(keyword)
    values = written if isinstance(written, list) else [written]
    if not _fits(vm, len(values)):
        yield f"{keyword} has {vm} values, not {len(values)}"
    for value in values:
        yield from faults_of_one(keyword, value)


def faults_of_one(keyword: str, value: object) -> Iterator[str]:
    """Say what is wrong with one value, however many the attribute has."""
    fault = _fault_of_one(keyword, dictionary_VR(keyword), value)
    if fault:
        yield fault


def as_value(keyword: str, written: object) -> object:
    """Return a value as a data set takes it: DS and IS are text there."""
    if dictionary_VR(keyword) not in _NUMBERS_AS_TEXT:
        return written
    return [str(one) for one in written] if isinstance(written, list) else str(written)


def _unknown(keyword: object) -> str:
    known = isinstance(keyword, str) and tag_for_keyword(keyword) is not None
    return "" if known else f"{keyword} is no keyword of the data dictionary"


def _why_not(keyword: str, vrs: frozenset[str]) -> str:
    vr, group = dictionary_VR(keyword), (tag_for_keyword(keyword) or 0) >> 16
    why = ""
    if vr == "UI":
        why = "UIDs must stay consistent; de-identification replaces them"
    elif group < 0x0008 or group == 0x7FE0:
        why = "it belongs to the message, the file or the pixels"
    elif keyword in _OURS:
        why = "the node sets it itself"
    elif group == 0x0028 and keyword not in _DISPLAY:
        why = "it says how the pixels are read"
    elif vr not in vrs:
        why = f"values of VR {vr} cannot be written here"
    return f"{keyword} cannot be changed: {why}" if why else ""


def _fault_of_one(keyword: str, vr: str, value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if vr in _TEXT_VRS and not isinstance(value, str):
        return f"{keyword} is text (VR {vr}): put {value} in quotes"
    if vr in _INTEGER_VRS and not (is_number and isinstance(value, int)):
        return f"{keyword} is a whole number (VR {vr})"
    if vr in _FLOAT_VRS and not is_number:
        return f"{keyword} is a number (VR {vr})"
    if isinstance(value, str) and "\\" in value and vr not in _ONE_VALUE_VRS:
        return f"{keyword} has a backslash in its value, which separates values: write a list"
    try:
        validate_value(vr, str(value) if vr in _NUMBERS_AS_TEXT else value, RAISE)
    except ValueError as error:
        return f"is no value of {keyword} (VR {vr}): {error}"
    return ""


def _fits(vm: str, count: int) -> bool:
    """Return whether so many values are allowed by a VM such as 1, 1-3, 2-n or 2-2n."""
    least, _, most = vm.partition("-")
    if not most:
        return count == int(least)
    if most.endswith("n"):
        return count >= int(least) and count % int(most.removesuffix("n") or 1) == 0
    return int(least) <= count <= int(most)
