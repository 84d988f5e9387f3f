"""A way through a data set that is gone several times: each element is converted once."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset


def elements_of(dataset: Dataset) -> Iterator[DataElement]:
    """Yield the elements of a data set; iterating over it looks each of them up anew."""
    for tag, element in list(dataset.items()):
        yield element if isinstance(element, DataElement) else dataset[tag]
