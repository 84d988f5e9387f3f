"""How much a sender has of a study: evidence that all of it is here, or is not.

Peers differ. Some return Number of Study Related Instances and its like, if asked; some leave them
empty, and are counted at the levels SERIES and IMAGE. What the study says and the sum of its series
may contradict each other, as in a database that is behind: then the instances are counted, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.errors import DeliveryError
from dicom_node.model import Attributes
from dicom_node.scu.address import Address
from dicom_node.scu.find import Found, Level, Query
from dicom_node.scu.found import count_in, text_in

INSTANCES_MAX = 100_000
"""Of one series or study: who has more is not counted."""


@dataclass(frozen=True)
class SeriesCount:
    """One series at the sender."""

    series_instance_uid: str
    modality: str
    instance_count: int
    is_counted: bool
    """Whether its instances were listed; else the sender gave the number."""


@dataclass(frozen=True)
class SenderCount:
    """What the sender has of a study; zeros where it knows no such study."""

    study_instance_uid: str
    series: tuple[SeriesCount, ...]
    """By Series Instance UID."""
    stated_series_count: int | None
    """(0020,1206) Number of Study Related Series; None where it is not returned."""
    stated_instance_count: int | None
    """(0020,1208) Number of Study Related Instances."""

    @property
    def series_count(self) -> int:
        return len(self.series)

    @property
    def instance_count(self) -> int:
        return sum(series.instance_count for series in self.series)

    @property
    def is_consistent(self) -> bool:
        """Whether what the study says of itself agrees with its series."""
        return self.stated_series_count in (None, self.series_count) and (
            self.stated_instance_count in (None, self.instance_count)
        )


def count_at_sender(address: Address, study_instance_uid: str) -> SenderCount:
    """Ask a sender how many series and instances of a study it has.

    Raises
    ------
    PeerUnreachable
        If there is no association, or it broke.
    PeerRefused
        If the sender answers with a failure, or offers no C-FIND in Study Root.
    DeliveryError
        If its answers cannot be read, or are more than `INSTANCES_MAX`.
    """
    with Query(address) as query:
        return _Counting(query, address, study_instance_uid).count()


class _Counting:
    def __init__(self, query: Query, address: Address, study_instance_uid: str) -> None:
        self._query = query
        self._address = address
        self._study_instance_uid = study_instance_uid

    def count(self) -> SenderCount:
        studies = self._find(
            Level.STUDY, NumberOfStudyRelatedSeries="", NumberOfStudyRelatedInstances=""
        )
        if not studies:
            return SenderCount(self._study_instance_uid, (), None, None)
        matches = self._find(
            Level.SERIES, SeriesInstanceUID="", Modality="", NumberOfSeriesRelatedInstances=""
        )
        by_uid = {text_in(match, "SeriesInstanceUID"): match for match in matches}
        by_uid.pop("", None)
        counted = self._of(studies[0], [self._series(uid, by_uid[uid]) for uid in sorted(by_uid)])
        if counted.is_consistent:
            return counted
        return self._of(studies[0], [self._listed(series) for series in counted.series])

    def _of(self, study: Attributes, series: list[SeriesCount]) -> SenderCount:
        return SenderCount(
            self._study_instance_uid,
            tuple(series),
            count_in(study, "NumberOfStudyRelatedSeries"),
            count_in(study, "NumberOfStudyRelatedInstances"),
        )

    def _series(self, uid: str, match: Attributes) -> SeriesCount:
        stated = count_in(match, "NumberOfSeriesRelatedInstances")
        series = SeriesCount(uid, text_in(match, "Modality"), stated or 0, False)
        return self._listed(series) if stated is None else series

    def _listed(self, series: SeriesCount) -> SeriesCount:
        """Count the instances of a series by listing them, unless that was done."""
        if series.is_counted:
            return series
        matches = self._find(
            Level.IMAGE, SeriesInstanceUID=series.series_instance_uid, SOPInstanceUID=""
        )
        uids = {text_in(match, "SOPInstanceUID") for match in matches} - {""}
        return SeriesCount(series.series_instance_uid, series.modality, len(uids), True)

    def _find(self, level: Level, **keys: str) -> list[Attributes]:
        """Return the matches in the study; a peer that ignores a key is not believed the rest."""
        asked = {"StudyInstanceUID": self._study_instance_uid, **keys}
        found: Found = self._query.find(level, asked, matches_max=INSTANCES_MAX)
        if not found.is_complete:
            raise DeliveryError(
                f"{self._address.called_ae_title} lists more than {INSTANCES_MAX} of a study",
                hint="look at what it answers; its instances are not counted",
            )
        wanted = {keyword: uid for keyword, uid in asked.items() if uid}
        return [
            match
            for match in found.matches
            if all(text_in(match, keyword) in ("", uid) for keyword, uid in wanted.items())
        ]
