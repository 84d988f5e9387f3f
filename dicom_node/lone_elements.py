"""One element by itself, as pydicom reads it within its data set, in a tenth of the time.

What most elements mean depends on nothing beside them. pydicom's own conversion of values is called
for these without what surrounds it: a file, a data set, a search for whoever reserved a block.
"""

from __future__ import annotations

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag
from pydicom.values import convert_value

_VRS = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI"])
"""VRs of ASCII text, whatever Specific Character Set and Pixel Representation say (PS3.5 6.2)."""
_HEAD_BYTES = 8
"""Tag and length; of these VRs also with the VR (PS3.5 7.1.2)."""


def lone_element(tag: int, content: bytes, explicit: bool, byte_order: str) -> DataElement | None:
    """Return an element from its bytes; None if it takes more than these to know what it is.

    Parameters
    ----------
    content : bytes
        The whole element, of a defined length.
    byte_order : str
        `<` or `>`.
    """
    value = content[_HEAD_BYTES:]
    if not value:
        return None  # which kind of nothing it is, its data set decides
    if explicit:
        vr = content[4:6].decode("latin-1")
    else:
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            return None
    if vr not in _VRS:
        return None
    place = BaseTag(tag)
    raw = RawDataElement(place, vr, len(value), value, 0, not explicit, byte_order == "<")
    return DataElement(place, vr, convert_value(vr, raw), already_converted=True)
