"""The keys of a C-FIND: which we know, at which level, and what an identifier asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from dicom_node.data_sets import text_of, texts_of
from dicom_node.receive.matching import is_universal, matches
from dicom_node.receive.refusal import RequestRefused
from dicom_node.receive.service import DimseStatus

PATIENT_ROOT = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT = "1.2.840.10008.5.1.4.1.2.2.1"


class Level(IntEnum):
    """(0008,0052) Query/Retrieve Level, from the top (PS3.4 C.6.1.1.1)."""

    PATIENT = 0
    STUDY = 1
    SERIES = 2
    IMAGE = 3


UNIQUE_KEYS: Mapping[Level, str] = {
    Level.PATIENT: "PatientID",
    Level.STUDY: "StudyInstanceUID",
    Level.SERIES: "SeriesInstanceUID",
    Level.IMAGE: "SOPInstanceUID",
}

LEDGER_KEYS: Mapping[str, Level] = {
    "RetrieveAETitle": Level.PATIENT,
    "InstanceAvailability": Level.PATIENT,
    "StudyInstanceUID": Level.STUDY,
    "SOPClassesInStudy": Level.STUDY,
    "NumberOfStudyRelatedSeries": Level.STUDY,
    "NumberOfStudyRelatedInstances": Level.STUDY,
    "SeriesInstanceUID": Level.SERIES,
    "NumberOfSeriesRelatedInstances": Level.SERIES,
    "SOPInstanceUID": Level.IMAGE,
    "SOPClassUID": Level.IMAGE,
    "AvailableTransferSyntaxUID": Level.IMAGE,
}
"""Answered from the ledger."""

HEADER_KEYS: Mapping[str, Level] = {
    "PatientName": Level.PATIENT,
    "PatientID": Level.PATIENT,
    "IssuerOfPatientID": Level.PATIENT,
    "PatientBirthDate": Level.PATIENT,
    "PatientSex": Level.PATIENT,
    "StudyDate": Level.STUDY,
    "StudyTime": Level.STUDY,
    "AccessionNumber": Level.STUDY,
    "StudyID": Level.STUDY,
    "StudyDescription": Level.STUDY,
    "ReferringPhysicianName": Level.STUDY,
    "PatientAge": Level.STUDY,
    "ModalitiesInStudy": Level.STUDY,
    "Modality": Level.SERIES,
    "SeriesNumber": Level.SERIES,
    "SeriesDate": Level.SERIES,
    "SeriesTime": Level.SERIES,
    "SeriesDescription": Level.SERIES,
    "ProtocolName": Level.SERIES,
    "BodyPartExamined": Level.SERIES,
    "Laterality": Level.SERIES,
    "StationName": Level.SERIES,
    "InstitutionName": Level.SERIES,
    "Manufacturer": Level.SERIES,
    "PerformedProcedureStepStartDate": Level.SERIES,
    "PerformedProcedureStepStartTime": Level.SERIES,
    "InstanceNumber": Level.IMAGE,
    "AcquisitionNumber": Level.IMAGE,
    "AcquisitionDate": Level.IMAGE,
    "AcquisitionTime": Level.IMAGE,
    "ContentDate": Level.IMAGE,
    "ContentTime": Level.IMAGE,
    "ImageType": Level.IMAGE,
    "NumberOfFrames": Level.IMAGE,
    "Rows": Level.IMAGE,
    "Columns": Level.IMAGE,
}
"""Answered from the header of a stored instance: the ledger knows no patient."""

KEYS: Mapping[str, Level] = MappingProxyType({**LEDGER_KEYS, **HEADER_KEYS})

_NO_KEYS = frozenset({"SpecificCharacterSet", "QueryRetrieveLevel", "TimezoneOffsetFromUTC"})
_GROUP_LENGTH = 0x0000


@dataclass(frozen=True)
class Key:
    """An attribute that is asked for; values that it must match, if there are any."""

    keyword: str
    vr: str
    values: tuple[str, ...]

    def matches(self, held: tuple[str, ...]) -> bool:
        return matches(self.vr, self.values, held)

    @property
    def is_universal(self) -> bool:
        return is_universal(self.values)


@dataclass(frozen=True)
class Query:
    """An identifier, read."""

    level: Level
    keys: Mapping[str, Key]
    has_unsupported_keys: bool
    """Keys that we neither match nor return; the answers say so with status 0xFF01."""
    character_sets: tuple[str, ...]
    """(0008,0005), in which the requestor wrote and can certainly read."""

    def values(self, keyword: str) -> tuple[str, ...]:
        """Return what a key must match: empty if it is not there, or is universal."""
        key = self.keys.get(keyword)
        return () if key is None or key.is_universal else key.values


def read_query(identifier: Dataset, sop_class_uid: str) -> Query:
    """Return what an identifier asks for.

    Raises
    ------
    RequestRefused
        If the level is none of the information model's, or the unique key of a level above it has
        not exactly one value (PS3.4 C.4.1.2.1: relational queries are not negotiated).
    """
    level = _level(identifier, sop_class_uid)
    keys: dict[str, Key] = {}
    has_unsupported_keys = False
    for tag in map(BaseTag, list(identifier.keys())):
        keyword = keyword_for_tag(tag)
        if keyword in _NO_KEYS or tag.element == _GROUP_LENGTH:
            continue
        if keyword not in KEYS or KEYS[keyword] > level:
            has_unsupported_keys = True
            continue
        keys[keyword] = Key(keyword, dictionary_VR(keyword), texts_of(identifier, tag))
    character_sets = texts_of(identifier, Tag("SpecificCharacterSet"))
    query = Query(level, keys, has_unsupported_keys, character_sets)
    top = Level.PATIENT if sop_class_uid == PATIENT_ROOT else Level.STUDY
    for above in range(top, level):
        keyword = UNIQUE_KEYS[Level(above)]
        if len(query.values(keyword)) != 1:
            raise RequestRefused(
                f"needs one {keyword} at the level {level.name}",
                status=DimseStatus.IDENTIFIER_DOES_NOT_MATCH,
                keyword=keyword,
            )
    return query


def _level(identifier: Dataset, sop_class_uid: str) -> Level:
    name = text_of(identifier, "QueryRetrieveLevel") or ""
    if name not in Level.__members__ or (name == "PATIENT" and sop_class_uid != PATIENT_ROOT):
        raise RequestRefused(
            "Query/Retrieve Level is missing" if not name else "unknown Query/Retrieve Level",
            status=DimseStatus.IDENTIFIER_DOES_NOT_MATCH,
            keyword="QueryRetrieveLevel",
        )
    return Level[name]
