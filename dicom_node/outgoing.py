"""What of a job goes out: which trees its destinations want, and whether they may be sent."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.uid import SegmentationStorage

from dicom_node.config.settings import Config
from dicom_node.encode.profiles import profiles_of
from dicom_node.encode.seg import SegEncoding
from dicom_node.encode.trees import Wanted
from dicom_node.gate.inspection import Checked, inspect
from dicom_node.inference import Outcome, Wishes
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Job, Result
from dicom_node.store.local import LocalStore
from dicom_node.uid import LABELMAP_SEGMENTATION_STORAGE

_ASKED_FOR = {
    SegEncoding.LABELMAP: LABELMAP_SEGMENTATION_STORAGE,
    SegEncoding.FRACTIONAL: str(SegmentationStorage),
}


class Outgoing:
    """Between what was found and what is delivered."""

    def __init__(self, config: Config, ledger: Ledger, store: LocalStore) -> None:
        self._settings = config.results
        self._peers = config.destinations
        self._profiles = profiles_of(config)
        self._ledger = ledger
        self._store = store

    def wishes(self, job: Job) -> Wishes:
        """Return what the destinations of a job get.

        One that has none may get them later, when a trial ends: it makes what any would want.
        """
        accepting = {
            encoding: self._ledger.acceptances.accepting(sop_class_uid)
            for encoding, sop_class_uid in _ASKED_FOR.items()
        }
        wanted = {
            name: Wanted(profile, frozenset(one for one in accepting if name in accepting[one]))
            for name, profile in self._profiles.items()
            if name in job.destinations or not job.destinations
        }
        return Wishes(wanted, self._settings.disclaimer)

    def rejected(self, job: Job) -> list[Result]:
        """Return what a note has to take back at the job's destinations."""
        told = self.told_of_rejections(job)
        return self._ledger.results.replaced_by(job, told) if told else []

    def told_of_rejections(self, job: Job) -> list[str]:
        """Return which of a job's destinations want a note that takes older results back."""
        return [
            name
            for name in job.destinations
            if name in self._peers and self._peers[name].rejection_note
        ]

    def held_back(self, job: Job, outcome: Outcome, results: Sequence[Result]) -> str:
        """Judge the trees of a job as they lie in the store; return why none of it may be sent.

        None at all, for a report would refer to what does not come. Empty if all may be sent.
        """
        earlier = [*self._ledger.results.earlier_reports(job), *self.rejected(job)]
        checked = [Checked(result, self._store.file(result.path)) for result in results]
        verdicts = inspect(
            checked, outcome.finding, outcome.headers, earlier, self._settings.bytes_max
        )
        if not verdicts:
            return ""
        return f"held back before sending: {' | '.join(one.in_words for one in verdicts)}"
