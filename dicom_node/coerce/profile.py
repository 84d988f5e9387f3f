"""A profile: how a copy differs from its original before it leaves the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Option(StrEnum):
    """The options of the Basic Application Confidentiality Profile that we offer (PS3.15 E.3)."""

    CLEAN_GRAPHICS = "clean_graphics"
    CLEAN_STRUCTURED_CONTENT = "clean_structured_content"
    CLEAN_DESCRIPTORS = "clean_descriptors"
    RETAIN_LONGITUDINAL_FULL_DATES = "retain_longitudinal_full_dates"
    RETAIN_LONGITUDINAL_MODIFIED_DATES = "retain_longitudinal_modified_dates"
    RETAIN_PATIENT_CHARACTERISTICS = "retain_patient_characteristics"
    RETAIN_DEVICE_IDENTITY = "retain_device_identity"
    RETAIN_UIDS = "retain_uids"
    RETAIN_SAFE_PRIVATE = "retain_safe_private"
    RETAIN_INSTITUTION_IDENTITY = "retain_institution_identity"


class BurnedIn(StrEnum):
    """What becomes of images whose pixels may hold identity ((0028,0301), PS3.3 C.7.6.1.1.1)."""

    REFUSE = "refuse"
    """Forward what says NO, or is of a kind that holds none."""
    FORWARD_IF_DECLARED_ABSENT = "forward_if_declared_absent"
    """Forward only what says NO."""
    FORWARD = "forward"


@dataclass(frozen=True)
class Deidentification:
    """The Basic Application Confidentiality Profile with these options (PS3.15 E.2, E.3)."""

    options: frozenset[Option] = frozenset()
    burned_in_annotation: BurnedIn = BurnedIn.REFUSE


@dataclass(frozen=True)
class Set:
    """Give an attribute a value, whether it was there or not."""

    keyword: str
    value: object


@dataclass(frozen=True)
class Copy:
    """Give an attribute the value of another; nothing happens where that is missing or empty."""

    source: str
    keyword: str


@dataclass(frozen=True)
class Remove:
    """Take an attribute away."""

    keyword: str


@dataclass(frozen=True)
class Map:
    """Replace each value by what it is mapped to; others are kept or taken away."""

    keyword: str
    values: Mapping[str, str]
    keeps_others: bool = True


@dataclass(frozen=True)
class Replace:
    """Replace what a regular expression finds in each value."""

    keyword: str
    pattern: str
    replacement: str


@dataclass(frozen=True)
class Hash:
    """Replace each value by its pseudonym."""

    keyword: str


Operation = Set | Copy | Remove | Map | Replace | Hash
"""One change of one attribute of the data set itself, never within a sequence."""


@dataclass(frozen=True)
class Profile:
    """De-identification first, if any, then the operations in their order.

    So no operation can bring back what de-identification took away.
    """

    name: str
    deidentification: Deidentification | None = None
    operations: tuple[Operation, ...] = ()
    results_to: tuple[str, ...] = ()
    """Where results for its copies go, once they are those of the real study again."""
