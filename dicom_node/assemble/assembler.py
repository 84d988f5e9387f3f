"""The assemble stage: one turn looks at every study that is still arriving."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from dicom_node.assemble.completeness import judge, policy_of
from dicom_node.assemble.evidence import Evidence
from dicom_node.assemble.memory import StudyMemory
from dicom_node.assemble.pace import pace_of, slowest
from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.arriving import StudyEvidence
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.paces import Lesson
from dicom_node.model import Attributes
from dicom_node.verdict import SenderCount, Verdict

log = structlog.get_logger()

_FLOWING_S = 1.0
"""What came so lately, on an association that is open, is not looked at: reading the headers would
take from the sender what it needs, and no verdict could be acted upon yet."""

Headers = Callable[[str], Mapping[str, Mapping[str, Attributes]]]
"""Returns the headers of a study's instances that are known, by series and SOP Instance UID."""
SenderCounts = Callable[[StudyEvidence], SenderCount | None]
"""Returns what the sender of a study said of it; None if it was not asked."""


def _no_headers(_study_instance_uid: str) -> Mapping[str, Mapping[str, Attributes]]:
    return {}


def _nobody_asked(_study: StudyEvidence) -> SenderCount | None:
    return None


class Assembler:
    """Moves studies from RECEIVING to COMPLETE.

    Parameters
    ----------
    policy : AssembleSettings
        For senders that have none of their own.
    by_ae_title : mapping of AE title to AssembleSettings
        For those that have.
    headers : callable
        Wanted are the attributes `dicom_node.assemble.series.KEYWORDS`.
    sender_counts : callable
        What became of asking the sender.
    """

    def __init__(
        self,
        ledger: Ledger,
        policy: AssembleSettings,
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
        by_ae_title: Mapping[str, AssembleSettings] | None = None,
        headers: Headers = _no_headers,
        sender_counts: SenderCounts = _nobody_asked,
    ) -> None:
        self._ledger = ledger
        self._policy = policy
        self._by_ae_title = by_ae_title or {}
        self._clock = clock
        self._checkpoint = checkpoint
        self._headers = headers
        self._sender_counts = sender_counts
        self._memories: dict[str, StudyMemory] = {}

    def replace_policy(
        self, policy: AssembleSettings, by_ae_title: Mapping[str, AssembleSettings]
    ) -> None:
        """Go by other settings from now on."""
        self._policy, self._by_ae_title = policy, by_ae_title

    def turn(self) -> float | None:
        """Judge every arriving study; return when to look again, None if nothing is arriving."""
        receiving = self._ledger.studies.receiving()
        remembered = self._memories
        self._memories = {
            study.study_instance_uid: remembered.get(study.study_instance_uid) or StudyMemory()
            for study in receiving
        }
        waits = []
        for study in receiving:
            policy, now = self._policy_of(study), self._clock()
            flows_until = study.last_instance_at + min(
                _FLOWING_S, policy.quiet_after_release_s, policy.quiet_otherwise_s
            )
            if study.open_associations and 0 < flows_until - now <= _FLOWING_S:
                waits.append(flows_until)
                continue
            evidence = self._evidence(study, policy)
            now = self._clock()
            verdict = judge(evidence, policy, now)
            if verdict.action is None:
                waits.append(verdict.ask_again_at)
            elif not self._act(evidence, policy, verdict, now):
                waits.append(now)  # an instance came in between
        return min(waits, default=None)

    def _policy_of(self, study: StudyEvidence) -> AssembleSettings:
        titles = {carrier.calling_ae_title for carrier in study.carriers}
        return policy_of([self._by_ae_title.get(title, self._policy) for title in sorted(titles)])

    def _evidence(self, study: StudyEvidence, policy: AssembleSettings) -> Evidence:
        memory = self._memories[study.study_instance_uid]
        memory.refresh(study, self._ledger, self._headers_of, policy.longest_wait_s)
        titles = sorted({carrier.calling_ae_title for carrier in study.carriers})
        learned = [pace_of(self._ledger.paces.of(t, memory.modality)) for t in titles]
        return Evidence(
            study=study,
            series=memory.series,
            announcements=memory.announcements,
            held_elsewhere=memory.held_elsewhere,
            sender_count=self._sender_counts(study),
            pace=slowest(learned),
            own=memory.own,
        )

    def _headers_of(self, study_instance_uid: str) -> Mapping[str, Mapping[str, Attributes]]:
        """Return the headers that can be read; a lost file may not hold up the other studies."""
        try:
            return self._headers(study_instance_uid)
        except OSError as error:
            log.error(
                "headers_not_read", study_instance_uid=study_instance_uid, reason=error.strerror
            )
            return {}

    def _act(
        self, evidence: Evidence, policy: AssembleSettings, verdict: Verdict, now: float
    ) -> bool:
        study = evidence.study
        lessons = []
        if policy.learn_pace and _is_of_one_sender(study):
            memory = self._memories[study.study_instance_uid]
            [title] = {carrier.calling_ae_title for carrier in study.carriers}
            lessons = [Lesson(title, memory.modality, memory.own)]
        if not self._ledger.studies.completed(study, verdict.reason, now, verdict, lessons):
            return False
        self._checkpoint("assemble.completed")
        log.info(
            "study_complete",
            study_instance_uid=study.study_instance_uid,
            revision=study.revision,
            verdict=verdict.certainty,
            action=verdict.action,
            reason=verdict.reason,
        )
        return True


def _is_of_one_sender(study: StudyEvidence) -> bool:
    """Return whether the silences of a study are those of one sender."""
    return len({carrier.calling_ae_title for carrier in study.carriers}) == 1
