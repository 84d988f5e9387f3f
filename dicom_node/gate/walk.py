"""A way through a data set that is gone several times: what is the same is converted once.

Half of a report's elements stand in it many times: the names of concepts, units, algorithms. Such
elements are one object here, so whoever has judged one has judged all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

_CHARACTER_SET = 0x00080005

Known = dict[tuple[int, str | None, bytes | None], DataElement]
"""Elements by tag, VR and Value Field."""


def convert(dataset: Dataset, known: Known | None = None) -> None:
    """Convert all elements of a data set that was read, the same bytes to the same object."""
    if known is None or _CHARACTER_SET in dataset:
        known = {}  # in another character set the same bytes are another text
    for tag, raw in list(dataset.items()):
        if isinstance(raw, DataElement):
            _convert_items(raw, known)
            continue
        key = (int(tag), raw.VR, raw.value)
        element = known.get(key)
        if element is None:
            element = known[key] = dataset[tag]
            _convert_items(element, known)
        else:
            dataset[tag] = element


def _convert_items(element: DataElement, known: Known) -> None:
    if element.VR == "SQ":
        for item in element.value:
            convert(item, known)


def elements_of(dataset: Dataset) -> Iterator[DataElement]:
    """Yield the elements of a data set; iterating over it looks each of them up anew."""
    for tag, element in list(dataset.items()):
        yield element if isinstance(element, DataElement) else dataset[tag]
