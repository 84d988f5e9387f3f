"""What is remembered of a study between two looks, so that a look at rest costs nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from dicom_node.assemble.evidence import SeriesEvidence, is_image
from dicom_node.assemble.pace import longest_silences
from dicom_node.assemble.series import SeriesHeaders
from dicom_node.ledger.arriving import Arrived, StudyEvidence
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Announcement, Attributes
from dicom_node.verdict import Silences

_NOTHING = (-1, -1, 0.0)


class StudyMemory:
    """The parts of the evidence on one study, read again only where something came since.

    Attributes
    ----------
    series : tuple of SeriesEvidence
    announcements : tuple of Announcement
    held_elsewhere : frozenset of str
        Announced instances that are here in another study.
    own : Silences
        The longest silences of the study until now.
    modality : str
        That of most of its images; empty where it is not known.
    """

    def __init__(self) -> None:
        self.series: tuple[SeriesEvidence, ...] = ()
        self.announcements: tuple[Announcement, ...] = ()
        self.held_elsewhere: frozenset[str] = frozenset()
        self.own = Silences()
        self.modality = ""
        self._came: tuple[int, int, float] = _NOTHING
        self._announced: tuple[tuple[str, float], ...] = ()
        self._arrived: list[Arrived] = []
        self._headers: dict[str, SeriesHeaders] = {}
        self._headers_known = False

    def refresh(
        self,
        study: StudyEvidence,
        ledger: Ledger,
        headers: Callable[[str], Mapping[str, Mapping[str, Attributes]]],
        longest_silence_s: float,
    ) -> None:
        """Read what has changed since the last look."""
        uid = study.study_instance_uid
        came = (study.revision, study.instance_count, study.last_instance_at)
        if came != self._came:
            self._came = came
            self._arrived = ledger.studies.arrived(uid)
            self._headers_known = False
            images = [a.received_at for a in self._arrived if is_image(a.sop_class_uid)]
            self.own = longest_silences(images, study.carriers, longest_silence_s)
        if not self._headers_known:
            self._read_series(headers(uid))
        if study.announced != self._announced:
            self._announced = study.announced
            self.announcements = tuple(ledger.evidence.announced(uid))
        self._look_elsewhere(ledger)

    def _read_series(self, headers: Mapping[str, Mapping[str, Attributes]]) -> None:
        by_series: dict[str, list[Arrived]] = {}
        for instance in self._arrived:
            by_series.setdefault(instance.series_instance_uid, []).append(instance)
        self.series = tuple(
            self._series(uid, of_series, headers.get(uid, {}))
            for uid, of_series in sorted(by_series.items())
        )
        # they are read behind the instances; where none are kept, none will come
        self._headers_known = not headers or all(
            series.facts.known >= len(series.held) for series in self.series
        )
        modalities = Counter[str]()
        for series in self.series:
            if series.has_images:
                modalities[series.facts.modality] += len(series.held)
        self.modality = min(modalities, key=lambda name: (-modalities[name], name), default="")

    def _series(
        self, uid: str, arrived: list[Arrived], headers: Mapping[str, Attributes]
    ) -> SeriesEvidence:
        known = self._headers.setdefault(uid, SeriesHeaders())
        known.update(headers)
        return SeriesEvidence(
            uid,
            frozenset(instance.sop_instance_uid for instance in arrived),
            any(is_image(instance.sop_class_uid) for instance in arrived),
            known.facts(),
        )

    def _look_elsewhere(self, ledger: Ledger) -> None:
        """Find what a step that serves several studies names and another study has."""
        shared = [one for one in self.announcements if len(one.study_instance_uids) > 1]
        if not shared:
            return
        held = frozenset().union(*(series.held for series in self.series), self.held_elsewhere)
        named = {i.sop_instance_uid for one in shared for i in one.instances}
        self.held_elsewhere |= ledger.studies.held(named - held)
