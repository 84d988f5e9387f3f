"""What of a finding goes out: which trees are wanted of it, and whether they may be sent.

Whoever makes results makes them so: the worker for the destinations of a job, `dicom-node process`
for a person. Each object is saved, read back and judged, and all of them pass or none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydicom.uid import SegmentationStorage

from dicom_node.config.settings import Config
from dicom_node.encode.drafts import Piece
from dicom_node.encode.profiles import profiles_of
from dicom_node.encode.results import Encoded
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


Save = Callable[[str, Iterable[Piece]], int]
"""Writes a file under a name, whole or not at all; returns its size in bytes."""


def saved(encoded: Encoded, job_id: str, path: str, save: Save) -> Result:
    """Save an object; return what the ledger says of it."""
    digest = hashlib.sha256()

    def digested() -> Iterator[Piece]:  # a large SEG is made only once
        for piece in encoded.pieces:
            digest.update(piece)
            yield piece

    size_bytes = save(path, digested())
    return Result(
        sop_instance_uid=encoded.sop_instance_uid,
        sop_class_uid=encoded.sop_class_uid,
        series_instance_uid=encoded.series_instance_uid,
        study_instance_uid=encoded.study_instance_uid,
        transfer_syntax_uid=encoded.transfer_syntax_uid,
        job_id=job_id,
        kind=encoded.kind,
        path=path,
        size_bytes=size_bytes,
        digest=digest.hexdigest(),
        renditions=encoded.renditions,
    )


def held_back(
    outcome: Outcome,
    results: Sequence[Checked],
    bytes_max: int,
    earlier: Sequence[Result] = (),
) -> str:
    """Return what is wrong with saved results, in words; empty if all may go out.

    None may if any may not: a report would refer to what does not come.

    Parameters
    ----------
    results : sequence of Checked
        Every object of every tree of the outcome.
    bytes_max : int
        How large a file may be.
    earlier : sequence of Result
        What they may refer to beside each other and the sources.
    """
    verdicts = inspect(results, outcome.finding, outcome.headers, earlier, bytes_max)
    return " | ".join(one.in_words for one in verdicts)


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

        Empty if all may be sent.
        """
        earlier = [*self._ledger.results.earlier_reports(job), *self.rejected(job)]
        checked = [Checked(result, self._store.file(result.path)) for result in results]
        reason = held_back(outcome, checked, self._settings.bytes_max, earlier)
        return f"held back before sending: {reason}" if reason else ""
