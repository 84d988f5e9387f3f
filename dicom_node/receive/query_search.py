"""The entities that a C-FIND is matched against: from the ledger, and from stored headers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
from pydicom.dataset import Dataset

from dicom_node.errors import DicomNodeError
from dicom_node.headers import attributes_of, reading
from dicom_node.ledger.holdings import HeldSeries, HeldStudy
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Attributes, Instance
from dicom_node.receive.query_keys import HEADER_KEYS, Level, Query
from dicom_node.uid import is_uid

log = structlog.get_logger()

ReadHeader = Callable[[Instance], Dataset]
"""Returns the header of a stored instance; StudyUnusable, StorageError or OSError if it cannot."""

STUDIES_MAX = 5000
"""So many studies a query without Study Instance UIDs looks at, the newest first."""

_PAGE = 100
_HEADERS_REMEMBERED = 256
_KEPT = frozenset(HEADER_KEYS) | {"SpecificCharacterSet"}

Place = tuple[str, str, str]
"""Study, Series and SOP Instance UID: an instance whose header is to be read."""


class Headers:
    """The headers that one query needs, each read once, and only a few remembered."""

    def __init__(self, ledger: Ledger, read_header: ReadHeader) -> None:
        self._ledger = ledger
        self._read_header = read_header
        self._read: OrderedDict[Place, Attributes] = OrderedDict()

    def of(self, place: Place) -> Attributes:
        """Return the attributes of an instance; none if its header cannot be read."""
        if place not in self._read:
            self._read[place] = self._attributes(place)
            if len(self._read) > _HEADERS_REMEMBERED:
                self._read.popitem(last=False)
        return self._read[place]

    def _attributes(self, place: Place) -> Attributes:
        instance = self._ledger.holdings.instance(*place)
        if instance is None:
            return {}
        try:
            with reading("the header"):
                attributes = attributes_of([self._read_header(instance)])
        except (DicomNodeError, OSError) as error:
            reason = error.message if isinstance(error, DicomNodeError) else type(error).__name__
            log.warning("header_unreadable", sop_instance_uid=place[2], reason=reason)
            return {}
        return {keyword: attributes[keyword] for keyword in _KEPT & attributes.keys()}


@dataclass(frozen=True)
class Entity:
    """A patient, study, series or instance that may match."""

    known: Mapping[str, tuple[str, ...]]
    """What the ledger knows of it, by keyword."""
    speaker: Place
    """The instance whose header speaks for it."""
    series_speakers: Sequence[Place]
    """One instance of each series of its study."""
    headers: Headers

    def values(self, keyword: str) -> tuple[str, ...]:
        """Return the values of an attribute; none if it is unknown."""
        if keyword in self.known:
            return self.known[keyword]
        if keyword == "ModalitiesInStudy":
            each = [self.headers.of(place).get("Modality", ()) for place in self.series_speakers]
            return tuple(sorted({modality for values in each for modality in values if modality}))
        return tuple(self.headers.of(self.speaker).get(keyword, ()))

    def matches(self, query: Query) -> bool:
        """Return whether all keys match; the ledger's first, since headers are on disk."""
        keys = [key for key in query.keys.values() if not key.is_universal]
        keys.sort(key=lambda key: key.keyword in HEADER_KEYS)
        return all(key.matches(self.values(key.keyword)) for key in keys)


class Search:
    """Finds what a query asks for.

    Parameters
    ----------
    ae_title : str
        Our own, which stands in every answer as (0008,0054) Retrieve AE Title.
    studies_max : int
        So many studies are looked at where the query names none.
    """

    def __init__(
        self,
        ledger: Ledger,
        read_header: ReadHeader,
        ae_title: str,
        studies_max: int = STUDIES_MAX,
    ) -> None:
        self._ledger = ledger
        self._headers = Headers(ledger, read_header)
        self._studies_max = studies_max
        self._everywhere = {"RetrieveAETitle": (ae_title,), "InstanceAvailability": ("ONLINE",)}
        self.is_cut_off = False
        """Whether there were more studies than were looked at."""

    def entities(self, query: Query) -> Iterator[Entity]:
        """Yield every entity of the query's level that may match, below the one that it names."""
        if query.level is Level.PATIENT:
            yield from self._patients(query)
        elif query.level is Level.STUDY:
            yield from (self._study_entity(study) for study in self._studies(query))
        else:
            for study in self._studies(query):
                entity = self._study_entity(study)
                for series in study.series:
                    if query.level is Level.SERIES:
                        yield self._series_entity(entity, series)
                    elif series.series_instance_uid in query.values("SeriesInstanceUID"):
                        yield from self._instances(entity, series)

    def _patients(self, query: Query) -> Iterator[Entity]:
        """Yield the newest study of each patient that matches, in his place."""
        seen = set()
        for study in self._studies(query):
            entity = self._study_entity(study)
            patient = entity.values("PatientID"), entity.values("IssuerOfPatientID")
            if any(patient[0]) and patient not in seen and entity.matches(query):
                seen.add(patient)
                yield entity

    def _studies(self, query: Query) -> Iterator[HeldStudy]:
        named = query.values("StudyInstanceUID") if query.level > Level.PATIENT else ()
        if named:
            uids = [uid for uid in named if is_uid(uid)]
        else:
            uids = self._ledger.holdings.newest_studies(self._studies_max + 1)
            self.is_cut_off = len(uids) > self._studies_max
            uids = uids[: self._studies_max]
        for first in range(0, len(uids), _PAGE):
            yield from self._ledger.holdings.studies(uids[first : first + _PAGE])

    def _study_entity(self, study: HeldStudy) -> Entity:
        speakers = [_speaker(series) for series in study.series]
        known = self._everywhere | {
            "StudyInstanceUID": (study.study_instance_uid,),
            "SOPClassesInStudy": study.sop_class_uids,
            "NumberOfStudyRelatedSeries": (str(len(study.series)),),
            "NumberOfStudyRelatedInstances": (str(study.instance_count),),
        }
        return Entity(known, speakers[0], speakers, self._headers)

    def _series_entity(self, study: Entity, series: HeldSeries) -> Entity:
        known = {
            **study.known,
            "SeriesInstanceUID": (series.series_instance_uid,),
            "NumberOfSeriesRelatedInstances": (str(series.instance_count),),
        }
        return Entity(known, _speaker(series), study.series_speakers, self._headers)

    def _instances(self, study: Entity, series: HeldSeries) -> Iterator[Entity]:
        of_series = self._series_entity(study, series).known
        place = series.study_instance_uid, series.series_instance_uid
        for instance in self._ledger.studies.instances(*place):
            known = {
                **of_series,
                "SOPInstanceUID": (instance.sop_instance_uid,),
                "SOPClassUID": (instance.sop_class_uid,),
                "AvailableTransferSyntaxUID": (instance.transfer_syntax_uid,),
            }
            speaker = (*place, instance.sop_instance_uid)
            yield Entity(known, speaker, study.series_speakers, self._headers)


def _speaker(series: HeldSeries) -> Place:
    return series.study_instance_uid, series.series_instance_uid, series.first_sop_instance_uid
