"""What a condition can ask about: DICOM's keywords, ours, and what an engine found.

A keyword has a kind, and the kind says which tests make sense: a number can be compared, a text can
be searched. The data dictionary (PS3.6) gives the kind of DICOM's keywords.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from pydicom.datadict import dictionary_VR, tag_for_keyword


class Kind(Enum):
    """What the values of an attribute are; its value is the noun for messages."""

    NUMBER = "number"
    DATE = "date"
    TIME = "time"
    AGE = "age"
    TEXT = "text"
    UID = "UID"


@dataclass(frozen=True)
class OwnKeyword:
    """A keyword beside DICOM's."""

    kind: Kind
    meaning: str


OWN_KEYWORDS: Mapping[str, OwnKeyword] = {
    "instance_count": OwnKeyword(
        Kind.NUMBER, "how many instances were received: of the series, or of the study"
    ),
    "series_count": OwnKeyword(Kind.NUMBER, "how many series of the study were received"),
    "slice_count": OwnKeyword(
        Kind.NUMBER, "how many positions along the slice normal the instances have"
    ),
    "orientation": OwnKeyword(
        Kind.TEXT, "axial, coronal, sagittal or oblique; several values if the instances differ"
    ),
    "calling_ae_title": OwnKeyword(Kind.TEXT, "the AE title of who sent it"),
    "called_ae_title": OwnKeyword(Kind.TEXT, "the AE title by which the sender called this node"),
    "peer": OwnKeyword(Kind.TEXT, "the sender's key under peers: in node.yaml"),
    "time_of_day": OwnKeyword(
        Kind.TIME, "when the last instance came, by this machine's local time"
    ),
    "weekday": OwnKeyword(Kind.TEXT, "on which day that was: monday to sunday"),
    "completeness": OwnKeyword(Kind.TEXT, "complete, probable or suspect"),
    "prior": OwnKeyword(
        Kind.TEXT, "yes if it was fetched as a prior study, else no; other rules skip what is one"
    ),
}
"""Keywords beside DICOM's."""

_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("DS", "IS", "FL", "FD", "SL", "SS", "UL", "US", "SV", "UV"), Kind.NUMBER),
    "US or SS": Kind.NUMBER,
    "DA": Kind.DATE,
    "DT": Kind.DATE,  # by its date alone
    "TM": Kind.TIME,
    "AS": Kind.AGE,
    "UI": Kind.UID,
}
NO_ATTRIBUTE_VRS = frozenset({"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"})
"""Elements of these are never among the attributes of a series."""

_IDENTIFYING_GROUPS = frozenset({0x0010, 0x0038})  # patient, visit
_IDENTIFYING = frozenset(
    {
        "AccessionNumber",
        "StudyID",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "PerformedProcedureStepID",
        "PlacerOrderNumberImagingServiceRequest",
        "FillerOrderNumberImagingServiceRequest",
        "ClinicalTrialSubjectID",
        "ClinicalTrialSubjectReadingID",
        "ImageComments",
    }
)
"""Numbers and texts that lead to a patient, outside of those groups."""
_HARMLESS = frozenset(
    {
        "PatientSex",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "PatientSpeciesDescription",
        "PatientSexNeutered",
        "PregnancyStatus",
    }
)

_FINDING = re.compile(r"([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)(?:\.([a-z0-9_]+))?")


@dataclass(frozen=True)
class FindingKeyword:
    """A keyword that asks what an engine found: ENGINE.FACT, or ENGINE.FACT.LABEL."""

    engine: str
    fact: str
    label: str

    @classmethod
    def of(cls, keyword: str) -> FindingKeyword | None:
        match = _FINDING.fullmatch(keyword)
        return None if match is None else cls(match[1], match[2], match[3] or "")


FINDING_FACTS: Mapping[str, OwnKeyword] = {
    "outcome": OwnKeyword(Kind.TEXT, "done, refused or parked"),
    "grade": OwnKeyword(Kind.TEXT, "diagnostic, limited or non-diagnostic: the worst image"),
    "fault": OwnKeyword(Kind.TEXT, "the technical faults that were found"),
    "present": OwnKeyword(Kind.TEXT, "the labels of what was found present"),
    "probability": OwnKeyword(Kind.NUMBER, "the highest of all; with a label, of that alone"),
    "volume_ml": OwnKeyword(Kind.NUMBER, "of all segments; with a label, of that alone"),
    "area_cm2": OwnKeyword(
        Kind.NUMBER, "on a single image, of all segments; with a label, of that alone"
    ),
    "image_share": OwnKeyword(
        Kind.NUMBER, "of a single image, 0 to 1, of all segments; with a label, of that alone"
    ),
    "count": OwnKeyword(
        Kind.NUMBER, "connected parts of all segments; with a label, of that alone"
    ),
    "voxel_count": OwnKeyword(Kind.NUMBER, "of all segments; with a label, of that alone"),
    "slice_count": OwnKeyword(Kind.NUMBER, "of the segment on most slices; with a label, of that"),
    "long_axis_mm": OwnKeyword(Kind.NUMBER, "the longest of all; with a label, of that alone"),
    "short_axis_mm": OwnKeyword(Kind.NUMBER, "the longest of all; with a label, of that alone"),
    "longest_diameter_mm": OwnKeyword(Kind.NUMBER, "of all; with a label, of that alone"),
    "mean_value": OwnKeyword(Kind.NUMBER, "of the original values in the segment of a label"),
    "sd_value": OwnKeyword(Kind.NUMBER, "of the original values in the segment of a label"),
    "min_value": OwnKeyword(Kind.NUMBER, "the smallest inside of all; with a label, of that alone"),
    "max_value": OwnKeyword(Kind.NUMBER, "the largest inside of all; with a label, of that alone"),
    "value": OwnKeyword(Kind.NUMBER, "of a regression; with a label where there are several"),
}
"""What can be asked of a finding; a label is written in lower case, with _ for all else."""


def label_word(label: str) -> str:
    """Return a label as a keyword has it: "Right lung" is right_lung."""
    return re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")


@cache
def kind_of(keyword: str) -> Kind | None:
    """Return what the values of a keyword are; None if there is no such keyword."""
    own = OWN_KEYWORDS.get(keyword)
    if own is not None:
        return own.kind
    finding = FindingKeyword.of(keyword)
    if finding is not None:
        fact = FINDING_FACTS.get(finding.fact)
        return None if fact is None else fact.kind
    tag = tag_for_keyword(keyword) if keyword else None  # some retired elements have none
    return None if tag is None else _KINDS.get(dictionary_VR(tag), Kind.TEXT)


def is_ours(keyword: str) -> bool:
    """Return whether no header has this keyword."""
    return keyword in OWN_KEYWORDS or is_finding(keyword)


def is_finding(keyword: str) -> bool:
    """Return whether a keyword asks what an engine found."""
    return "." in keyword


@cache
def is_bulk(keyword: str) -> bool:
    """Return whether an attribute holds a sequence or bytes."""
    tag = tag_for_keyword(keyword)
    return tag is not None and bool(set(dictionary_VR(tag).split(" or ")) & NO_ATTRIBUTE_VRS)


@cache
def identifies(keyword: str) -> bool:
    """Return whether values of this attribute can identify a patient (PS3.15 Table E.1-1)."""
    tag = tag_for_keyword(keyword)
    if tag is None or keyword in _HARMLESS:
        return False
    named = dictionary_VR(tag) == "PN" or keyword in _IDENTIFYING
    return named or tag >> 16 in _IDENTIFYING_GROUPS
