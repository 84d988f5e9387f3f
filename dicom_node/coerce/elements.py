"""Elements as they were read: looked at without decoding them."""

from __future__ import annotations

from collections.abc import Collection

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

Element = DataElement | RawDataElement

_STRUCTURED_VRS = frozenset({"SQ", "UI", "PN", "DA", "DT", "TM"})


def like(original: Dataset, elements: dict[BaseTag, Element]) -> Dataset:
    """Return a data set of these elements that is encoded like another.

    They are put in at once, since pydicom decodes those that are set one by one.
    """
    charset = original.original_character_set
    new = Dataset(elements, parent_encoding=charset) if charset else Dataset(elements)
    implicit_vr, little_endian = original.original_encoding
    new.set_original_encoding(implicit_vr, little_endian, charset or None)
    return new


def vr_of(dataset: Dataset, tag: BaseTag) -> str:
    """Return the VR of an element without decoding it, as the dictionary has it where it can."""
    vr = dataset.get_item(tag).VR
    if vr in (None, "UN") and dictionary_has_tag(tag):
        return dictionary_VR(tag)
    return str(vr or "UN")


def is_mislabelled(vr: str, tag: BaseTag) -> bool:
    """Return whether an element of a VR that is treated by its structure says another one."""
    expected = dictionary_VR(tag)
    return vr != expected and (expected in _STRUCTURED_VRS or vr == "SQ")


def is_empty(dataset: Dataset, tag: BaseTag) -> bool:
    value = dataset.get_item(tag).value
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def texts_of(value: object) -> list[str]:
    """Return the value or values of an element as text; none where it is empty."""
    if value is None:
        return []
    # not every iterable has several values: a PersonName is one, and iterates over its letters
    if isinstance(value, MultiValue | list | tuple):
        return [str(one) for one in value]
    return [str(value)]


def holds_nothing(element: Element) -> bool:
    value = element.value
    if isinstance(value, Sequence):
        return not any(len(item) for item in value)
    return not any(texts_of(value))


def without(item: Dataset, keywords: Collection[str]) -> Dataset:
    kept: dict[BaseTag, Element] = {
        tag: item.get_item(tag)
        for tag in sorted(item.keys())
        if keyword_for_tag(tag) not in keywords
    }
    return like(item, kept)
