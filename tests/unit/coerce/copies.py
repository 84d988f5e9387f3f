"""Profiles, copies made by them, and a look at everything that a copy says."""

from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset, FileDataset

from dicom_node.coerce.coercion import Coerced, apply
from dicom_node.coerce.part10 import CoercedFile, apply_to_file
from dicom_node.coerce.profile import BurnedIn, Deidentification, Operation, Option, Profile
from dicom_node.data_sets import encode

SECRET = bytes(range(32))
EXPLICIT = "1.2.840.10008.1.2.1"


def a_profile(*options: Option, name: str = "research", forward: bool = True) -> Profile:
    """Return a profile that de-identifies, whatever the pixels hold."""
    policy = BurnedIn.FORWARD if forward else BurnedIn.REFUSE
    return Profile(name, Deidentification(frozenset(options), policy))


def coercing(*operations: Operation) -> Profile:
    """Return a profile that only coerces."""
    return Profile("coercing", None, operations)


def copy_of(dataset: Dataset, *options: Option) -> Dataset:
    return coerced(dataset, *options).dataset


def coerced(dataset: Dataset, *options: Option) -> Coerced:
    return apply(a_profile(*options), dataset, SECRET)


def bytes_of(dataset: Dataset) -> bytes:
    """Return a data set as it would be sent: what is not in these bytes is not in the copy."""
    return encode(dataset, EXPLICIT)


def file_of(dataset: FileDataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def copied_file(content: bytes, profile: Profile) -> tuple[CoercedFile, bytes]:
    """Return what became of a file, and the copy put together."""
    copied = apply_to_file(BytesIO(content), profile, SECRET)
    end = copied.pixels_offset + copied.pixels_length
    return copied, copied.head + content[copied.pixels_offset : end]
